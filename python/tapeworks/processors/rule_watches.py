"""Notes which rules of alerts look at the records of a source, and from where to where."""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tapeworks._core import TapeReader
from tapeworks.alert_watches import end_watch, note_watches, read_watches
from tapeworks.errors import ProcessorError, TapeError
from tapeworks.processors.base import Ending, received_before
from tapeworks.tape import has_segments
from tapeworks.topics import ALERTS, NORMALIZED

log = logging.getLogger("tapeworks.processors")


class HasRules(Protocol):
    """The settings of rules that are read here."""

    @property
    def own_rules(self) -> Mapping[str, Any]:
        """Rules of alerts whose class is the user's own, by name."""

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` by name."""


class RuleWatches:
    """What is noted for those who find no alerts, and logged for those who wait for some."""

    def __init__(self, data: Path, source: str, processors: HasRules) -> None:
        self._data = data
        self._source = source
        self._processors = processors
        self._waiting: list[Callable[[], None]] = []
        """What could not be noted yet, in its order."""
        self._complained = ""

    def note_none(self) -> None:
        """Notes that no rules look any more, where some ever did."""
        try:
            if has_segments(self._data / "tape" / self._source / ALERTS):
                self.note(TapeReader(self._data / "tape" / self._source / ALERTS).covered or 0)
        except (OSError, TapeError) as error:
            self._complain(error)

    def begun_anew(self) -> dict[str, int]:
        """Returns, by name, at which record rules of the user's own began anew that go on as they
        are."""
        wanted = {name: _own_text(one) for name, one in self._processors.own_rules.items()}
        found: dict[str, int] = {}
        stopped: set[str] = set()
        for one in read_watches(self._data, self._source):
            if one.settings != wanted.get(one.rule):
                continue
            if one.is_over:
                stopped |= {one.rule} if one.why is not None else set()
            elif one.rule in stopped:
                found[one.rule] = one.first
        return found

    def note(self, covered: int) -> None:
        """Notes that the rules of the settings look from `covered` on."""
        lines = str(self._processors.settings("alerts").get("rules", "")).split("\n")
        rules = {line.partition("\t")[0]: line for line in lines if line}
        rules |= {name: _own_text(one) for name, one in self._processors.own_rules.items()}
        self._waiting.append(partial(self._begin, rules, covered))
        self.note_waiting()

    def note_waiting(self) -> None:
        """Notes what could not be noted before, as far as that can be now."""
        while self._waiting:
            try:
                self._waiting[0]()
            except (OSError, TapeError) as error:
                self._complain(error)
                return
            del self._waiting[0]
        self._complained = ""

    def _begin(self, rules: Mapping[str, str], covered: int) -> None:
        begun = note_watches(self._data, self._source, rules, covered, self._before(covered))
        for one in begun if covered else ():
            log.warning(
                "%s: the rule %s looks at what comes from here on; `tape alerts try %s` tells what "
                "it would have found before",
                self._source,
                one.rule,
                shlex.quote(one.rule),
            )

    def end(self, ending: Ending) -> ProcessorError | None:
        """Notes that a rule has stopped; returns why, unless it began anew since."""
        self._waiting.append(partial(self._end, ending))
        self.note_waiting()
        told = f"the rule {ending.part} stopped at the record {ending.offset}: {ending.why}"
        if ending.is_over:
            log.warning("%s: %s; it begins anew with what comes now", self._source, told)
            return None
        log.info("%s: the rule %s raised", self._source, ending.part, exc_info=ending.error)
        log.error("%s: %s; all others continue; fix it and restart", self._source, told)
        failure = ProcessorError(f"{self._source}: {told}")
        failure.__cause__ = ending.error
        return failure

    def _end(self, ending: Ending) -> None:
        until = self._before(ending.offset)
        end_watch(self._data, self._source, ending.part, ending.offset, until, ending.why)

    def _before(self, offset: int) -> int | None:
        return received_before(self._data / "tape" / self._source / NORMALIZED, offset)

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complained:
            self._complained = str(error)
            log.error(
                "%s: which rules look from now on cannot be noted: tried again: %s",
                self._source,
                error,
            )


def _own_text(rule: Any) -> str:
    """Returns all that the settings say of a rule of the user's own."""
    return f"{rule.kind}\t{rule.to_core()}"
