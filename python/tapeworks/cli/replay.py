"""`tape replay`: history as it came, merged by receive time, at any speed."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.options import DataOption, ExchangeOption, ProductOption, SourcesOption
from tapeworks.cli.output import note
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError
from tapeworks.views.batches import Batch
from tapeworks.views.follow import Follow
from tapeworks.views.lake import Lake

# Rows that are dictionaries at one time.
ROWS_AT_ONCE = 4_096

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
    JSON = "json"
    RAW = "raw"
    COUNT = "count"


@app.command(epilog=EXAMPLES)
def replay(
    symbols: Annotated[
        list[str] | None, argument(help="Symbols. [default: all]", names="symbols")
    ] = None,
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
    source: SourcesOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    form: Annotated[
        Shape,
        option(
            "--format",
            "-f",
            help="Output format; json is one text a record, as jsonl.",
            shorthand=("--json", "json"),
        ),
    ] = (Shape.JSONL),
    data: DataOption = None,
) -> None:
    """Play history back to standard output, one record a line.

    What retention removed from a tape comes from the lake, as the same records; depth updates as
    they came and connection markers are on tapes only. In JSON lines, times are ISO 8601, exact to
    the nanosecond, and each line names its kind, source, exchange and symbol.
    """
    if speed is not None and speed <= 0:
        raise ConfigError(f"expected a speed above 0, got {speed}")
    if follow and speed is not None:
        raise ConfigError("--speed is for the past, expected it without --follow")
    lake = open_lake(data)
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    chosen = symbols or None
    if follow:
        batches = lake.follow(
            chosen, start, end, kinds=wanted, source=source, exchange=exchange, product=product
        )
        with _ended_by_interrupt(batches):
            count = sum(_write(batch, form, lake) for batch in batches)
    else:
        past = lake.replay(
            chosen,
            start,
            end,
            kinds=wanted,
            speed=speed,
            source=source,
            exchange=exchange,
            product=product,
        )
        count = sum(_write(batch, form, lake) for batch in past)
    note(f"{count:,} records")
    if not count and not follow:
        held = lake.coverage(chosen, start, end, source=source, exchange=exchange, product=product)
        for told in held.notices():
            note(told)


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


def _write(batch: Batch, form: Shape, lake: Lake) -> int:
    """Writes a batch; returns its length."""
    if form is Shape.RAW:
        sys.stdout.buffer.write(memoryview(batch.records))
    elif form in (Shape.JSONL, Shape.JSON):
        for first in range(0, len(batch), ROWS_AT_ONCE):
            for row in batch.slice(first, first + ROWS_AT_ONCE).to_pylist():
                place = {"kind": row.pop("kind"), "source": row["source"]}
                place["exchange"] = lake.exchange(str(row["source"]))
                sys.stdout.write(as_json(place | row) + "\n")
    sys.stdout.flush()
    return len(batch)
