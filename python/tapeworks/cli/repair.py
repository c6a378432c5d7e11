"""`tape repair`: moves what is damaged aside, and makes it again from the raw tape."""

from typing import Annotated

from tapeworks.cli.command import Application, option
from tapeworks.cli.job import end_with, run_named
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.config import Value

app = Application()

EXAMPLES = """\
Examples:
  tape repair              # shows what is damaged, and what would be done
  tape repair --yes        # applies the repair

Nothing is deleted: damaged parts of a tape go to `damaged-<time>/` in its folder, states and
offsets to `damaged/` of the data folder. What can be read of the raw tape stays as it is, other
tapes are rebuilt from their input, and what cannot be recovered is a gap in the ledger with cause
`damage` (`tape gaps`). It refuses to run while anything writes the source. If it is interrupted,
run it again.

It exits with 0 if nothing is damaged or everything is repaired, otherwise with 1.
"""


@app.command("repair", epilog=EXAMPLES)
def repair_data(
    yes: Annotated[
        bool, option("--yes", "-y", help="Apply the repair; without this, only show it.")
    ] = False,
    feed: Annotated[
        str, option(help="Feed of a source that the settings do not name.", metavar="FEED")
    ] = "",
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Move damaged data aside, rebuild what can be rebuilt, record the rest as gaps."""
    given = {"apply": Value(yes, "--yes"), "feed": Value(feed, "--feed")}
    end_with(run_named("repair", given, config, data))
