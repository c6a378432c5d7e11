"""`tape config`: check the settings, show what is in force, or print a commented example."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from rich.markup import escape

from tapeworks.cli.command import Application, argument
from tapeworks.cli.console import console
from tapeworks.cli.options import ConfigOption
from tapeworks.cli.settings import load, load_written
from tapeworks.cli.unmatched import unmatched_kinds, unmatched_symbols, unset_parameters
from tapeworks.feeds.base import build
from tapeworks.settings import LAKE, as_toml

EXAMPLE = "tapeworks.example.toml"

app = Application("Check, show or print an example of the settings.")


@app.command(epilog="Example:\n  tape config check tapeworks.toml")
def check(
    file: Annotated[Path | None, argument(help="The settings; as --config.")] = None,
    config: ConfigOption = None,
) -> None:
    """Parse and check the settings without opening anything. Exits with 2 if they are wrong."""
    settings = load_written(file or config)
    if not settings.feeds:
        console.print("no feed: jobs and views work with these settings, `tape up` needs one")
    for name, symbols in settings.symbols().items():
        lines = build(settings.feeds[name]).lines()
        streams = sum(len(line.streams) for line in lines)
        shown = f"{len(symbols)} symbols" if symbols else "all symbols"
        console.print(f"feed [bold]{name}[/]: {shown}, {streams} streams")
    idle = settings.idle_sinks()
    for name in settings.sinks:
        console.print(f"sink [bold]{name}[/]{f': {idle[name]}' if name in idle else ''}")
    if LAKE not in settings.sinks:
        console.print(f"sink [bold]{LAKE}[/]: switched off, the lake gets no rows")
    for name in settings.views:
        console.print(f"view [bold]{name}[/]")
    for name in settings.jobs:
        console.print(f"job [bold]{name}[/]: `tape job {name}` runs it")
    if settings.metrics.sets or settings.metrics.trade_windows:
        made = [*settings.metrics.sets, *settings.metrics.trade_windows]
        console.print(f"metrics: {', '.join(made)}")
    for name, one in settings.processors.own.items():
        console.print(f"processor [bold]{name}[/]: {escape(one.kind)}, writes {escape(one.output)}")
    for rule in (*settings.alerts, *settings.latency.rules()):
        where = ", ".join((*rule.sources, *rule.symbols))
        # Of a rule of the user's own nobody knows which settings there are.
        own = "".join(f", {key} = {value}" for key, value in rule.parameters.items() if rule.kind)
        console.print(
            f"rule [bold]{escape(rule.name)}[/]: {rule.rule or rule.kind}, {rule.severity}"
            f"{f', of {escape(where)}' if where else ''}{escape(own)}"
        )
    unmatched = *unmatched_symbols(settings), *unmatched_kinds(settings)
    for line in (*unmatched, *unset_parameters(settings)):
        console.print(f"[yellow]warning[/]: {escape(line)}")
    console.print(f"data in [bold]{escape(str(settings.data))}[/]; configuration OK")


@app.command(epilog="Example:\n  tape config show > all.toml")
def show(config: ConfigOption = None) -> None:
    """Print all settings that are in force, as TOML. Secrets are left out."""
    settings = load(config)
    # Fit to be saved anywhere.
    print(as_toml(replace(settings, data=settings.data.absolute())), end="")


@app.command(epilog="Example:\n  tape config example > tapeworks.toml")
def example() -> None:
    """Print the commented example, which holds exactly the defaults."""
    print(example_text(), end="")


def example_text() -> str:
    """Returns the commented example, which is part of the package."""
    return files("tapeworks").joinpath(EXAMPLE).read_text(encoding="utf-8")
