"""How commands print: tables for people, JSON, CSV and JSON lines for programs.

Nothing here loads rich: what answers a question must not wait for it (`console.py` does).
"""

import contextlib
import csv
import errno
import importlib
import os
import secrets
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import pyarrow as pa

from tapeworks.cli.cells import as_json, csv_cell
from tapeworks.cli.command import complain
from tapeworks.cli.formats import Format, format_of, is_standard_output
from tapeworks.cli.tables import as_table
from tapeworks.durable import sync_folder
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.printable import printable
from tapeworks.views.picture import count_text
from tapeworks.views.result import text_columns

TABLE_ROWS_MAX = 10_000
ROWS_AT_ONCE = 4_096

# Loaded when a Parquet file is asked for.
PARQUET = "pyarrow.parquet"
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


def note(told: str) -> None:
    """Says something beside the answer, on standard error, behind what was printed of it."""
    sys.stdout.flush()
    complain(printable(told), "yellow")


def write_result(table: pa.Table, form: Format | None, output: Path | None, what: str = "") -> None:
    """Writes `table` to a file, or to standard output; without `form`, as the file is named.

    Of a file it says how many rows, of `what`, are in it.

    Raises:
        ConfigError: Parquet is not for a screen, or no file can be written at that path.
        TapeworksError: writing failed, such as on a full disk.
    """
    form = format_of(form, output)
    if output is None or is_standard_output(output):
        if form is not Format.PARQUET:
            # A file or a program gets the data as they are, a terminal what it can show.
            file = _Terminal(sys.stdout) if sys.stdout.isatty() else sys.stdout
            if cut := write_rows(table, form, file, screen_size()):
                note(f"{cut}; --format csv has all")
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
                if cut := write_rows(table, form, file, None):
                    note(f"{cut}; --format csv has all")
    _say_written(f"{count_text(table.num_rows)}{what and f' of {what}'}", output)


def write_json(document: object, output: Path | None, what: str) -> None:
    """Writes one JSON document to a file, of which it says that `what` is in it, or prints it.

    Raises:
        ConfigError: no file can be written at that path.
        TapeworksError: writing failed, such as on a full disk.
    """
    shown = as_json(document) + "\n"
    if output is None or is_standard_output(output):
        sys.stdout.write(shown)
        return
    with written(output) as path:
        path.write_text(shown, encoding="utf-8")
    _say_written(what, output)


def _say_written(what: str, output: Path) -> None:
    # Whoever reads a pipe has an eye on it already, and a device keeps nothing.
    if output.is_file():
        note(f"{what} in {output}")


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


def write_table(columns: list[str], rows: list[tuple[object, ...]]) -> None:
    """Writes rows to standard output as a table that fits a terminal, and says what it cut."""
    shown = as_table(columns, rows, screen_size())
    sys.stdout.write(printable(shown.text) if sys.stdout.isatty() else shown.text)
    if shown.cut:
        note(f"{shown.cut}; --format csv has all")


def screen_size() -> os.terminal_size | None:
    """Returns the size of the terminal that standard output is; none if it is something else."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else None


def write_rows(
    table: pa.Table, form: Format, file: "IO[str] | _Terminal", screen: os.terminal_size | None
) -> str:
    """Writes `table` as text, as a table one that fits `screen`; returns what was cut, in words."""
    columns = [name for name, _ in text_columns(table.slice(0, 0))]
    words = []
    if form is Format.TABLE:
        shown = as_table(columns, list(_rows(table.slice(0, TABLE_ROWS_MAX))), screen)
        file.write(shown.text)
        words = [shown.cut] if shown.cut else []
        if table.num_rows > TABLE_ROWS_MAX:
            words.append(f"the first {TABLE_ROWS_MAX:,} of {table.num_rows:,} rows")
    elif form is Format.CSV:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([csv_cell(value) for value in row] for row in _rows(table))
    elif form is Format.JSONL:
        for row in _rows(table):
            file.write(as_json(dict(zip(columns, row, strict=True))) + "\n")
    else:
        between = "["
        for row in _rows(table):
            file.write(between + as_json(dict(zip(columns, row, strict=True))))
            between = ", "
        file.write("]\n" if table.num_rows else "[]\n")
    return "; ".join(words)


def _rows(table: pa.Table) -> Iterator[tuple[object, ...]]:
    # As Python has them, rows take a hundred times the room: few at one time.
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from zip(*(column for _, column in text_columns(batch)), strict=True)


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
