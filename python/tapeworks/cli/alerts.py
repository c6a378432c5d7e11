"""`tape alerts`: what rules found, live too, and who has seen it."""

import getpass
import os
import sys
from collections.abc import Mapping
from datetime import UTC
from enum import StrEnum
from typing import Annotated, Any

from tapeworks.alert_notes import AlertNote, leave_note
from tapeworks.alert_watches import UNITS
from tapeworks.cli.alert_trial import chosen_rules, trial
from tapeworks.cli.alert_watches import (
    Watches,
    check_rule,
    watches_of,
    written_rules,
)
from tapeworks.cli.alert_watches import (
    told as told_watches,
)
from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, argument, ending_with, option
from tapeworks.cli.formats import Format, FormatOption, OutputOption, format_of
from tapeworks.cli.options import (
    ConfigOption,
    DataOption,
    ExchangeOption,
    ProductOption,
    SourceOption,
    read_settings,
    recorded,
)
from tapeworks.cli.output import note, write_result
from tapeworks.cli.reading import conditions_of, open_lake
from tapeworks.cli.replay import ended_by_interrupt
from tapeworks.cli.settings import load, load_written
from tapeworks.errors import ArgumentError, ConfigError, QueryError, TapeworksError
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.printable import printable
from tapeworks.register import supervisors
from tapeworks.registry import load_name
from tapeworks.views.conditions import parse_range
from tapeworks.views.found_alerts import NEWEST, life_condition
from tapeworks.views.lake import Lake
from tapeworks.views.query import quote
from tapeworks.views.watched import unwatched

app = Application("List alerts, follow them as they come, or acknowledge one.")

# Of what `value` and `threshold` are numbers.
CASES = " ".join(f"when {quote(rule)} then {quote(unit)}" for rule, unit in UNITS.items())
UNIT = f"case detector {CASES} end as unit"
SHOWN = (
    f"venue, id, severity, state, rule, symbol, ts_start, ts_end, value, threshold, {UNIT}, "
    "acknowledged, detail"
)
DETAIL_BYTES_MAX = 104
# Numbers of alerts are below 2^63.
DIGITS_MAX = 18
# Loaded where somebody is told: the library of the services takes half a second.
TRIAL = "tapeworks.sinks.notify:send_trial"

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
TEST_EXAMPLES = """\
Examples:
  tape alerts test
  tape alerts test --config staging.toml || echo somebody is not told
"""
TRY_EXAMPLES = """\
Examples:
  tape alerts try
  tape alerts try wide --from 2026-11-20
  tape alerts try --config stricter.toml --json
"""
ACK_EXAMPLES = """\
Examples:
  tape alerts ack 17
  tape alerts ack binance-spot#17 --note "exchange maintenance"
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
    start: Annotated[str | None, option("--from", help="Open then or later, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="Began before then, UTC.")] = None,
    source: SourceOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    rule: RuleOption = None,
    severity: SeverityOption = None,
    is_open: Annotated[bool, option("--open", help="Only those that are not closed.")] = False,
    check: Annotated[
        bool, option("--check", help="Exit with 3 if there is any, or no rule looked.")
    ] = False,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """List alerts, each as it is now: when it began and ended, who has seen it, and the evidence.

    `tape query "select * from alerts"` has each change of each alert as a row, with all columns.
    """
    form = format_of(form, output)
    lake = open_lake(data)
    bounds = parse_range(start, end)
    conditions = conditions_of(lake, symbol, None, None, source, exchange, product)
    conditions += life_condition(*bounds)
    watches = _watches(lake, rule, source, exchange)
    conditions += [] if rule is None else [f"rule = {quote(rule)}"]
    conditions += [] if severity is None else [f"severity = {quote(severity)}"]
    conditions += ["state <> 'closed'"] if is_open else []
    columns = SHOWN if form is Format.TABLE and output is None else f"*, {UNIT}"
    table = lake.sql(
        f"select {columns} from ({NEWEST}) "
        f"where {' and '.join(conditions) or 'true'} order by ts_recv, venue, id"
    ).to_arrow()
    # Where nobody looked, no alerts is no good news.
    chosen = lake._instruments.choose(symbol, source, exchange, product, every=True)
    missing = unwatched(lake._engine, lake._data, chosen, *bounds, rule=rule, severity=severity)
    with ending_with(EXIT_INCOMPLETE if check and (len(table) or missing) else 0):
        is_told = form is Format.TABLE and output is None
        if len(table) or not is_told:
            write_result(table, form, output, "alerts")
        else:
            print("not known" if missing else "no alerts")
        lines = told_watches(watches) if not len(table) or rule else []
        for line in dict.fromkeys([*lines, *missing]):
            print(line) if is_told else note(line)


def _watches(lake: Lake, rule: str | None, source: str | None, exchange: str | None) -> Watches:
    """Returns who looked at the sources that are asked for.

    Raises:
        ArgumentError: there is no such rule.
    """
    sources = lake._instruments.sources(source, exchange)
    found = watches_of(lake._data, sources, rule)
    if rule is not None and not any(found.values()):
        stored = lake.sql("select distinct rule from alerts").to_pylist()
        known = {
            one.rule
            for watches in watches_of(lake._data, sources, None).values()
            for one in watches
        }
        known |= {row["rule"] for row in stored} | set(written_rules(read_settings(None)))
        check_rule(rule, sorted(known))
    return found


@app.command("try", epilog=TRY_EXAMPLES)
def try_rules(
    rule: Annotated[str | None, argument(help="Only this rule of the settings.")] = None,
    start: Annotated[str | None, option("--from", help="Start of event time, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of event time, UTC.")] = None,
    source: SourceOption = None,
    config: ConfigOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """Tell how often the rules of the settings would have opened an alert; nothing is written.

    They see the normalized tape from its start on, as far as retention left it, as if they had run
    then. `value` is the one furthest from zero. Exits with 1 where a rule of your own raises.
    """
    form = format_of(form, output)
    settings = load_written(config)
    folder = recorded(settings.data if data is None and config is not None else data)
    lake = open_lake(folder)
    rules = chosen_rules(settings, rule)
    sources = lake._instruments.sources(source, None)
    stopped: list[str] = []
    found = trial(settings, folder, rules, sources, parse_range(start, end), stopped)
    write_result(found, form, output)
    with ending_with(1 if stopped else 0):
        for line in stopped:
            note(line)


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
    _watches(lake, rule, source, exchange)
    batches = lake.follow(
        symbol, start, kinds=["alerts"], source=source, exchange=exchange, product=product
    )
    note("waiting for alerts; Ctrl-C ends it")
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
    unit = f" {of}" if (of := UNITS.get(row["detector"])) else ""
    value = "" if row["value"] is None else f" {row['value']:.6g}{unit}"
    limit = "" if row["threshold"] is None else f" (limit {row['threshold']:.6g}{unit})"
    about = " ".join(filter(None, [row["symbol"], row["subject"]]))
    words = [
        f"{row['ts_event'].astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23] + "Z",
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
    number: Annotated[str, argument(help="Its number, or source#number.", metavar="ID")],
    words: Annotated[str, option("--note", help="What to say of it.")] = "",
    source: SourceOption = None,
    data: DataOption = None,
) -> None:
    """Say that somebody has seen an alert that is open; it is a row of the alert like others.

    The recorder puts it on its tape, so that it is there in every replay.
    """
    folder = recorded(data)
    lake = open_lake(data)
    venue, row = _alert(lake, number, source)
    shown = f"{venue}#{row['id']}"
    if row["state"] == "closed":
        raise QueryError(f"the alert {shown} is closed already")
    if row["acknowledged"] is not None:
        print(f"{shown} ({row['rule']}) is acknowledged already: {printable(row['acknowledged'])}")
        return
    detail = f"by={_user()} {words}".strip()
    if len(detail.encode()) > DETAIL_BYTES_MAX or not detail.isprintable():
        raise ConfigError(f"--note: expected up to {DETAIL_BYTES_MAX - 16} bytes of one line")
    left = AlertNote("", "acknowledged", row["id"], detail=detail)
    if leave_note(folder, venue, left) is None:
        raise TapeworksError(f"{venue}: too many notes wait for its recorder, which is not running")
    running = [worker for one in supervisors(folder) for worker in one.workers]
    if any((one.get("kind"), one.get("member")) == ("recorder", venue) for one in running):
        print(f"{shown} ({row['rule']}) is acknowledged")
    else:
        note(f"{venue} is not recorded at the moment: saved until its recorder starts")
    sys.stdout.flush()


def _alert(lake: Lake, number: str, source: str | None) -> tuple[str, dict[str, Any]]:
    """Returns the source and the newest row of the alert `number`.

    Raises:
        ArgumentError: it is no number, or the source is not known.
        QueryError: there is no such alert, or one of several sources.
    """
    before, _, text = number.rpartition("#")
    if not text.isdecimal() or len(text) > DIGITS_MAX:
        raise ArgumentError(f"expected the number of an alert, such as 17, got {number!r}")
    if before and source not in (None, before):
        raise ArgumentError(f"{number} is not of the source {source}")
    sources = lake._instruments.sources(before or source, None)
    rows = lake.sql(f"select * from ({NEWEST}) where id = {int(text)}").to_pylist()
    found = {row["venue"]: row for row in rows if row["venue"] in sources}
    if not found:
        where = f" of {', '.join(sources)}" if before or source else ""
        raise QueryError(f"there is no alert {int(text)}{where}: `tape alerts list` lists all")
    if len(found) > 1:
        raise QueryError(f"the alert {text} could be of {', '.join(found)}: name its --source")
    [(venue, row)] = found.items()
    return venue, row


@app.command("test", epilog=TEST_EXAMPLES)
def send_test(config: ConfigOption = None) -> None:
    """Send one message to each target of the notifications, and say which ones took it."""
    settings = load(config)
    kinds = {name: getattr(one, "kind", "") for name, one in settings.sinks.items()}
    sinks = {name: one for name, one in settings.sinks.items() if kinds[name] == "notify"}
    if not sinks:
        raise ConfigError("expected [sinks.notify] in the settings, got none: nobody is told")
    failed = False
    for name, sink in sinks.items():
        if idle := sink.idle(name):
            raise ConfigError(f"[sinks.{name}]: {idle}")
        for target, refusal in load_name(TRIAL)(sink):
            failed = failed or bool(refusal)
            print(f"{name} {target}: {f'failed: {refusal}' if refusal else 'sent'}", flush=True)
    with ending_with(1 if failed else 0):
        if failed:
            note("nobody is told by a target that failed")


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container may run a user without a name.
        return str(os.getuid())
