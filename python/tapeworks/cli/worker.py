"""`tape worker`: one worker alone, in the foreground, for containers and other supervisors."""

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

from tapeworks.cli.command import Application, Exit, argument
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.settings import load_named, load_written
from tapeworks.pipeline import Worker, run_worker
from tapeworks.worker import EXIT_DAMAGED, EXIT_FAILED, EXIT_INCOMPLETE, EXIT_REFUSED

app = Application()

EXAMPLES = """\
Examples:
  tape worker recorder binance-spot
  tape worker derive binance-spot
  tape worker sink parquet --data /mnt/data
  tape worker view metrics

NAME is a source for a recorder and for derive, and else the name of a sink or a view. All workers
of a data folder must share one disk. Each resumes where it stopped. A view needs no feed in the
settings, and no right to write.

Ctrl-C and SIGTERM end it in good order. It exits with
  0  it was stopped, and everything requested was done
  1  it failed: another process does this work, or a tape is damaged (`tape verify` shows it)
  2  wrong arguments or settings: a restart does not help
  3  the venue refuses a request, or not everything was recorded, derived or stored
"""

EXIT_CODES = {EXIT_REFUSED: EXIT_INCOMPLETE, EXIT_DAMAGED: EXIT_FAILED}


class Kind(StrEnum):
    """What a worker does."""

    RECORDER = "recorder"
    DERIVE = "derive"
    SINK = "sink"
    VIEW = "view"


@app.command(epilog=EXAMPLES)
def worker(
    kind: Annotated[Kind, argument(help="What it does.")],
    name: Annotated[str, argument(help="A source, a sink or a view.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Run one worker of tapeworks.toml alone, in the foreground, without a supervisor."""
    settings = load_written(config) if kind is Kind.VIEW else load_named(config)
    code = run_worker(replace(settings, data=data or settings.data), Worker(kind.value, name))
    raise Exit(EXIT_CODES.get(code, code))
