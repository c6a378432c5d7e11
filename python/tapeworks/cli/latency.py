"""`tape latency`: how long records take on their way, live and on tapes of the past."""

from typing import Annotated

import pyarrow as pa

from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.formats import Format, FormatOption, OutputOption, format_of
from tapeworks.cli.options import (
    DataOption,
    ExchangeOption,
    ProductOption,
    SourceOption,
    recorded,
)
from tapeworks.cli.output import write_result
from tapeworks.cli.reading import conditions_of, open_lake
from tapeworks.stage_times import worker_times
from tapeworks.tape import taped_sources
from tapeworks.views.lake import Lake

EXAMPLES = """\
Examples:
  tape latency
  tape latency --source binance-spot --json
  tape latency --past
  tape latency BTCUSDT --past --from 2026-11-20T14:00 --to 2026-11-20T15:00
"""

app = Application()

TABLES = ("trades", "quotes", "orders", "marks")
NS_PER_US = 1_000
# Flags of what was asked for later, and of what has no time of the venue's.
NOT_TIMED = 4 | 128


@app.command(epilog=EXAMPLES)
def latency(
    symbol: Annotated[
        str | None, argument(help="Only this symbol, with --past.", names="symbols")
    ] = None,
    past: Annotated[
        bool, option("--past", help="From the venue's time to the receipt, of what is recorded.")
    ] = False,
    start: Annotated[str | None, option("--from", help="Start of event time, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of event time, UTC.")] = None,
    source: SourceOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """Show how long records took: to each stage since its worker started, or with --past on tape.

    Stages in the order of the flow: receive is from the venue's time to the receipt; all others are
    from the receipt: to the raw tape (publish), the normalized one, books, metrics, and each store
    (sink). `recent` is the last second. Times are in microseconds; where clocks
    differ, receive holds the difference.
    """
    form = format_of(form, output)
    if past or symbol or start or end or product:
        lake = open_lake(data)
        conditions = conditions_of(lake, symbol, start, end, source, exchange, product)
        write_result(_past(lake, conditions), form, output)
        return
    folder, wanted = recorded(data), None
    if source or exchange:
        wanted = open_lake(data)._instruments.sources(source, exchange)
    rows = [
        {
            "source": name,
            "stage": stage,
            "store": worker.removeprefix("sink-") if stage == "sink" else "",
            "records": times.total.count,
            **{
                # Of no records there is no time: 0 would be the fastest of all.
                f"{one}_us": times.total.quantile(one) / NS_PER_US if times.total.count else None
                for one in ("p50", "p99", "max")
            },
            "recent": times.recent.count,
            "recent_p99_us": times.recent.p99 / NS_PER_US,
        }
        for name in taped_sources(folder)
        if wanted is None or name in wanted
        for stage, worker, times in worker_times(folder, name)
    ]
    if rows or form is not Format.TABLE or output is not None:
        columns = ("source", "stage", "store", "records", "p50_us", "p99_us", "max_us")
        names = [*columns, "recent", "recent_p99_us"]
        table = pa.table({name: [row[name] for row in rows] for name in names})
        write_result(table, form, output)
    else:
        print("nothing runs here; `tape latency --past` shows what is recorded")


def _past(lake: Lake, chosen: list[str]) -> pa.Table:
    conditions = ["ts_event is not null", f"(flags & {NOT_TIMED}) = 0", *chosen]
    known = set(lake.sql("show tables").to_arrow()["name"].to_pylist())
    parts = [
        f"select venue, symbol, '{table}' as what, "
        f"(epoch_ns(ts_recv) - epoch_ns(ts_event)) / 1e3 as us from {table} "
        f"where {' and '.join(conditions)}"
        for table in TABLES
        if table in known
    ]
    return lake.sql(
        "select venue as source, symbol, what, count(*) as records, "
        "quantile_disc(us, 0.5) as p50_us, quantile_disc(us, 0.99) as p99_us, max(us) as max_us "
        f"from ({' union all '.join(parts)}) group by all order by all"
    ).to_arrow()
