"""`tape replay`: history as it came, merged by receive time, at any speed."""

import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated

from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.options import DataOption, ExchangeOption, ProductOption, SourcesOption
from tapeworks.cli.output import note
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError
from tapeworks.views.batches import ROWS_AT_ONCE, Batch
from tapeworks.views.follow import Follow
from tapeworks.views.lake import Lake

app = Application()

EXAMPLES = """\
Examples:
  tape replay BTCUSDT --from 2026-11-20T14:00 --to 2026-11-20T15:00 --speed 10
  tape replay BTCUSDT ETHUSDT --kinds trades,depth --format jsonl | head
  tape replay --format raw > records.bin     # the records themselves, 64 bytes and more each
  tape replay BTCUSDT --follow               # what is recorded from now on, until Ctrl-C
"""


class ReplayFormat(StrEnum):
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
        ReplayFormat,
        option(
            "--format",
            "-f",
            help="Output format; jsonl is one text a record, json one list of them.",
            shorthand=("--json", "json"),
        ),
    ] = (ReplayFormat.JSONL),
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
        with ended_by_interrupt(batches):
            count = _write_all(batches, form, lake)
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
        count = _write_all(past, form, lake)
    note(f"{count:,} records")
    if not count and not follow:
        held = lake.coverage(chosen, start, end, source=source, exchange=exchange, product=product)
        for told in held.notices():
            note(told)


@contextlib.contextmanager
def ended_by_interrupt(follow: Follow) -> Iterator[None]:
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


def _write_all(batches: Iterable[Batch], form: ReplayFormat, lake: Lake) -> int:
    """Writes all batches, each as soon as it is there; returns the number of their records."""
    is_list, count = form is ReplayFormat.JSON, 0
    for batch in batches:
        if form is ReplayFormat.RAW:
            sys.stdout.buffer.write(memoryview(batch.records))
        elif form is not ReplayFormat.COUNT:
            for at, line in enumerate(_lines(batch, lake), start=count):
                before = ",\n" if at else "[\n"
                sys.stdout.write(f"{before}{line}" if is_list else f"{line}\n")
        sys.stdout.flush()
        count += len(batch)
    if is_list:
        sys.stdout.write("\n]\n" if count else "[]\n")
    return count


def _lines(batch: Batch, lake: Lake) -> Iterator[str]:
    """Yields each record as one JSON text."""
    for first in range(0, len(batch), ROWS_AT_ONCE):
        for row in batch.slice(first, first + ROWS_AT_ONCE).to_pylist():
            place = {"kind": row.pop("kind"), "source": row["source"]}
            place["exchange"] = lake.exchange(str(row["source"]))
            yield as_json(place | row)
