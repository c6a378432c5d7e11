"""`tape demo`: simulated exchanges, the whole pipeline, and a check that nothing was lost."""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from rich.markup import escape
from rich.table import Table

from tapeworks._core import FolderLock
from tapeworks.cli.command import Application, Exit, ending_with, option
from tapeworks.cli.console import console, problems
from tapeworks.cli.formats import Report, ReportOption
from tapeworks.cli.running import SecondsOption, run
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError, TapeLockedError
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.pipeline import Config, lock_sources, resolve_config, resolve_feed
from tapeworks.register import writing_in
from tapeworks.simulators import Exchange, Simulator, exchanges, start_simulator
from tapeworks.simulators.proof import Proof, as_json, prove
from tapeworks.views.status import Status

SECONDS_WITHOUT_SCREEN = 20.0
SETTLE_S_MAX = 15.0
# Whoever ends the demo before this may end it before its books were there to be compared.
SYNCHRONISED_S = 10.0
MARK = ".tape-demo"

app = Application()

EXAMPLES = """\
Examples:
  tape demo
  tape demo --seconds 60 --seed 7 --rate 1000

Afterwards:
  tape query "select venue, symbol, count(*) from trades group by all" --data demo

A simulated exchange alone, for `tape record`:
  python -m tapeworks.simulators.binance --help
"""


@app.command(epilog=EXAMPLES)
def demo(
    seconds: SecondsOption = None,
    once: Annotated[bool, option("--once", help="End after 20 seconds.")] = False,
    seed: Annotated[int, option(help="Seed of the simulated markets.")] = 1,
    rate: Annotated[float, option(least=1, help="Orders per second and symbol.")] = 300.0,
    form: ReportOption = Report.TEXT,
    data: Annotated[
        Path, option("--data", help="Where to record; what an earlier demo left is removed.")
    ] = Path("demo"),
) -> None:
    """Run simulated exchanges and the whole pipeline; check that nothing is lost or duplicated.

    An earlier demo in that folder is removed. Exits with 1 if the check fails, with 3 if it ended
    too early to check anything, otherwise as `tape record` does.
    """
    if seconds is None and (once or form is Report.JSON or not console.is_terminal):
        seconds = SECONDS_WITHOUT_SCREEN
    oracles: dict[str, Any] = {}
    shown = exchanges(seed, rate)
    with ExitStack() as stack:
        stack.enter_context(_make_room(data, shown))
        simulators = {one.source: stack.enter_context(_start(one, data / "log")) for one in shown}
        config = _config(data, shown, simulators)

        started = time.monotonic()

        def finish() -> None:
            if time.monotonic() - started < SYNCHRONISED_S and not _synchronised(data, shown):
                return
            for source, simulator in simulators.items():
                oracles[source] = _last_word(simulator)

        say = problems if form is Report.JSON else console
        say.print(f"simulated exchanges: {', '.join(simulators)}, seed {seed}")
        code = run(
            config, seconds, title="tape demo", before_stop=finish, quiet=form is Report.JSON
        )
    if not oracles:
        say.print("ended before every book was synchronised: too early to check anything")
        raise Exit(code or EXIT_INCOMPLETE)
    proof = prove(data, oracles)
    with ending_with(code if proof.holds else 1):
        if form is Report.JSON:
            print(as_json(proof))
        else:
            _show(proof, data)


def _make_room(data: Path, shown: Sequence[Exchange]) -> FolderLock:
    """Removes what an earlier demo left; returns the lock of the folder.

    Raises:
        ConfigError: the folder holds something else.
        TapeLockedError: a demo runs in it, or a recorder.
    """
    is_demo = (data / MARK).is_file()
    if not is_demo and data.is_dir() and any(data.iterdir()):
        raise ConfigError(
            f"expected an empty folder, or one of an earlier demo, got {data}, which is in use"
        )
    try:
        with writing_in(data):
            lock = FolderLock(data)
        with lock_sources(data, [one.source for one in shown]):
            if is_demo:
                problems.print(f"removing the earlier demo in {data}", markup=False)
            for path in data.iterdir():
                # The lock's own file stays for as long as it is held.
                if path.name in (MARK, "LOCK"):
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except TapeLockedError as error:
        raise TapeLockedError(f"another demo or recorder uses {data}: {error}") from None
    (data / "log").mkdir(parents=True)
    (data / MARK).touch()
    return lock


def _start(exchange: Exchange, logs: Path) -> AbstractContextManager[Simulator]:
    return start_simulator(
        exchange.venue,
        *(("--symbols", *exchange.symbols) if exchange.symbols else ()),
        *exchange.arguments,
        log=logs / f"simulator-{exchange.source}.log",
    )


def _config(data: Path, shown: Sequence[Exchange], simulators: Mapping[str, Simulator]) -> Config:
    feeds = {}
    for one in shown:
        simulator = simulators[one.source]
        written: dict[str, Value | Section] = {
            "kind": Value(one.venue, "the demo"),
            **({"symbols": Value(list(one.symbols), "the demo")} if one.symbols else {}),
            **{name: Value(getattr(simulator, name), "the demo") for name in one.urls},
            # No file holds them: a key may be among them.
            **{
                name: Value(value, "the demo", from_environment=True)
                for name, value in one.settings.items()
            },
        }
        feeds[one.source] = resolve_feed(one.source, Section(f"feeds.{one.source}", written))
    base = resolve_config(Section())
    sinks = {name: replace(sink, flush_seconds=2.0) for name, sink in base.sinks.items()}
    return replace(base, data=data, feeds=feeds, sinks=sinks)


def _last_word(simulator: Simulator) -> Any:
    """Stops the market, waits until all that was sent is received, and returns the oracle."""
    simulator.ask("pause", {"paused": True})
    deadline = time.monotonic() + SETTLE_S_MAX
    while simulator.state()["unread_bytes"] and time.monotonic() < deadline:
        time.sleep(0.05)
    # What the kernel still holds is read by the recorder within its next turn.
    time.sleep(0.5)
    return simulator.oracle()


def _synchronised(data: Path, shown: Sequence[Exchange]) -> bool:
    """Returns whether every book of every exchange is verified now."""
    books = {source.name: source.books for source in Status(data).sample().sources}
    return all(books.get(one.source) == dict.fromkeys(one.books, "continuous") for one in shown)


def _show(proof: Proof, data: Path) -> None:
    # Names of streams are long: sources are lines of their own, so that 60 columns hold all.
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stream")
    for name in ("sent", "on tape", "stored", "lost", "duplicated"):
        table.add_column(name, justify="right")
    shown = ""
    for stream in proof.streams:
        if stream.source != shown:
            shown = stream.source
            table.add_row(f"[dim]{escape(shown)}[/]")
        table.add_row(
            f" {escape(stream.stream)}",
            *(f"{count:,}" for count in (stream.sent, stream.recorded, stream.stored)),
            _zero(stream.lost),
            _zero(stream.duplicated),
        )
    sent, stored = (sum(getattr(s, n) for s in proof.streams) for n in ("sent", "stored"))
    lost, twice = (sum(getattr(s, n) for s in proof.streams) for n in ("lost", "duplicated"))
    console.print(table)
    rows = sum(found.stored for found in proof.tables)
    exact = sum(found.exact for found in proof.tables)
    right = sum(proof.books.values())
    console.print(
        f"\nsent {sent:,}, stored {stored:,}, lost {_zero(lost)}, duplicated {_zero(twice)}"
        f"\nlake: {rows:,} rows, {exact} of {len(proof.tables)} tables hold each record once"
        f"\nbooks: {right} of {len(proof.books)} equal the exchange's own"
        f"\ngap ledger: {proof.gaps} entries"
    )
    for source_and_symbol, same in proof.books.items():
        if not same:
            console.print(f"[red]the book of {source_and_symbol} differs[/]")
    for found in proof.tables:
        if not found.exact:
            console.print(f"[red]{escape(str(found))}[/]", soft_wrap=True)
    verdict = "[green]verified complete[/]" if proof.holds else "[red]not verified[/]"
    console.print(f'\n{verdict}; look around: tape query "show tables" --data {escape(str(data))}')


def _zero(count: int) -> str:
    return "[green]0[/]" if count == 0 else f"[red]{count:,}[/]"
