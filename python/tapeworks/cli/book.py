"""`tape book`: the full order book of a symbol, now or at any past instant."""

from decimal import Decimal
from typing import Annotated

import pyarrow as pa
from rich.table import Table

from tapeworks.cli.cells import text
from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.console import console
from tapeworks.cli.formats import Format, FormatOption, OutputOption, format_of
from tapeworks.cli.options import DataOption, ExchangeOption, ProductOption, SourceOption
from tapeworks.cli.output import note, write_json, write_result
from tapeworks.cli.reading import open_lake
from tapeworks.views.books import BookAt
from tapeworks.views.lake import Lake
from tapeworks.views.past_books import Clock
from tapeworks.views.times import format_time

BAR_COLUMNS = 24

app = Application()

EXAMPLES = """\
Examples:
  tape book BTCUSDT
  tape book BTCUSDT --last      # where it is not verified: the last one that was
  tape book BTCUSDT --at "2026-11-20 14:03:07.123" --levels 20
  tape book BTCUSDT --product perpetual     # where it is traded on spot, too
  tape book BTCUSDT --at 2026-11-20T14:03:07Z --format csv -n 0    # all levels
  tape book AAPL --orders --format csv      # every open order and its place in the queue
"""


@app.command(epilog=EXAMPLES)
def book(
    symbol: Annotated[str, argument(help="The symbol, such as BTCUSDT.", names="symbols")],
    at: Annotated[str | None, option("--at", help="A past instant, UTC. [default: now]")] = (None),
    levels: Annotated[
        int, option("--levels", "-n", least=0, help="Levels per side; 0 shows all.")
    ] = 10,
    source: SourceOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    receipt: Annotated[
        bool, option("--receipt", help="--at is a receive time, not the venue's event time.")
    ] = False,
    last: Annotated[
        bool,
        option("--last", help="The last verified book up to then, if there is none then."),
    ] = False,
    orders: Annotated[
        bool, option("--orders", help="Made of single orders; other formats list each of them.")
    ] = False,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """Show the verified book of a symbol: all updates up to that instant, and none after it.

    What retention removed from the tape is rebuilt from the lake, to the same levels.
    """
    form = format_of(form, output)
    clock: Clock = "receipt" if receipt else "event"
    lake = open_lake(data)
    if orders:
        single = lake.book(
            symbol,
            at,
            depth="orders",
            source=source,
            exchange=exchange,
            product=product,
            clock=clock,
        )
        if form is not Format.TABLE or output is not None:
            if single.notice is not None:
                note(single.notice)
            write_result(single.orders_to_arrow(), form, output)
            return
        found: BookAt = single
    else:
        found = lake.book(
            symbol, at, source=source, exchange=exchange, product=product, clock=clock, last=last
        )
    if found.notice is not None:
        note(found.notice)
    levels = levels or len(found.native)
    if form is Format.TABLE and output is None:
        _show(found, levels, units_of(lake, found))
    elif form is Format.JSON:
        bids, asks = found.top(levels)
        document = {**_facts(found), "bids": bids, "asks": asks}
        write_json(document, output, f"{len(bids) + len(asks):,} levels")
    else:
        rows, count = found.to_arrow(), len(found.bids)
        sides = rows.slice(0, min(levels, count)), rows.slice(count, levels)
        write_result(pa.concat_tables(sides), form, output)


def _facts(found: BookAt) -> dict[str, object]:
    return {
        "symbol": found.symbol,
        "source": found.source,
        "origin": found.origin,
        "update": found.sequence,
        "ts_event": None if found.ts_event is None else format_time(found.ts_event),
        "ts_recv": None if found.ts_recv is None else format_time(found.ts_recv),
        "notice": found.notice,
    }


def units_of(lake: Lake, found: BookAt) -> tuple[str, str]:
    """Returns what prices and what sizes of the book are in; empty where it is not known."""
    for row in lake.instruments(source=found.source):
        if row["symbol"] == found.symbol:
            base = str(row["canonical"] or "").split("-")[0]
            return str(row["currency"] or ""), base
    return "", ""


def _show(found: BookAt, levels: int, units: tuple[str, str]) -> None:
    bids, asks = found.top(levels)
    facts = _facts(found)
    console.print(
        f"[bold]{found.symbol}[/] of {found.source}, {len(found.native):,} levels, from the "
        f"{found.origin}\n"
        f"last update {found.sequence} at {facts['ts_event']} by the venue's clock, "
        f"received {facts['ts_recv']}",
        soft_wrap=True,
    )
    most = max((size for _, size in bids + asks), default=Decimal(1))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name, unit in zip(("price", "size"), units, strict=True):
        table.add_column(f"{name} {unit}".rstrip(), justify="right")
    table.add_column("")
    for side, color, rows in (("ask", "red", asks[::-1]), ("bid", "green", bids)):
        for price, size in rows:
            bar = "█" * max(1, round(BAR_COLUMNS * float(size / most)))
            table.add_row(f"[{color}]{side}[/]", text(price), text(size), f"[{color}]{bar}[/]")
    console.print(table)
    spread, middle = found.spread, found.mid
    if spread is not None and middle:
        amount = f"{text(spread)} {units[0]}".rstrip()
        console.print(f"spread {amount} ({spread / middle * 10_000:.3g} basis points)")
