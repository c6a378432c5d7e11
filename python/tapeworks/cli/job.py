"""`tape job`: runs one job on a data folder, in the foreground."""

import contextlib
import inspect
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from tapeworks.cli.command import Application, argument, ending_with, option
from tapeworks.cli.options import (
    ConfigOption,
    DataOption,
    read_settings,
    recorded,
    text_settings,
)
from tapeworks.cli.settings import load_written
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError
from tapeworks.jobs.base import JobOutcome, run_job
from tapeworks.registry import MEMBERS, load_member
from tapeworks.settings import Config, resolve_member
from tapeworks.stopping import Stop

# What comes sooner after a signal is the same one: a terminal sends it to a process and its group.
SAME_SIGNAL_S = 1.0
STOPPING = "stopping when the job can; Ctrl-C again ends it at once"

app = Application()

EXAMPLES = """\
Examples:
  tape job                                        # lists those that there are
  tape job catch-up
  tape job lake-rebuild --set sources=binance-spot
  tape job my_package.my_module:MyJob --set days=7 --data /mnt/data
  tape job nightly                                # as [jobs.nightly] of tapeworks.toml says

A job of your own is a class derived from `Job` of tapeworks/jobs/base.py. It exits with
  0  everything was done
  1  it failed, or found a fault
  2  wrong arguments or settings
  3  it ran, but not everything was done
  130  it was interrupted: run it again
"""


@app.command(epilog=EXAMPLES)
def job(
    name: Annotated[str, argument(help="A job, or module:Class of your own.")] = "",
    settings: Annotated[
        list[str] | None,
        option("--set", help="A setting of the job, such as days=7.", metavar="K=V"),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Run one job on a data folder, such as a rebuild, or one of your own."""
    if not name:
        if settings:
            raise ConfigError("expected the name of a job before --set; `tape job` lists them")
        _list(load_written(config))
        return
    end_with(run_named(name, text_settings(settings or ()), config, data))


def run_named(
    name: str, given: Mapping[str, Value], config: Path | None, data: Path | None
) -> JobOutcome:
    """Runs the job `name`: of the registry, of the settings, or where its class is.

    `given` stands above what the settings say.

    Raises:
        ConfigError: there is no such job, or a setting is wrong.
    """
    settings = load_written(config)
    found, key = _resolve(read_settings(config).table("jobs"), name, given)
    kind = load_member("job", found.kind)
    settings = replace(settings, data=recorded(data, config))
    stop = Stop()
    if not kind.is_resumable:
        _StopOnSignals(stop).install()
    return run_job(kind(found, settings, stop, _tell), key)


def end_with(outcome: JobOutcome) -> None:
    """Prints what there is to say, and ends the command with its exit code."""
    with ending_with(outcome.exit_code):
        if outcome.told:
            print(outcome.told)


def _resolve(jobs: Section, name: str, given: Mapping[str, Value]) -> tuple[Any, str]:
    key = name.rpartition(":")[2] if ":" in name else name
    entries = dict(jobs.table(key).entries) if name == key else {}
    if name != key:
        entries["kind"] = Value(name, "the command line")
    elif name not in MEMBERS["job"] and "kind" not in entries:
        known = [*sorted({*MEMBERS["job"], *jobs.entries})]
        raise ConfigError(
            f"expected a job of {', '.join(known)}, or a class of your own such as "
            f"'my_package.my_module:MyJob', got {name!r}"
        )
    table = Section(f"jobs.{key}", {**entries, **given})
    return resolve_member("job", key, Section("jobs", {key: table})), key


def _tell(line: str) -> None:
    # A job may take hours: whoever reads it through a pipe sees each line when it is said.
    print(line, flush=True)


class _StopOnSignals:
    """Ctrl-C and SIGTERM: the first asks a job to stop, a second one ends it where it is."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._first: float | None = None

    def install(self) -> None:
        """Handles the signals from now on."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = time.monotonic()
            self._stop.set()
            # Not `print`: it may have been in the middle of one.
            with contextlib.suppress(OSError):
                os.write(2, f"{STOPPING}\n".encode())
        elif time.monotonic() - self._first >= SAME_SIGNAL_S:
            raise KeyboardInterrupt


def _list(settings: Config) -> None:
    kinds = {name: name for name in MEMBERS["job"]}
    kinds |= {name: one.kind for name, one in settings.jobs.items()}
    width = max(map(len, kinds))
    for name, kind in sorted(kinds.items()):
        told = (inspect.getdoc(load_member("job", kind)) or "").partition("\n")[0]
        print(f"{name:<{width}}  {told}")
