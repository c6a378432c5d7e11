"""Which rules of alerts looked at which part of a source: without it, no alerts could mean either
that there was nothing to find, or that nobody looked.

    data/state/<source>/alert-rules.json

It is written when the rules of a source begin to run, when they are others than before, and when
one stops.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tapeworks._core import detector_table
from tapeworks.durable import make_folder, replace_file

_log = logging.getLogger("tapeworks.alerts")
KEPT_MAX = 1_000
"""Watches that are over, of one source: the oldest are forgotten."""
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1
OF_SOURCE = frozenset(head[0] for head, *_ in detector_table() if head[3])
"""Rules that look at a source as a whole unless they are told otherwise."""
UNITS: Mapping[str, str] = {head[0]: head[4] for head, *_ in detector_table() if head[4]}
"""Of each rule of the core the unit of its alerts' values, where these have one of their own."""


@dataclass(frozen=True)
class Watch:
    """One rule, as it was set, over one stretch of the normalized tape."""

    rule: str
    settings: str
    """All that the settings say of it; another text is another rule."""
    first: int
    """Offset of the first record that it looked at."""
    since: int | None = None
    """When about that was received, in ns; none: it is the first of all."""
    last: int | None = None
    """Offset behind the last record that it looked at; none: it goes on."""
    until: int | None = None
    why: str | None = None
    """Why it stopped before its settings changed."""

    @property
    def severity(self) -> str:
        """How bad its alerts are."""
        return self._words[2]

    @property
    def symbols(self) -> frozenset[str]:
        """The venue's symbols that it is for; none: all."""
        return frozenset(filter(None, self._words[4].split(",")))

    @property
    def is_of_source(self) -> bool:
        """Whether it looks at a source as a whole."""
        _, detector, _, scope, _ = self._words
        return scope == "source" or (not scope and detector in OF_SOURCE)

    @property
    def span(self) -> tuple[int, int]:
        """From when to when it looked, by receipt in ns; the end is not included."""
        low = TIME_MIN if self.since is None else self.since + 1
        if not self.is_over:
            return low, TIME_MAX
        if self.last == self.first:
            return low, low
        return low, low if self.until is None else self.until + 1

    def looks_at(self, symbol: str) -> bool:
        """Says whether it looks at the instrument `symbol` by itself."""
        return not self.is_of_source and (not self.symbols or symbol in self.symbols)

    @property
    def _words(self) -> list[str]:
        """Name, rule, severity, scope and symbols; before those of a user's own stands its kind."""
        words = self.settings.split("\t")
        words = words if words[0] == self.rule else words[1:]
        return [*words, *[""] * 5][:5]

    @property
    def is_over(self) -> bool:
        """Whether the rule does not run any more as it was set."""
        return self.last is not None


def read_watches(data: Path, source: str) -> list[Watch]:
    """Returns all watches of `source`, oldest first; none where no rule ever ran."""
    try:
        return _stored(data, source)
    except OSError as error:
        _complain(_path(data, source), error)
        return []


def _stored(data: Path, source: str) -> list[Watch]:
    path = _path(data, source)
    try:
        return [Watch(**one) for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (TypeError, ValueError) as error:
        _complain(path, error)
        return []


def _complain(path: Path, error: Exception) -> None:
    _log.error("%s cannot be read: which rules looked at what is not known: %s", path, error)


def note_watches(
    data: Path, source: str, rules: Mapping[str, str], offset: int, ts: int | None
) -> list[Watch]:
    """Notes that `rules`, name -> settings, look from `offset` on; returns those that begin there.

    What ran until now as it does from now on goes on; all other watches end.

    Raises:
        OSError: it could not be noted.
    """
    stored = _stored(data, source)
    # Where a repair took back what is behind `offset`, so it did what looked at it.
    known = [one for one in stored if one.first <= offset]
    running = {one.rule: one for one in known if not one.is_over}
    goes_on = {name for name, one in running.items() if rules.get(name) == one.settings}
    kept = [
        one if one.is_over or one.rule in goes_on else replace(one, last=offset, until=ts)
        for one in known
    ]
    since = ts if offset else None
    begun = [
        Watch(name, text, offset, since) for name, text in rules.items() if name not in goes_on
    ]
    # What was set and never saw a record tells nothing.
    over = [one for one in kept if one.is_over and one.last != one.first][-KEPT_MAX:]
    watches = [*over, *(one for one in kept if not one.is_over), *begun]
    if watches != stored:
        _write(data, source, watches)
    return begun


def end_watch(data: Path, source: str, rule: str, offset: int, ts: int | None, why: str) -> None:
    """Notes that `rule` stopped and looked at nothing from `offset` on.

    Raises:
        OSError: it could not be noted.
    """
    stored = _stored(data, source)
    watches = [
        replace(one, last=offset, until=ts, why=why)
        if one.rule == rule and not one.is_over and one.first <= offset
        else one
        for one in stored
    ]
    if watches != stored:
        _write(data, source, watches)


def _write(data: Path, source: str, watches: Sequence[Watch]) -> None:
    path = _path(data, source)
    make_folder(path.parent)
    replace_file(path, json.dumps([asdict(one) for one in watches]))


def _path(data: Path, source: str) -> Path:
    return data / "state" / source / "alert-rules.json"
