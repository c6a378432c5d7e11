"""`tape up`: runs everything that the settings name, supervised."""

from dataclasses import replace

from tapeworks.cli.command import Application, Exit
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.running import OUTCOMES, SecondsOption, run
from tapeworks.cli.settings import load_named

app = Application()

EXAMPLES = """\
Example:
  tape config example > tapeworks.toml && tape up

A feed that its venue refuses is retried every minute, a worker that dies or hangs is
restarted, and the others go on. `tape down` stops it from another terminal, `tape status` and
`tape logs` show what it does.

"""


@app.command(epilog=EXAMPLES + OUTCOMES)
def up(config: ConfigOption = None, data: DataOption = None, seconds: SecondsOption = None) -> None:
    """Run everything in tapeworks.toml until Ctrl-C: recorders, derivation and sinks."""
    settings = load_named(config)
    raise Exit(run(replace(settings, data=data or settings.data), seconds))
