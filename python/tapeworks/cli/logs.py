"""`tape logs`: what the workers of a data folder said, and say."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.options import DataOption, data_folder
from tapeworks.config import redact
from tapeworks.errors import ConfigError, QueryError
from tapeworks.printable import printable

LOOK_S = 0.2
# Date and time, by which lines of several workers are put in order; of earlier versions, too.
STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d{3}")

app = Application()

EXAMPLES = """\
Examples:
  tape logs
  tape logs -f
  tape logs recorder-binance-spot -n 100
  tape logs sink                          # all whose names begin with it

Times are UTC. The files are in `log/` of the data folder; each is rotated at `log_bytes_max` of
[supervisor].
"""


@app.command(epilog=EXAMPLES)
def logs(
    name: Annotated[str, argument(help="A worker's name, or how it begins.")] = "",
    follow: Annotated[
        bool, option("--follow", "-f", help="Keep printing new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, option("--lines", "-n", least=0, help="How many last lines of each log.")
    ] = 20,
    data: DataOption = None,
) -> None:
    """Show the last lines of the workers' logs in time order."""
    folder = data_folder(data) / "log"
    paths = _chosen(folder, name)
    width = max(len(path.stem) for path in paths)
    tails = [_Tail(path) for path in paths]
    found = [
        (stamp, at, number, line)
        for at, tail in enumerate(tails)
        for number, (stamp, line) in enumerate(_stamped(tail.last(lines)))
    ]
    for _, at, _, line in sorted(found):
        _print(tails[at].name, width if len(tails) > 1 else 0, line)
    # Ctrl-C is how one leaves this.
    with contextlib.suppress(KeyboardInterrupt):
        while follow:
            for tail in tails:
                for line in tail.new():
                    _print(tail.name, width if len(tails) > 1 else 0, line)
            time.sleep(LOOK_S)


def _chosen(folder: Path, name: str) -> list[Path]:
    paths = sorted(folder.glob("*.log")) if folder.is_dir() else []
    if not paths:
        raise QueryError(f"expected logs in {folder}, got none: nothing has run there yet")
    exact = [path for path in paths if path.stem == name]
    chosen = exact or [path for path in paths if path.stem.startswith(name)]
    if not chosen:
        known = ", ".join(path.stem for path in paths)
        raise ConfigError(f"expected a worker of {known}, got {name!r}")
    return chosen


class _Tail:
    """The end of one log file, which may be closed and begun anew while we look."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def last(self, count: int) -> list[str]:
        """Returns the last lines, those of the closed file included."""
        found: list[bytes] = []
        with contextlib.suppress(OSError):
            found += self._path.with_suffix(".log.1").read_bytes().splitlines()[-count:]
        self._file = self._path.open("rb")
        found += self._file.read().splitlines()
        return [_text(line) for line in found[len(found) - min(count, len(found)) :]]

    def new(self) -> list[str]:
        """Returns the lines that have come since the last call."""
        assert self._file is not None
        self._rest += self._file.read()
        if self._is_replaced():
            self._rest += self._file.read()
            self._file.close()
            self._file = self._path.open("rb")
            self._rest += self._file.read()
        *whole, self._rest = self._rest.split(b"\n")
        return [_text(line) for line in whole]

    def _is_replaced(self) -> bool:
        assert self._file is not None
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        held = os.fstat(self._file.fileno())
        if held.st_size < self._file.tell():
            self._file.seek(0)
        return not os.path.samestat(now, held)


def _stamped(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yields each line with its time; one without, as in a traceback, has that before it."""
    stamp = ""
    for line in lines:
        match = STAMP.match(line)
        stamp = match.group().replace(" ", "T").replace(",", ".") if match else stamp
        yield stamp, line


def _text(line: bytes) -> str:
    return redact(printable(line.decode("utf-8", "replace")))


def _print(name: str, width: int, line: str) -> None:
    # Through a pipe, too, a line is there when it is told.
    print(f"{name:<{width}}  {line}" if width else line, flush=True)
