"""`tape worker`: one worker alone, in the foreground, for containers and other supervisors."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import Application, Exit, argument, option
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.settings import load_named, load_written
from tapeworks.errors import ConfigError
from tapeworks.exits import EXIT_DAMAGED, EXIT_FAILED, EXIT_INCOMPLETE, EXIT_REFUSED
from tapeworks.pipeline import Worker, run_replica, run_worker

app = Application()

EXAMPLES = """\
Examples:
  tape worker recorder binance-spot
  tape worker derive binance-spot
  tape worker sink parquet --data /mnt/data
  tape worker view metrics
  tape worker derive --from kafka://broker:9092/market-data.normalized --data books

NAME is a source for a recorder and for derive, and else the name of a sink or a view. All workers
of a data folder must share one disk. Each resumes where it stopped. A view needs no feed in the
settings, and no right to write. With --from, derive reads a topic that another machine publishes
into tapes of its own; any number of such workers share its partitions out.

Ctrl-C and SIGTERM end it in good order. It exits with
  0  it was stopped, and everything requested was done
  1  it failed: another process does this work, or a tape is damaged (`tape verify` shows it)
  2  wrong arguments or settings: a restart does not help
  3  the venue refuses a request, or not everything was recorded, derived or stored
"""

EXIT_CODES = {EXIT_REFUSED: EXIT_INCOMPLETE, EXIT_DAMAGED: EXIT_FAILED}


FromOption = Annotated[
    str | None,
    option("--from", help="derive: read this topic, such as kafka://HOST:PORT/TOPIC."),
]
OnlyOption = Annotated[
    str | None,
    option("--only", help="With --from: only these processors, such as books,bars."),
]


class Kind(StrEnum):
    """What a worker does."""

    RECORDER = "recorder"
    DERIVE = "derive"
    SINK = "sink"
    VIEW = "view"


@app.command(epilog=EXAMPLES)
def worker(
    kind: Annotated[Kind, argument(help="What it does.")],
    name: Annotated[str | None, argument(help="A source, a sink or a view.")] = None,
    origin: FromOption = None,
    only: OnlyOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Run one worker of tapeworks.toml alone, in the foreground, without a supervisor."""
    if origin is not None:
        _run_replica(kind, name, origin, only, config, data)
    if name is None or only is not None:
        raise ConfigError(
            "--only goes with --from" if name else f"expected the NAME of a {kind.value}, got none"
        )
    settings = load_written(config) if kind is Kind.VIEW else load_named(config)
    code = run_worker(replace(settings, data=data or settings.data), Worker(kind.value, name))
    raise Exit(EXIT_CODES.get(code, code))


def _run_replica(
    kind: Kind,
    name: str | None,
    origin: str,
    only: str | None,
    config: Path | None,
    data: Path | None,
) -> None:
    """Runs `derive --from`, and exits with its code."""
    if kind is not Kind.DERIVE or name is not None:
        raise ConfigError("expected `tape worker derive --from ADDRESS`, without a NAME")
    settings = load_written(config)
    names = tuple(filter(None, (only or "").split(",")))
    code = run_replica(replace(settings, data=data or settings.data), origin, names)
    raise Exit(EXIT_CODES.get(code, code))
