"""The status screen: one picture of a `PipelineState`, for `status`, `record`, `up` and `demo`."""

from collections import Counter

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tapeworks.cli.output import amount, size
from tapeworks.views.status import PipelineState, SourceState

SYMBOLS_SHOWN = 12
LAG_WARN = 100_000


def picture(state: PipelineState, title: str, note: str = "") -> RenderableType:
    """Returns the whole screen."""
    if not state.sources:
        return Panel(f"nothing is recorded in {state.data} yet", title=title, title_align="left")
    parts: list[RenderableType] = [_tapes(state)]
    parts.append(Columns([_source(source) for source in state.sources], padding=(0, 3)))
    parts.append(_lake(state))
    if note:
        parts.append(Text(note, style="dim"))
    return Panel(Group(*parts), title=title, title_align="left")


def one_line(state: PipelineState) -> str:
    """Returns the state as one line of a log."""
    words = []
    for source in state.sources:
        tapes = {tape.topic: tape for tape in source.tapes}
        raw = tapes.get("market-data.raw")
        lag = max((tape.lag or 0 for tape in source.tapes), default=0)
        # Books that ended with their session are neither proven nor broken.
        books = [book for book in source.books.values() if book != "empty"]
        proven = sum(book == "continuous" for book in books)
        words.append(
            f"{source.name} {amount(raw.per_s if raw else 0)}/s"
            f" frames {raw.items if raw else 0:,}"
            f" lag {lag:,}"
            + (f" books {proven}/{len(books)}" if books else "")
            + f" gaps {sum(source.gaps.values())}"
            + trouble(source, " ")
        )
    return "; ".join(words) or "nothing recorded yet"


def trouble(source: SourceState, before: str) -> str:
    """Returns what keeps a recorder from its work, or made it shed; none if all is well."""
    recorder = source.recorder or {}
    failure, shed = recorder.get("failure"), recorder.get("shed", 0)
    words = [recorder["trouble"]] if recorder.get("trouble") else []
    if failure:
        waiting = size(recorder.get("pending_bytes", 0))
        words.append(f"CANNOT WRITE: {failure}; {waiting} wait in memory")
    if shed:
        words.append(f"{shed:,} frames shed")
    return before + ", ".join(words) if words else ""


def _tapes(state: PipelineState) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("source")
    table.add_column("tape")
    for name in ("items", "per second", "behind", "not durable", "on disk"):
        table.add_column(name, justify="right")
    for source in state.sources:
        for number, tape in enumerate(source.tapes):
            behind = Text("" if tape.lag is None else amount(tape.lag))
            if (tape.lag or 0) > LAG_WARN:
                behind.stylize("yellow")
            table.add_row(
                Text(source.name if number == 0 else "", style="cyan"),
                tape.topic.removeprefix("market-data."),
                amount(tape.items),
                amount(tape.per_s) if state.elapsed_s else "",
                behind,
                amount(tape.items - tape.durable),
                size(tape.bytes),
            )
    return table


def _source(source: SourceState) -> RenderableType:
    text = Text()
    text.append(f"\n{source.name}", style="cyan")
    recorder = source.recorder
    if recorder is None:
        text.append("  not recording", style="yellow")
    else:
        connections = recorder.get("connections", [])
        quiet = sum(bool(connection.get("silent")) for connection in connections)
        text.append(f"  {len(connections)} connections")
        if quiet:
            text.append(f", {quiet} silent", style="yellow")
        text.append(f", {recorder.get('reconnects', 0)} reconnects")
        text.append(trouble(source, "\n"), style="red")
    text.append("\nbooks ")
    states = Counter(source.books.values())
    for state, count in sorted(states.items()):
        text.append(f"{count} {state} ", style="green" if state == "continuous" else "yellow")
    broken = [symbol for symbol, state in source.books.items() if state != "continuous"]
    if broken:
        text.append(f"({', '.join(broken[:SYMBOLS_SHOWN])}) ", style="dim")
    text.append("\ngaps  ")
    if not source.gaps:
        text.append("none", style="green")
    for name, count in source.gaps.items():
        text.append(f"{count} {name} ", style="yellow")
    return text


def _lake(state: PipelineState) -> Text:
    text = Text("\nlake  ")
    for table, (files, total) in state.lake.items():
        if not table.startswith("_"):
            text.append(f"{table} {files} files {size(total)}  ")
    text.append(f"\ndisk  {size(state.disk_bytes)} in {state.data}")
    return text
