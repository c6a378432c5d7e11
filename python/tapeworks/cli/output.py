"""How commands print: tables for people, JSON, CSV and JSON lines for programs.

Nothing here loads rich: what answers a question must not wait for it (`console.py` does).
"""

import contextlib
import csv
import errno
import importlib
import json
import os
import secrets
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import IO

import pyarrow as pa

from tapeworks.cli.command import complain
from tapeworks.durable import sync_folder
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.printable import one_line, printable, printable_json
from tapeworks.views.result import text_columns

TABLE_ROWS_MAX = 10_000
NUMBERS = (int, float, Decimal)

# What is piped into a file or another program has no width of its own.
PIPE_COLUMNS = 160

# Loaded when a Parquet file is asked for.
PARQUET = "pyarrow.parquet"
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
# No file can be written there: another path would do.
WRONG_PATH = (
    errno.ENOENT,
    errno.EACCES,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EROFS,
)


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


def width() -> int:
    """Returns how many columns standard output has."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS


def note(told: str) -> None:
    """Says something beside the answer, on standard error."""
    complain(printable(told), "yellow")


def plain(value: object) -> object:
    """Makes `value` fit for JSON: exact decimals as text, times as ISO 8601 in UTC."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return _bytes_as_text(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def _bytes_as_text(value: bytes) -> str:
    r"""Returns the text that bytes are, or `\x` and their digits, from which they can be had again.

    Text that begins with `\x` itself is written by its digits as well.
    """
    with contextlib.suppress(UnicodeDecodeError):
        if not (decoded := value.decode()).startswith("\\x"):
            return decoded
    return "\\x" + value.hex()


def as_json(value: object) -> str:
    """Returns `value` as one JSON text."""
    return printable_json(json.dumps(plain(value), ensure_ascii=False))


def write_result(table: pa.Table, form: Format, output: Path | None) -> None:
    """Writes `table` to a file, or to standard output.

    Raises:
        ConfigError: Parquet is not for a screen, or no file can be written at that path.
        TapeworksError: writing failed, such as on a full disk.
    """
    if output is None or is_standard_output(output):
        if form is not Format.PARQUET:
            # A file or a program gets the data as they are, a terminal what it can show.
            _write(table, form, _Terminal(sys.stdout) if sys.stdout.isatty() else sys.stdout)
        elif output is None or sys.stdout.isatty():
            raise ConfigError(f"expected a file for Parquet: --output FILE, got {output or 'none'}")
        else:
            whole = pa.BufferOutputStream()
            importlib.import_module(PARQUET).write_table(table, whole, compression="zstd")
            sys.stdout.buffer.write(whole.getvalue())
        return
    with written(output) as path:
        if form is Format.PARQUET:
            importlib.import_module(PARQUET).write_table(table, path, compression="zstd")
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                _write(table, form, file)


def is_standard_output(output: Path) -> bool:
    """Whether `output` is where we print anyhow: a pipe, or a file that others write to, too."""
    return str(output) in STANDARD_OUTPUT


@contextlib.contextmanager
def written(output: Path) -> Iterator[Path]:
    """Yields the path to write to, for a file that is there as a whole or not at all.

    Raises:
        ConfigError: no file can be written at that path.
        TapeworksError: writing failed, such as on a full disk.
    """
    try:
        with _in_one_step(output) as path:
            yield path
    except OSError as error:
        kept = "; the file that was there is as it was" if os.path.isfile(output) else ""
        told = f"cannot write {output}: {_advice(output, error)}{kept}"
        raise (ConfigError if error.errno in WRONG_PATH else TapeworksError)(told) from None


def _advice(output: Path, error: OSError) -> str:
    """Returns what is wrong, and what to do where it is the path."""
    folder = Path(os.path.realpath(output)).parent
    if error.errno == errno.ENOENT and not folder.is_dir():
        return f"the folder {output.parent} is not there: make it first"
    if error.errno == errno.EACCES and os.path.isfile(output) and not os.access(output, os.W_OK):
        return "it is read-only: make it writable, or name another file"
    if error.errno == errno.EACCES and not os.access(folder, os.W_OK | os.X_OK):
        return (
            f"no right to make files in the folder {output.parent}, where it is made aside first: "
            "make that writable, or name a file elsewhere"
        )
    return error.strerror or str(error)


@contextlib.contextmanager
def _in_one_step(output: Path) -> Iterator[Path]:
    """Yields the path to write to: at `output` is nothing of it before all of it is there."""
    is_there = os.path.exists(output)
    if is_there and not os.path.isfile(output):
        # A pipe or a device; that of a process, as `>(gzip)` gives it, has no path but this one.
        yield output
        return
    target = Path(os.path.realpath(output))
    mode = None
    if is_there:
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(output))
        mode = stat.S_IMODE(target.stat().st_mode)
    # A short name: that of the target may be as long as a name can be.
    aside = target.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.part")
    with _removed_at_the_end(aside):
        # Nobody may read it who may not read the target, at no moment.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(aside, flags, 0o666 if mode is None else mode & 0o777)
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            yield aside
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(target)
        sync_folder(target.parent)


@contextlib.contextmanager
def _removed_at_the_end(aside: Path) -> Iterator[None]:
    """Removes `aside` if it is still there at the end, also where SIGTERM is that end."""

    def end(number: int, frame: FrameType | None) -> None:
        aside.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    is_ours = threading.current_thread() is threading.main_thread()
    is_ours = is_ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        aside.unlink(missing_ok=True)
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Terminal:
    """Standard output where it is a terminal."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Writes `text` so that it is shown, and does not act."""
        return self._file.write(printable(text))


def _write(table: pa.Table, form: Format, file: "IO[str] | _Terminal") -> None:
    columns = [name for name, _ in text_columns(table.slice(0, 0))]
    if form is Format.TABLE:
        file.write(as_table(columns, list(_rows(table.slice(0, TABLE_ROWS_MAX)))))
        if table.num_rows > TABLE_ROWS_MAX:
            note(f"the first {TABLE_ROWS_MAX:,} of {table.num_rows:,} rows; --format csv has all")
    elif form is Format.CSV:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in _rows(table))
    elif form is Format.JSONL:
        for row in _rows(table):
            file.write(as_json(dict(zip(columns, row, strict=True))) + "\n")
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in _rows(table)]
        file.write(as_json(rows) + "\n")


def _cell(value: object) -> object:
    """Makes `value` fit for CSV, which has no lists: they are JSON, with decimals as numbers."""
    if isinstance(value, list) and all(one is None or isinstance(one, Decimal) for one in value):
        return f"[{', '.join('null' if one is None else format(one, 'f') for one in value)}]"
    if isinstance(value, list | tuple | Mapping):
        return as_json(value)
    return plain(value)


def as_table(columns: list[str], rows: list[tuple[object, ...]]) -> str:
    """Writes rows below each other; each as a block of its own where they are too wide."""
    cells = [[text(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(columns)]
    if sum(widths) + 2 * len(widths) <= width():
        right = [
            all(value is None or isinstance(value, NUMBERS) for value in column)
            for column in (zip(*rows, strict=True) if rows else [() for _ in columns])
        ]
        lines = [_line(columns, widths, right), *(_line(row, widths, right) for row in cells)]
        return "\n".join(lines) + "\n"
    label = max(len(name) for name in columns)
    blocks = [
        "\n".join(f"{name:<{label}}  {cell}" for name, cell in zip(columns, row, strict=True))
        for row in cells
    ]
    return "\n\n".join(blocks) + "\n"


def _line(cells: Sequence[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _rows(table: pa.Table) -> Iterator[tuple[object, ...]]:
    for batch in table.to_batches():
        yield from zip(*(column for _, column in text_columns(batch)), strict=True)


def text(value: object) -> str:
    """Returns `value` as a person reads it in a table; nothing for an absent value."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00")
    if isinstance(value, Decimal):
        digits = format(value, "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return one_line(str(plain(value)))


def amount(value: float) -> str:
    """Returns a count with a unit: 1234567 is `1.23 M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.2f} {unit}"
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Returns a number of bytes with a unit."""
    for limit, unit in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f} B"
