"""Runs one rule of the user's own, such that it can go back to before a batch in which it failed.

A rule that raises in the middle of a batch leaves a state that nobody knows. It is then made anew,
from the last state that it gave and the records that it was given since, so that it can be tried
again, or be asked record by record which one it fails at.
"""

import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tapeworks._core import Records
from tapeworks.printable import one_line
from tapeworks.processors.alerts import AlertRule
from tapeworks.processors.base import Ending
from tapeworks.processors.time_limit import CallError, told_by
from tapeworks.registry import load_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapeworks.processors.own_alerts import Finding, Rule

# After so many records, or calls, a state is taken, and the records before it are let go.
KEPT_RECORDS, KEPT_CALLS = 4096, 256
# Seconds that a rule may take for a batch, one try after the other: the first may load libraries,
# on a machine that is busy.
LIMITS_S = (10.0, 20.0, 40.0)
# The state of a rule that has seen nothing.
NEW = "null"
WHY_MAX = 400
PACKAGE = str(Path(__file__).parents[1]) + "/"


@dataclass
class RuleRunner:
    """One rule, and what makes it anew."""

    rule: AlertRule
    state: str = NEW
    """The last state that it gave, as JSON."""
    ending: Ending | None = None
    """Where and why it stopped; none: it looks."""

    def __post_init__(self) -> None:
        self._made: Rule | None = None
        self._given: list[Records] = []
        """What it was given since that state."""
        self._count = 0

    def process(self, batch: Records) -> "Iterable[Finding]":
        """Returns what the rule finds in `batch`; whatever it raises is raised."""
        return self._prepared().process(batch)

    def keep(self, batch: Records) -> None:
        """Notes that the rule has seen all of `batch`."""
        self._given.append(batch)
        self._count += len(batch)

    def go_back(self) -> None:
        """Forgets the rule as it is: it is made anew, as it was before the last `process`."""
        self._made = None

    def prepare(self) -> None:
        """Makes the rule, if it is not made yet; whatever it raises is raised."""
        self._prepared()

    def take_state(self) -> None:
        """Has the rule give its state; whatever it raises is raised."""
        if self._made is None and not self._given:
            return
        self.state = json.dumps(self._prepared(is_whole=False).snapshot())
        self._given, self._count = [], 0

    def stop(self, offset: int, error: BaseException) -> Ending:
        """Ends the rule: it sees nothing from the record at `offset` on."""
        self.ending = Ending(self.rule.name, offset, reason(error), error)
        self.begin(ending=self.ending)
        return self.ending

    def begin(self, state: str = NEW, ending: Ending | None = None) -> None:
        """Begins with `state`; with `ending` it has stopped."""
        self.state, self.ending = state, ending
        self._made, self._given, self._count = None, [], 0

    def _prepared(self, *, is_whole: bool = True) -> "Rule":
        if self._made is None:
            made: Rule = load_member("rule", self.rule.kind)(self.rule)
            if self.state != NEW:
                made.restore(json.loads(self.state))
            for batch in self._given:
                for _ in made.process(batch):
                    pass
            self._made = made
        is_much = self._count >= KEPT_RECORDS or len(self._given) >= KEPT_CALLS
        if is_whole and is_much:
            self.take_state()
        return self._made


def reason(error: BaseException) -> str:
    """Returns what `error` says, and the line of the user's own module that it comes from."""
    words = one_line(told_by(error))[:WHY_MAX]
    error = error.__cause__ or error if isinstance(error, CallError) else error
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not _is_ours(one)]
    if not frames:
        return words
    path = frames[0].filename
    line = [one.lineno for one in frames if one.filename == path][-1]
    return f"{words} ({path.rpartition('/')[2]}, line {line})"


def _is_ours(frame: traceback.FrameSummary) -> bool:
    """Whether it is of this package, or of what imports modules."""
    return frame.filename.startswith((PACKAGE, "<frozen")) or "/importlib/" in frame.filename
