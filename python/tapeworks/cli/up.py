"""`tape up`: runs everything that the settings name, supervised."""

from dataclasses import replace

import typer

from tapeworks.cli.running import SecondsOption, run
from tapeworks.cli.settings import ConfigOption, DataOption, load

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tape config example > tapeworks.toml && tape up")
def up(config: ConfigOption = None, data: DataOption = None, seconds: SecondsOption = None) -> None:
    """Run everything in tapeworks.toml until Ctrl-C: recorders, derivation and sinks."""
    settings = load(config)
    run(replace(settings, data=data or settings.data), seconds)
