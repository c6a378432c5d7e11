"""Text that came from a venue, made fit for a screen and a log: the one place where that is done.

A venue's words may hold terminal escapes, which move the cursor, set the title or hide text, and
marks that turn the direction of writing. Each such character is shown by its number instead.
Stored data are never changed.
"""

import codecs
import logging
import re
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

# C0 but tab and newline, DEL, C1, marks of direction and surrogates, of which none is visible.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)

# What stands for the few characters of screens where only ASCII can be shown.
_SIMPLER = str.maketrans("●█▁▂▃▄▅▆▇·…", "*#_..--==-~")


def _number(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _json_number(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def printable(text: str) -> str:
    """Returns `text` with a number for every character that acts instead of being shown."""
    return _HIDDEN.sub(_number, text)


def one_line(text: str) -> str:
    """Returns `text` as `printable` does, on one line."""
    return printable(text).replace("\n", "\\n")


def printable_json(text: str) -> str:
    """Returns the same JSON text, with such characters as escapes of JSON."""
    return _HIDDEN.sub(_json_number, text)


def show_all_characters(*files: object) -> None:
    """Makes `files` take every character, also where their encoding has it not (ASCII, Latin-1).

    Signs of screens become simpler ones, all others the escapes of JSON, which keep them exact.
    """
    codecs.register_error("tapeworks", _replace)
    for file in files:
        if isinstance(file, TextIOWrapper) and not file.encoding.lower().startswith("utf"):
            file.reconfigure(errors="tapeworks")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = error.object[error.start : error.end].translate(_SIMPLER)
    units = shown.encode("utf-16-be", "surrogatepass")
    pairs = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    text = "".join(chr(unit) if unit < 0x80 else f"\\u{unit:04x}" for unit in pairs)
    return text, error.end


class PrintableFormatter(logging.Formatter):
    """Formats log records so that no message can act on a terminal or pretend to be two lines."""

    def formatTime(  # noqa: N802
        self,
        record: logging.LogRecord,
        datefmt: str | None = None,
    ) -> str:
        """Formats the time as all others are, in UTC."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return moment.replace("+00:00", "Z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Formats the line of a record."""
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Formats a traceback, whose last lines may quote what came."""
        return printable(super().formatException(ei))
