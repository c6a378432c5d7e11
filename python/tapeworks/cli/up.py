"""`tape up`: runs everything that the settings name, supervised."""

from dataclasses import replace

from tapeworks.cli.command import Application
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.running import SecondsOption, run
from tapeworks.cli.settings import load

app = Application()


@app.command(epilog="Example:\n  tape config example > tapeworks.toml && tape up")
def up(config: ConfigOption = None, data: DataOption = None, seconds: SecondsOption = None) -> None:
    """Run everything in tapeworks.toml until Ctrl-C: recorders, derivation and sinks."""
    settings = load(config)
    run(replace(settings, data=data or settings.data), seconds)
