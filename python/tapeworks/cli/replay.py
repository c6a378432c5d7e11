"""`tape replay`: history as it came, merged by receive time, at any speed."""

import contextlib
import heapq
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import pyarrow as pa

from tapeworks._core import Records, numbers
from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.options import DataOption
from tapeworks.cli.output import as_json, note
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError
from tapeworks.time_columns import REST, is_split_time
from tapeworks.views.follow import Follow
from tapeworks.views.lake import Lake
from tapeworks.views.stream import newest_id

# Records of one time are shown in this order of their kinds.
FIRST = ("definition", "trade", "quote", "level", "mark", "bar", "tick", "marker")
KINDS = tuple(dict.fromkeys((*FIRST, *numbers("kind"))))
HIDDEN = {"length", "reserved", "conditions"}

app = Application()

EXAMPLES = """\
Examples:
  tape replay BTCUSDT --from 2026-11-20T14:00 --to 2026-11-20T15:00 --speed 10
  tape replay BTCUSDT ETHUSDT --kinds trades,depth --format jsonl | head
  tape replay --format raw > records.bin     # the records themselves, 64 bytes and more each
  tape replay BTCUSDT --follow               # what is recorded from now on, until Ctrl-C
"""


class Shape(StrEnum):
    """Output format."""

    JSONL = "jsonl"
    RAW = "raw"
    COUNT = "count"


@app.command(epilog=EXAMPLES)
def replay(
    symbols: Annotated[list[str] | None, argument(help="Symbols. [default: all]")] = None,
    kinds: Annotated[
        str, option(help="trades, quotes, depth, marks, book_levels, bars, ticks, gaps ...")
    ] = "trades,quotes",
    start: Annotated[str | None, option("--from", help="Start of receipt, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of receipt, UTC.")] = None,
    speed: Annotated[
        float | None, option(help="1 is the original pace. [default: as fast as possible]")
    ] = None,
    follow: Annotated[
        bool, option("--follow", help="Go on until Ctrl-C, from --from or from now.")
    ] = False,
    source: Annotated[str | None, option(help="Only this source.")] = None,
    form: Annotated[Shape, option("--format", "-f", help="Output format.")] = (Shape.JSONL),
    data: DataOption = None,
) -> None:
    """Play history back to standard output, one record a line.

    What retention removed from a tape comes from the lake, as the same records; depth updates as
    they came and connection markers are on tapes only. In JSON lines, times are ns since 1970.
    """
    if speed is not None and speed <= 0:
        raise ConfigError(f"expected a speed above 0, got {speed}")
    if follow and speed is not None:
        raise ConfigError("--speed is for the past, expected it without --follow")
    lake = open_lake(data)
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    chosen = symbols or None
    names = symbol_names(lake, source)
    if follow:
        batches = lake.follow(chosen, start, end, kinds=wanted, source=source)
        with _ended_by_interrupt(batches):
            count = sum(_write(batch, form, names, lake, source) for batch in batches)
    else:
        past = lake.replay(chosen, wanted, start, end, speed=speed, source=source)
        count = sum(_write(batch, form, names, lake, source) for batch in past)
    note(f"{count:,} records")


@contextlib.contextmanager
def _ended_by_interrupt(follow: Follow) -> Iterator[None]:
    """Lets Ctrl-C, which is how it ends, come after a whole batch; a second one does not wait."""
    before = signal.getsignal(signal.SIGINT)

    def close(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        follow.close()

    signal.signal(signal.SIGINT, close)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _write(
    batch: Records,
    form: Shape,
    names: dict[tuple[Any, Any], object],
    lake: Lake,
    source: str | None,
) -> int:
    """Writes a batch; an instrument that was defined since is looked up. Returns its length."""
    if form is Shape.RAW:
        sys.stdout.buffer.write(memoryview(batch))
    elif form is Shape.JSONL:
        if newest_id(batch) > max((number for _, number in names), default=0):
            names |= symbol_names(lake, source)
        for row in rows(batch, names):
            sys.stdout.write(as_json(row) + "\n")
    sys.stdout.flush()
    return len(batch)


def symbol_names(lake: Lake, source: str | None) -> dict[tuple[Any, Any], object]:
    """Returns the symbol of each feed and instrument id."""
    found = lake.sql("select feed, instrument, symbol, venue from instruments").to_pylist()
    return {
        (row["feed"], row["instrument"]): row["symbol"]
        for row in found
        if source in (None, row["venue"])
    }


def rows(batch: Records, names: dict[tuple[Any, Any], object]) -> Iterator[dict[str, Any]]:
    """Yields the records of `batch` as dictionaries, by receive time."""
    streams = [_rows_of(batch, kind, names) for kind in KINDS]
    yield from heapq.merge(*streams, key=lambda row: int(row["ts_recv"]))


def _rows_of(
    batch: Records, kind: str, names: dict[tuple[Any, Any], object]
) -> Iterator[dict[str, Any]]:
    columns = pa.record_batch(batch.arrow(kind))
    schema = columns.schema
    times = [name for name in schema.names if is_split_time(schema, name)]
    for name in times:
        # As ns since the epoch: that is what a program wants, and it is exact.
        index = columns.schema.get_field_index(name)
        columns = columns.set_column(index, name, columns.column(name).cast(pa.int64()))
    for row in columns.to_pylist():
        symbol = names.get((row.pop("feed", None), row.pop("instrument", None)))
        for name in times:
            rest = row.pop(name + REST)
            row[name] = None if rest is None else row[name] * 1_000 + rest
        kept = {key: value for key, value in row.items() if key not in HIDDEN}
        yield {"kind": kind, **({"symbol": symbol} if symbol else {}), **kept}
