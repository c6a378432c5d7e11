"""`tape repair`: moves what is damaged aside, and makes it again from the raw tape."""

from dataclasses import replace
from typing import Annotated, Any

from tapeworks._core import Decoder
from tapeworks.cli.command import Application, Exit, option
from tapeworks.cli.options import ConfigOption, DataOption, recorded
from tapeworks.cli.settings import load
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.feeds.base import build
from tapeworks.feeds.python import PythonFeed
from tapeworks.jobs.repair import Plan, Report, inspect, repair
from tapeworks.pipeline import Config
from tapeworks.tape import UNKNOWN
from tapeworks.views.times import format_time

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
    settings = replace(load(config), data=recorded(data))
    plans = inspect(settings.data)
    if not plans:
        print(f"nothing is damaged in {settings.data}")
        return
    for plan in plans:
        print(f"{plan.source}:")
        for fault in plan.faults:
            print(f"  damaged: {fault}")
        for step in plan.steps() if not yes else ():
            print(f"  would: {step}")
    if not yes:
        print("nothing was changed; `tape repair --yes` does it")
        raise Exit(1)
    decoders = [_decoder(settings, plan, feed) for plan in plans]
    for plan, (decoder, native) in zip(plans, decoders, strict=True):
        _repair_and_print(settings, plan, decoder, native)
    if left := inspect(settings.data):
        raise TapeworksError("still damaged: " + "; ".join(str(f) for p in left for f in p.faults))


def _decoder(settings: Config, plan: Plan, feed: str) -> tuple[Any | None, str]:
    """Returns what decodes the frames of a source: a feed of the user's own, or a name.

    Raises:
        ConfigError: neither the settings nor `--feed` say.
    """
    if plan.source in settings.feeds:
        built = build(settings.feeds[plan.source])
        return (built if isinstance(built, PythonFeed) else None), built.native
    native = feed or plan.source
    try:
        Decoder(native)
    except ValueError as error:
        raise ConfigError(
            f"{plan.source}: the settings do not name this source, so its feed is not known: "
            f"give it with --feed ({error})"
        ) from None
    return None, native


def _repair_and_print(settings: Config, plan: Plan, decoder: Any | None, native: str) -> None:
    for told in report_lines(repair(settings, plan, decoder, native)):
        print(f"{plan.source}: {told}")


def report_lines(report: Report) -> list[str]:
    """Returns what was moved, what was restored, and what is lost."""
    told = [f"moved {what} to {folder}" for what, folder in report.moved]
    told += [f"rebuilt {topic} from its input" for topic in report.remade]
    for topic in report.lake:
        told += [f"moved {path}: {why}" for path, why in topic.aside]
        if topic.restored or topic.aside:
            rows = "1 row" if topic.restored == 1 else f"{topic.restored:,} rows"
            told.append(f"lake: {topic.topic}: {rows} stored again from the tape")
    for lost in report.lost:
        count = lost.last - lost.first + 1
        items = "1 item" if count == 1 else f"{count:,} items"
        start = "" if lost.ts_start == UNKNOWN else f" from {format_time(lost.ts_start)}"
        told.append(
            f"lost: {items} of {lost.topic}, received{start} up to {format_time(lost.ts_end)} "
            f"(offsets {lost.first} to {lost.last}): see `tape gaps`"
        )
    return [*told, "repaired"]
