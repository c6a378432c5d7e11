"""Derives and stores all that is on the tapes of sources, and ends: after imports and repairs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tapeworks.errors import (
    ConfigError,
    ProcessorError,
    SinkError,
    SinkUnavailable,
    TapeworksError,
)
from tapeworks.jobs.base import Job, JobOutcome, WholeSourcesConfig
from tapeworks.pipeline import Config, processors_of
from tapeworks.processors.derive import STEPS, Derivation, Step
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.worker import feeders

log = logging.getLogger("tapeworks.jobs")
DERIVE_S_MAX = 86_400.0
STALLED_S = 60.0
"""A sink that stores nothing for so long does not get on."""
STEP_S_MIN = 1.0


@dataclass(frozen=True)
class CatchUpConfig(WholeSourcesConfig):
    """For how long it waits."""

    stalled_s: float = STALLED_S
    """A sink that stores nothing for so long does not get on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.stalled_s <= 86_400:
            raise ConfigError(f"stalled_s: expected more than 0, up to 86400, got {self.stalled_s}")


class CatchUpJob(Job):
    """Derive and store all that is on the tapes, while nothing else does."""

    Config = CatchUpConfig
    is_resumable = True

    def run(self) -> JobOutcome:
        """Does so for one source after the other.

        Raises:
            TapeLockedError: `tape up` does so at this moment.
            TapeError, SinkError: as `catch_up`.
        """
        for source in self.sources:
            feeds = {source: self.settings.feeds.get(source)}
            catch_up(replace(self.settings, feeds=feeds), stalled_s=self.config.stalled_s)
            self.tell(f"{source}: all is derived and stored")
        return JobOutcome()


def catch_up(
    config: Config, steps: Sequence[Step] = STEPS, *, stalled_s: float = STALLED_S
) -> None:
    """Derives and stores in this process all that is on the tapes of `config.feeds`, and ends.

    Raises:
        TapeLockedError: another process does so at this moment.
        TapeError: a tape is damaged; all others were derived and stored.
        SinkError: there was no time to derive and store everything.
        SinkUnavailable: a sink refused all for `stalled_s`, or lacks what no time brings.
    """
    left = []
    derivations = []
    for source in config.feeds:
        processors = processors_of(config, source)
        derivation = Derivation(processors, config.tape, config.data, source, steps)
        try:
            # What stopped has no lag: this is of what goes on without it.
            if not derivation.drain(DERIVE_S_MAX) and any(derivation.lags().values()):
                left.append(f"{source}: not everything is derived")
        finally:
            derivation.close()
        derivations.append(derivation)
    for name in config.sinks:
        for feeder in feeders(config, name):
            try:
                if not _store(feeder, max(stalled_s, STEP_S_MIN)):
                    left.append(f"{feeder.label}: {feeder.backlog} items are not stored")
            finally:
                feeder.close()
    told = f"{'; '.join(left)}: there was no time; `tape up` goes on there" if left else ""
    for derivation in derivations:
        try:
            derivation.raise_failure()
        except TapeworksError as error:
            if told and isinstance(error, ProcessorError):
                raise ProcessorError(f"{error}; {told}") from error
            if told:
                log.error(told)
            raise
    if told:
        raise SinkError(told)


def _store(feeder: Feeder, stalled_s: float) -> bool:
    """Stores all that is on a tape, for as long as that gets on; returns whether it did."""
    left = feeder.backlog
    while True:
        refusal: SinkUnavailable | None = None
        try:
            if feeder.drain(stalled_s):
                return True
        except SinkUnavailable as error:
            refusal = error
        before, left = left, feeder.backlog
        if left >= before or (refusal is not None and refusal.lacks_input):
            if refusal is not None:
                raise refusal
            return False
