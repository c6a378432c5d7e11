"""The contract of a job: work on a whole data folder that is done and then over.

`tape job NAME` runs one, in the foreground: by a name of the registry, by a table of the settings,
or by where its class is, with its settings on the command line:

    tape job lake-rebuild --set sources=binance-spot
    tape job my_package.my_module:MyJob --set days=7

    [jobs.nightly]
    kind = "my_package.my_module:MyJob"
    days = 7

It ends with an exit code that cron can trust. It may run beside everything else; what it writes in
the folder, it locks. `tape down` stops it like all that runs there. `examples/own_job.py` is a
whole one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.exits import EXIT_DONE, EXIT_FAILED, EXIT_INCOMPLETE
from tapeworks.pipeline import Config as PipelineConfig
from tapeworks.register import registered
from tapeworks.stopping import Stop
from tapeworks.views.base import SymbolsBySource, choose_sources, recorded_sources, resolve_symbols

DONE, FAILED, INCOMPLETE = EXIT_DONE, EXIT_FAILED, EXIT_INCOMPLETE
"""Exit codes: all was done; it failed or found a fault; it ran, and not everything was done."""


@dataclass(frozen=True)
class JobConfig:
    """The settings that every job has. One with more of its own derives from it."""

    kind: str = ""
    """Where the class is: `package.module:Class`, or a name of the registry."""
    sources: tuple[str, ...] = ()
    """None: all that were recorded."""
    symbols: tuple[str, ...] = ()
    """Of these sources, as their venues write them. None: all that they record."""


@dataclass(frozen=True)
class WholeSourcesConfig(JobConfig):
    """The settings of a job that knows no symbols."""

    def __post_init__(self) -> None:
        if self.symbols:
            raise ConfigError("symbols: expected none, as this job works on whole sources")


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended. That settings are wrong is no outcome: it raises `ConfigError`."""

    exit_code: int = DONE
    told: str = ""
    """What there is to say at the end."""

    def __post_init__(self) -> None:
        if self.exit_code not in (DONE, FAILED, INCOMPLETE):
            raise ValueError(f"exit_code: expected 0, 1 or 3, got {self.exit_code!r}")


class Job(ABC):
    """One piece of work on a data folder.

    A class that needs settings of its own names their dataclass as `Config`.
    """

    Config: ClassVar[type[JobConfig]] = JobConfig
    is_resumable: ClassVar[bool] = False
    """Whether it may be ended at any moment and run again: then Ctrl-C and SIGTERM end it where it
    is. Otherwise they set `stop`, and only a second one ends it where it is."""

    def __init__(
        self, config: Any, settings: PipelineConfig, stop: Stop, tell: Callable[[str], object]
    ) -> None:
        self.config = config
        self.settings = settings
        """Of the whole pipeline; of the feeds, those that are named."""
        self.data = settings.data
        self.stop = stop
        """Whether to end: looked at between two steps."""
        self.tell = tell
        """Shows a line of progress."""

    @abstractmethod
    def run(self) -> JobOutcome:
        """Does all of it.

        Raises:
            ConfigError: a setting is wrong; nothing was done.
            TapeworksError: it failed; the message says what to do.
        """

    @cached_property
    def sources(self) -> list[str]:
        """The sources that it is to work on.

        Raises:
            ConfigError: the settings name one that is not there; the message lists the others.
        """
        return choose_sources(self.config.sources, recorded_sources(self.data), self.data)

    @cached_property
    def symbols(self) -> SymbolsBySource:
        """Source -> the symbols that it is to work on.

        Raises:
            ConfigError: the settings name a source or a symbol that is not there.
        """
        return resolve_symbols(
            self.data, self.settings.symbols(), self.sources, self.config.symbols
        )


def run_job(job: Job, name: str) -> JobOutcome:
    """Runs a job, entered as `name` among what runs on its data folder.

    Raises:
        TapeworksError: it failed, or broke its contract.
    """
    with registered(job.data, "job", name, may_write=False):
        try:
            outcome: Any = job.run()
        except (TapeworksError, OSError):
            raise
        except Exception as error:
            raise TapeworksError(f"job {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(outcome, JobOutcome):
        raise TapeworksError(f"job {name}: expected `run` to return a JobOutcome, got {outcome!r}")
    return outcome
