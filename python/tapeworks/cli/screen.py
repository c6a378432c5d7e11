"""The status screen: one picture of a `PipelineState`, for `status`, `record`, `up` and `demo`.

Green is well, yellow asks for a look, red loses something or is about to. What does not fit into a
narrow terminal is left out from the right, least important first.
"""

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tapeworks.cli.cells import gap_state
from tapeworks.cli.output import amount, size
from tapeworks.topics import DEAD, GAPS, PREFIX, RAW
from tapeworks.views.coverage import waiting_text
from tapeworks.views.status import PipelineState, SourceState, TapeState
from tapeworks.views.times import format_time
from tapeworks.views.transfers import SinkState

SYMBOLS_SHOWN = 12
# Characters of why something stopped, in a line of a log that is written every few seconds.
WHY_SHOWN = 120
LAG_WARN = 100_000
FULL_WARN_HOURS = 72
RATES_SHOWN = 24
SPARKS = "▁▂▃▄▅▆▇█"
# Tapes that are good news when they are empty: the line above them says so.
SAID_ABOVE = (GAPS, DEAD)
# From these widths on there is room for a column.
SPARKS_COLUMNS, DISK_COLUMNS, DURABLE_COLUMNS = 92, 68, 80


class Screen:
    """Draws one state after the other, and how the rates went."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._rates: dict[tuple[str, str], deque[float]] = {}

    def draw(self, state: PipelineState, note: str = "") -> RenderableType:
        """Returns the whole screen, with less of the tapes where a terminal has few rows."""
        whole = self._draw(state, note, self._parts(state))
        if not self._console.is_terminal or self._fits(whole):
            return whole
        # The tables of all tapes are what is long: the raw tape alone says whether it records.
        return self._draw(state, note, self._parts(state, is_short=True))

    def _fits(self, drawn: RenderableType) -> bool:
        return len(self._console.render_lines(drawn, pad=False)) < self._console.height

    def _parts(self, state: PipelineState, *, is_short: bool = False) -> list[RenderableType]:
        parts: list[RenderableType] = []
        for source in state.sources:
            shown = replace(source, tapes=source.tapes[:1]) if is_short else source
            parts += [_headline(source), self._tapes(shown, state.elapsed_s > 0)]
            parts += [] if is_short else [Text()]
        return parts

    def _draw(self, state: PipelineState, note: str, parts: list[RenderableType]) -> RenderableType:
        if not parts:
            told = f"nothing is recorded in {state.data} yet"
            if (state.data / "lake").is_dir():
                told = f"no tapes in {state.data}, a lake alone, which `tape query` reads"
            parts = [Text(told, style="dim"), Text()]
        parts += [Text(f"● {told}", style="red") for told in worker_troubles(state)]
        parts += [Text(f"● {told}", style="red") for told in _stopped(state)]
        parts += [Text(f"● {told}", style="yellow") for told in _troubles(state)]
        parts.append(_lake(state))
        if not self._console.is_terminal:
            return Group(*parts)
        foot = " · ".join(word for word in (str(state.data), note) if word)
        return Panel(
            Group(*parts),
            title=f"[bold]{self._title}[/]",
            title_align="left",
            subtitle=f"[dim]{foot}[/]",
            subtitle_align="right",
            border_style="dim",
            padding=(0, 1),
        )

    def _tapes(self, source: SourceState, measured: bool) -> Table:
        width = self._console.width
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("  tape", min_width=12, no_wrap=True)
        for name, columns in (
            ("items", 0),
            ("items/s", 0),
            ("", SPARKS_COLUMNS),
            ("to derive", 0),
            ("not synced", DURABLE_COLUMNS),
            ("on disk", DISK_COLUMNS),
        ):
            if width >= columns:
                least = {"": RATES_SHOWN, "items": 8, "items/s": 7, "on disk": 9}.get(name, 0)
                table.add_column(
                    name, justify="left" if not name else "right", min_width=least, no_wrap=True
                )
        for tape in source.tapes:
            if not tape.items and tape.topic in SAID_ABOVE:
                continue
            rates = self._rates.setdefault((source.name, tape.topic), deque(maxlen=RATES_SHOWN))
            if measured:
                rates.append(tape.per_s)
            cells = [(0, Text("  " + tape.topic.removeprefix(PREFIX)))]
            cells += _cells(tape, rates, measured)
            table.add_row(*(cell for columns, cell in cells if width >= columns))
        return table


def _cells(tape: TapeState, rates: "deque[float]", measured: bool) -> list[tuple[int, Text]]:
    behind = Text("" if tape.lag is None else amount(tape.lag), style=_quiet(tape.lag or 0))
    if (tape.lag or 0) > LAG_WARN:
        behind.stylize("yellow")
    pending = tape.items - tape.durable
    return [
        (0, Text(amount(tape.items), style="bold" if tape.items else "dim")),
        (0, Text(amount(tape.per_s) if measured else "", style=_quiet(tape.per_s))),
        (SPARKS_COLUMNS, Text(sparks(rates), style="cyan")),
        (0, behind),
        (DURABLE_COLUMNS, Text(amount(pending), style=_quiet(pending))),
        (DISK_COLUMNS, Text(size(tape.bytes))),
    ]


def _quiet(value: float) -> str:
    """Returns the style of a number: those that say nothing step back."""
    return "" if value >= 0.5 else "dim"


def sparks(rates: Sequence[float]) -> str:
    """Returns the rates as a row of bars, the newest at the right; the highest is full."""
    highest = max(rates, default=0)
    if not highest:
        return ""
    bars = "".join(SPARKS[round(rate / highest * (len(SPARKS) - 1))] for rate in rates)
    return bars.rjust(RATES_SHOWN)


def worker_troubles(state: PipelineState) -> list[str]:
    """Returns what there is to say of workers that do not run, or had to be started again."""
    told = []
    for worker in state.workers:
        if worker.state == "running" and not worker.restarts:
            continue
        count = f"{worker.restarts} restart{'' if worker.restarts == 1 else 's'}"
        why = f": {worker.last}" if worker.last else ""
        told.append(f"{worker.name} {worker.state}, {count}{why}")
    return told


def _stopped(state: PipelineState) -> list[str]:
    """Returns which processors and rules of the user's own stopped, and why."""
    return [
        f"{source.name}: {name} is stopped: {why}"
        for source in state.sources
        for name, why in source.stopped.items()
    ]


def _troubles(state: PipelineState) -> list[str]:
    """Returns the troubles, but for those of stores that are down: each sink has a line below."""
    told = list(state.troubles)
    for source in state.sources:
        refusals = tuple(f"not stored yet: {one.refusal}" for one in source.sinks if one.refusal)
        told += [f"{source.name} {line}" for line in source.troubles if not line.endswith(refusals)]
    return told


def one_line(state: PipelineState) -> str:
    """Returns the state as one line of a log."""
    words = []
    for source in state.sources:
        tapes = {tape.topic: tape for tape in source.tapes}
        raw = tapes.get(RAW)
        lag = max((tape.lag or 0 for tape in source.tapes), default=0)
        # Books that ended with their session are neither verified nor broken.
        books = [book for book in source.books.values() if book != "empty"]
        verified = sum(book == "continuous" for book in books)
        told = [f"{source.name}: {raw.items if raw else 0:,} frames"]
        if raw and state.elapsed_s > 0:
            told.append(f"{amount(raw.per_s)} frames/s")
        told.append(f"{lag:,} item{'' if lag == 1 else 's'} to derive")
        if books:
            told.append(f"{verified} of {len(books)} books verified")
        told.append(gaps_text(source) or "gaps not known")
        words.append(", ".join(told) + trouble(source, ", "))
    down = [told for told in worker_troubles(state) if " running, " not in told]
    down += [f"{told[:WHY_SHOWN]}{'...' * (len(told) > WHY_SHOWN)}" for told in _stopped(state)]
    refused = {one.sink for source in state.sources for one in source.sinks if one.refusal}
    down += [f"{name}: {told}" for name, told in sink_lines(state).items() if name in refused]
    return "; ".join(words + down) or "nothing recorded yet"


def last_line(state: PipelineState, silent: Collection[str] = ()) -> str:
    """Returns what the folder holds when all has stopped.

    Of the sources `silent` nothing was received: that they have no gaps would say nothing.
    """
    words = []
    for source in state.sources:
        told = "" if source.name in silent and not source.gaps else gaps_text(source)
        words.append(
            f"{source.name}: on tape in all: {raw_frames(source):,} frames"
            + (f", {told}" if told else "")
        )
    return "; ".join(words) or "nothing was recorded"


def raw_frames(source: SourceState) -> int:
    """Returns how many frames were ever put onto the raw tape."""
    return sum(tape.items for tape in source.tapes if tape.topic == RAW)


def gaps_text(source: SourceState, named: str = "") -> str:
    """Returns how many gaps there are, and whether there may be more; empty if nothing is known.

    `named` takes the place of their number.
    """
    gaps = sum(source.gaps.values())
    words = [named or ("1 gap" if gaps == 1 else f"{gaps:,} gaps")] if gaps else []
    if source.is_unknown and source.unknown is not None:
        after, frames = source.unknown.after, source.unknown.frames
        told = "not yet known" + ("" if after is None else f" after {format_time(after)}")
        words.append(told + (f"; {waiting_text(frames)}" if frames else ""))
    elif not gaps and not (source.recorder or {}).get("failure"):
        words.append("no gaps")
    return ", ".join(words)


def trouble(source: SourceState, before: str) -> str:
    """Returns what keeps a recorder from its work, or made it shed; none if all is well."""
    recorder = source.recorder or {}
    failure, shed = recorder.get("failure"), recorder.get("shed", 0)
    words = [recorder["trouble"]] if recorder.get("trouble") else []
    if failure:
        waiting = size(recorder.get("pending_bytes", 0))
        words.append(
            f"CANNOT WRITE: {failure}; {waiting} wait in memory, and it goes on when there is room"
        )
    if shed:
        words.append(f"{shed:,} frames shed")
    if held_s := recorder.get("banned_s", 0):
        told = recorder.get("request_trouble") or "the venue asked for it"
        words.append(f"no requests for {held_s:,.0f} s: {told}")
    if raised := sum(recorder.get("feed_errors", {}).values()):
        words.append(f"the feed's rules raised {raised:,} times: see its log")
    return before + ", ".join(words) if words else ""


def _headline(source: SourceState) -> Text:
    """Returns the source in one line: whether it records, and what became of its books."""
    recorder = source.recorder
    troubled = trouble(source, "\n  ")
    color = "red" if troubled else "green" if recorder is not None else "yellow"
    text = Text()
    text.append("● ", style=color)
    text.append(source.name, style="bold")
    if recorder is None:
        text.append("  not recording", style="yellow")
    else:
        connections = recorder.get("connections", [])
        quiet = sum(bool(connection.get("silent")) for connection in connections)
        _count(text, len(connections), "connection")
        if quiet:
            text.append(f", {quiet} silent", style="yellow")
        lacking = recorder.get("outcome", {})
        for what in ("refused", "overdue", "down"):
            if names := lacking.get(what):
                streams = "1 stream" if len(names) == 1 else f"{len(names)} streams"
                text.append(f", {streams} {what}", style="yellow")
        if recorder.get("reconnects"):
            _count(text, recorder["reconnects"], "reconnect")
    _books(text, source)
    gaps = ", ".join(f"{count} {_gap_text(name)}" for name, count in source.gaps.items())
    if told := gaps_text(source, f"gaps: {gaps}"):
        text.append(" · ", style="dim")
        text.append(told, style="green" if told == "no gaps" else "yellow")
    if found := sum(one.open for one in source.alerts):
        is_critical = any(one.open and one.severity == "critical" for one in source.alerts)
        _count(text, found, "open alert", "red" if is_critical else "yellow")
    if source.losses:
        text.append(f" · {source.losses} losses not in the ledger yet", style="red")
    text.append(troubled, style="red")
    return text


def _gap_text(name: str) -> str:
    """Returns a cause and state such as `sequence closed` as a person reads them."""
    cause, _, state = name.rpartition(" ")
    return f"{cause} ({gap_state(state)})"


def _count(text: Text, count: int, noun: str, style: str = "") -> None:
    text.append(" · ", style="dim")
    text.append(f"{count} {noun}{'' if count == 1 else 's'}", style=style)


def _books(text: Text, source: SourceState) -> None:
    if not source.books:
        return
    states = Counter(source.books.values())
    text.append(" · ", style="dim")
    if set(states) == {"empty"}:
        text.append("recording ended", style="dim")
        return
    verified = states["continuous"]
    style = "green" if verified == len(source.books) else "yellow"
    text.append(f"{verified} of {len(source.books)} books verified", style=style)
    broken = [symbol for symbol, state in source.books.items() if state != "continuous"]
    if broken:
        more = ", ..." if len(broken) > SYMBOLS_SHOWN else ""
        text.append(f" (not {', '.join(broken[:SYMBOLS_SHOWN])}{more})", style="dim")


def _room(state: PipelineState) -> Text:
    """Returns what the disk has left, and for how long."""
    text = Text(f", {size(state.free_bytes)} free")
    if state.full_in_s is not None:
        hours = state.full_in_s / 3600
        when = f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:,.0f} days"
        text.append(f"; {size(round(state.bytes_per_s * 86_400))} a day at this rate, ")
        text.append(f"full in {when}", style="red" if hours < FULL_WARN_HOURS else "")
        text.append(" if nothing is removed", style="dim")
    return text


def _lake(state: PipelineState) -> Table:
    held = {name: total for name, (_, total) in state.lake.items() if not name.startswith("_")}
    files = sum(count for name, (count, _) in state.lake.items() if name in held)
    off = "switched off in the settings: [sinks.parquet]"
    lake = Text(off, style="yellow") if state.is_lake_off else Text("empty until the first flush")
    if held:
        lake = Text(f"{size(sum(held.values()))} in {files:,} files", style="bold")
        if state.is_lake_off:
            lake.append(f", {off}", style="yellow")
    names = Text(" · ".join(held), style="dim")
    disk = Text.assemble((size(state.disk_bytes), "bold"), f" in {state.data}")
    disk.append_text(_room(state))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(Text("lake", style="dim"), lake)
    if held:
        table.add_row("", names)
    for name, told in sink_lines(state).items():
        table.add_row(Text(name, style="dim"), told)
    table.add_row(Text("disk", style="dim"), disk)
    return table


def sink_lines(state: PipelineState) -> dict[str, Text]:
    """Returns what there is to say of each sink that runs, over all sources and tapes."""
    lines: dict[str, Text] = {}
    tapes: dict[str, list[SinkState]] = {}
    for source in state.sources:
        for one in source.sinks:
            tapes.setdefault(one.sink, []).append(one)
    for name, group in sorted(tapes.items()):
        lag, lag_s = sum(one.lag for one in group), max(one.lag_s for one in group)
        refusals = {one.refusal: "" for one in group if one.refusal}
        told = Text("all stored")
        if lag:
            noun = "item" if lag == 1 else "items"
            told = Text(f"{amount(lag)} {noun} not stored yet, the oldest for {lag_s:,} s")
        if rejected := sum(one.rejected for one in group):
            told.append(f", {amount(rejected)} rejected", style="yellow")
        if refusals:
            told.append(f": {'; '.join(refusals)}", style="red")
        lines[name] = told
    return lines
