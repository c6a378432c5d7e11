"""`tape alerts`: what rules found, live too, and who has seen it."""

import getpass
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from tapeworks.alert_notes import AlertNote, leave_note
from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, argument, ending_with, option
from tapeworks.cli.formats import Format, FormatOption, OutputOption, format_of
from tapeworks.cli.options import (
    DataOption,
    ExchangeOption,
    ProductOption,
    SourceOption,
    recorded,
)
from tapeworks.cli.output import note, write_result
from tapeworks.cli.reading import conditions_of, open_lake
from tapeworks.cli.replay import ended_by_interrupt
from tapeworks.errors import ConfigError, QueryError, TapeworksError
from tapeworks.printable import printable
from tapeworks.register import supervisors
from tapeworks.views.query import quote
from tapeworks.worker import EXIT_INCOMPLETE

app = Application("List alerts, follow them as they come, or acknowledge one.")

SHOWN = (
    "venue, id, severity, state, rule, symbol, ts_start, ts_end, value, threshold, acknowledged, "
    "detail"
)
# Each alert by its newest row, with what was said when somebody acknowledged it before that.
NEWEST = (
    "select *, max(detail) filter (where state = 'acknowledged') over (partition by venue, id) "
    "as acknowledged from alerts qualify row_number() over "
    "(partition by venue, id order by tape_offset desc) = 1"
)
DETAIL_BYTES_MAX = 104

LIST_EXAMPLES = """\
Examples:
  tape alerts list
  tape alerts list BTCUSDT --open
  tape alerts list --rule crossed --from 2026-11-20 --json
  tape alerts list --open --severity critical --check || echo look at it
"""
FOLLOW_EXAMPLES = """\
Examples:
  tape alerts follow
  tape alerts follow --from 2026-11-20T14:00 --json
"""
ACK_EXAMPLES = """\
Examples:
  tape alerts ack 17
  tape alerts ack 17 --source binance-spot --note "exchange maintenance"
"""


class Severity(StrEnum):
    """How bad an alert is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


RuleOption = Annotated[str | None, option("--rule", help="Only of this rule.")]
SeverityOption = Annotated[Severity | None, option("--severity", help="Only of this severity.")]
SymbolArgument = Annotated[str | None, argument(help="Only this symbol.", names="symbols")]


@app.command("list", epilog=LIST_EXAMPLES)
def list_alerts(
    symbol: SymbolArgument = None,
    start: Annotated[str | None, option("--from", help="Start of event time, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of event time, UTC.")] = None,
    source: SourceOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    rule: RuleOption = None,
    severity: SeverityOption = None,
    is_open: Annotated[bool, option("--open", help="Only those that are not closed.")] = False,
    check: Annotated[bool, option("--check", help="Exit with 3 if there is any.")] = False,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """List alerts, each as it is now: when it began and ended, who has seen it, and the evidence.

    `tape query "select * from alerts"` has each change of each alert as a row, with all columns.
    """
    form = format_of(form, output)
    lake = open_lake(data)
    conditions = conditions_of(lake, symbol, start, end, source, exchange, product)
    conditions += [] if rule is None else [f"rule = {quote(rule)}"]
    conditions += [] if severity is None else [f"severity = {quote(severity)}"]
    conditions += ["state <> 'closed'"] if is_open else []
    columns = SHOWN if form is Format.TABLE and output is None else "*"
    table = lake.sql(
        f"select {columns} from ({NEWEST}) "
        f"where {' and '.join(conditions) or 'true'} order by ts_recv, venue, id"
    ).to_arrow()
    with ending_with(EXIT_INCOMPLETE if check and len(table) else 0):
        if len(table) or form is not Format.TABLE or output is not None:
            write_result(table, form, output, "alerts")
        else:
            print("no alerts")


@app.command(epilog=FOLLOW_EXAMPLES)
def follow(
    symbol: SymbolArgument = None,
    start: Annotated[
        str | None, option("--from", help="Start of receipt, UTC. [default: now]")
    ] = None,
    source: SourceOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    rule: RuleOption = None,
    severity: SeverityOption = None,
    as_lines: Annotated[bool, option("--json", help="One JSON text a change.")] = False,
    data: DataOption = None,
) -> None:
    """Print each change of an alert as it comes, until Ctrl-C."""
    lake = open_lake(data)
    batches = lake.follow(
        symbol, start, kinds=["alerts"], source=source, exchange=exchange, product=product
    )
    with ended_by_interrupt(batches):
        for batch in batches:
            for row in batch.to_pylist():
                wanted = ((rule, row["rule"]), (severity, row["severity"]))
                if any(one is not None and one != found for one, found in wanted):
                    continue
                if as_lines:
                    print(as_json(row), flush=True)
                else:
                    print(told(row), flush=True)


def told(row: Mapping[str, Any]) -> str:
    """Returns one change of an alert as a line for people."""
    value = "" if row["value"] is None else f" {row['value']:.6g}"
    limit = "" if row["threshold"] is None else f" (limit {row['threshold']:.6g})"
    about = " ".join(filter(None, [row["symbol"], row["subject"]]))
    words = [
        str(row["ts_event"])[:23],
        f"{row['source']}#{row['id']}",
        str(row["severity"]),
        str(row["state"]),
        f"{row['rule']}:",
        f"{about}{value}{limit}",
        str(row["detail"] or ""),
    ]
    return printable(" ".join(filter(None, words)))


@app.command(epilog=ACK_EXAMPLES)
def ack(
    number: Annotated[int, argument(help="Number of the alert: id.", metavar="ID")],
    words: Annotated[str, option("--note", help="What to say of it.")] = "",
    source: SourceOption = None,
    data: DataOption = None,
) -> None:
    """Say that somebody has seen an alert that is open; it is a row of the alert like others.

    The recorder puts it on its tape, so that it is there in every replay.
    """
    folder = recorded(data)
    rows = open_lake(data).sql(
        "select venue, rule, state, detail from alerts where id = "
        f"{number} qualify row_number() over (partition by venue order by tape_offset desc) = 1"
    )
    found = {row["venue"]: row for row in rows.to_pylist() if source in (None, row["venue"])}
    if not found:
        raise QueryError(f"expected the id of an alert, got {number}: `tape alerts list` lists all")
    if len(found) > 1:
        raise QueryError(f"the alert {number} could be of {', '.join(found)}: name its --source")
    [(venue, row)] = found.items()
    if row["state"] == "closed":
        raise QueryError(f"the alert {number} of {venue} is closed already")
    detail = f"by={_user()} {words}".strip()
    if len(detail.encode()) > DETAIL_BYTES_MAX or not detail.isprintable():
        raise ConfigError(f"--note: expected up to {DETAIL_BYTES_MAX - 16} bytes of one line")
    if leave_note(folder, venue, AlertNote("", "acknowledged", number, detail=detail)) is None:
        raise TapeworksError(f"{venue}: too many notes wait for its recorder, which is not running")
    running = [worker for one in supervisors(folder) for worker in one.workers]
    if any((one.get("kind"), one.get("member")) == ("recorder", venue) for one in running):
        print(f"{venue}#{number} ({row['rule']}) is acknowledged")
    else:
        note(f"{venue} is not recorded at the moment: told when its recorder starts")
    sys.stdout.flush()


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container may run a user without a name.
        return str(os.getuid())
