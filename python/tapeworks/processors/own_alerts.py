"""Rules of alerts in Python: their contract, and what runs them beside those of the core.

    [[alerts]]
    name = "large"
    kind = "my_package.my_module:LargeTrades"
    size = 10.0

A rule sees every record of `market-data.normalized` in order, and no clock. What it finds of a
record depends on the records before it alone, never on where batches begin or end, so that live
equals replay. Its alerts are on the tape `market-data.alerts` among those of the core, in the order
of the records that caused them. `examples/own_rule.py` is a whole one.

A rule that raises stops alone, at the record that it raises at, and its alerts are closed. One that
takes too long for a batch is made anew as it was before, and tried again with more time.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks._core import NONE, Records, dtype_descr, kind_of, numbers
from tapeworks._core import Processor as CoreProcessor
from tapeworks.errors import ProcessorError
from tapeworks.processors.alerts import AlertRule, CoreSettings
from tapeworks.processors.base import (
    EARLIEST,
    Ending,
    HasParts,
    Processor,
    ReadsDefinitions,
    ReadsOutput,
    newest_receipt,
)
from tapeworks.processors.rule_runner import LIMITS_S, RuleRunner
from tapeworks.processors.time_limit import CallTimeoutError, ended_after
from tapeworks.processors.told_alerts import IDS, Open, Told

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = logging.getLogger("tapeworks.processors")

ALERT = np.dtype(dtype_descr("alert"))
STATES, SEVERITIES, SIDES = numbers("alert_state"), numbers("severity"), numbers("side")
FOUND = ("opened", "updated", "closed", "instant")
Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Finding:
    """What a rule has to say: that something began, is worse, or ended."""

    offset: int
    """Offset of the record that caused it: its `tape_offset`."""
    ts: int
    """Time of what it says, in ns."""
    state: str = "opened"
    """`opened`, `updated` or `closed`; `instant`: opened and closed at once."""
    instrument: int = 0
    """0: the source as a whole."""
    ts_start: int | None = None
    """Since when; none: since `ts`."""
    value: float = float("nan")
    threshold: float = float("nan")
    price: int = NONE
    """Units of 1e-9, as records have it."""
    size: int = NONE
    """Units of 1e-8."""
    count: int = 1
    side: str = ""
    """`bid` or `ask`."""
    subject: str = ""
    detail: str = ""
    first_offset: int | None = None
    """Offset of the first record that is evidence; none: `offset`."""


class Rule(ABC):
    """Looks for one thing in the stream of a source.

    `rule` are its settings, `parameters` what these say beside name and severity, or the default.
    """

    Config: ClassVar[type[AlertRule]] = AlertRule
    defaults: ClassVar[Mapping[str, float | str] | None] = None
    """Its parameters with their defaults: others are refused. None: any are taken."""

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self.parameters = {**(self.defaults or {}), **rule.parameters}

    @abstractmethod
    def process(self, batch: Records) -> Iterable[Finding]:
        """Returns what follows from `batch`, in the order of its records."""

    def snapshot(self) -> Any:
        """Returns the whole state, as JSON can hold it; none unless overridden."""
        return None

    def restore(self, state: Any) -> None:  # noqa: B027
        """Takes in what `snapshot` of a rule of the same settings returned."""


class AlertsProcessor(Processor, ReadsDefinitions, ReadsOutput, HasParts):
    """The rules of the core and those of the user's own, as one processor."""

    def __init__(
        self,
        settings: CoreSettings,
        rules: Sequence[AlertRule],
        begun: Mapping[str, int] | None = None,
    ) -> None:
        """`begun` has, by name, at which record rules began anew that had stopped before."""
        super().__init__((dict(settings), tuple(rules)))
        self._begun = dict(begun or {})
        self._core = CoreProcessor("alerts", settings) if settings else None
        self._rules = [RuleRunner(rule) for rule in rules]
        self._ids = [0] * len(rules)
        self._open: list[dict[int, Open]] = [{} for _ in rules]
        """Of each rule the alert that is open, by instrument."""
        self._ts = EARLIEST
        """The newest receive time so far."""
        self._next = 0
        """Offset of the record that comes next."""
        self._endings: list[Ending] = []
        self._told = Told()
        """What the output holds, while it is compared with the state."""

    def process(self, batch: Records) -> "Buffer":
        """Returns the alerts of all rules, in the order of the records that caused them."""
        parts: list[Rows] = []
        if self._core is not None:
            parts.append(np.frombuffer(memoryview(self._core.process(batch)), ALERT))
        notes = _acknowledgements(batch)
        for number in range(len(self._rules)):
            parts += self._look(number, notes, batch)
        self._ts, self._next = max(self._ts, newest_receipt(batch)), batch.next_offset
        if not parts:
            return b""
        rows = np.concatenate(parts)
        return rows[np.argsort(rows["sequence"], kind="stable")].tobytes()

    def define(self, definitions: Records) -> None:
        """Tells the rules of the core, some of which are for symbols."""
        if self._core is not None:
            self._core.define(definitions)

    def take_loss(self, gap: Records) -> "Buffer":
        """Tells the rules of the core, which look at what is gone, too."""
        return b"" if self._core is None else self._core.lost(gap)

    def take_endings(self) -> list[Ending]:
        """Returns which rules stopped since the last call."""
        endings, self._endings = self._endings, []
        return endings

    def begin_again(self) -> "Buffer":
        """Begins the rules anew that have stopped: they look at what comes next, as new ones.

        So does one that cannot take in its state, as it was changed since.
        """
        self._endings = []
        parts: list[Rows] = []
        for number, rule in enumerate(self._rules):
            if rule.ending is None:
                continue
            self._endings.append(replace(rule.ending, is_over=True))
            parts += self._end_alerts(number, self._ts)
            rule.begin()
        return np.concatenate(parts).tobytes() if parts else b""

    def _look(self, number: int, notes: Sequence[Rows], batch: Records) -> list[Rows]:
        """Returns the records of a rule; where it fails, of what it found before."""
        rule = self._rules[number]
        if (begun := self._begun.get(rule.rule.name)) is not None:
            # What is before it, and what it stopped at there, is no part of its state.
            if batch.next_offset <= begun:
                return []
            del self._begun[rule.rule.name]
            rule.begin()
            self._open[number] = {}
            batch = batch.slice(max(0, begun - batch.first_offset), len(batch))
            notes = [one for one in notes if one["sequence"][0] >= batch.first_offset]
        if rule.ending is not None:
            return self._end_alerts(number, _receipt(batch, 0), batch.first_offset)
        overdue: CallTimeoutError | None = None
        for limit_s in LIMITS_S:
            try:
                return self._try(number, notes, batch, limit_s)
            except CallTimeoutError as error:
                overdue = error
                log.warning("the rule %s is slow: for one batch %s", rule.rule.name, error)
            except Exception:
                overdue = None
                break
        if overdue is not None:
            return self._stop(number, overdue, batch)
        return self._look_singly(number, notes, batch)

    def _look_singly(self, number: int, notes: Sequence[Rows], batch: Records) -> list[Rows]:
        """Does the same record by record, so that a rule stops at the same one at any batch size.

        Where it does not raise again, it goes on.
        """
        found: list[Rows] = []
        for place in range(len(batch)):
            one = batch.slice(place, place + 1)
            about = [note for note in notes if note["sequence"][0] == one.first_offset]
            try:
                found += self._try(number, about, one, LIMITS_S[-1])
            except Exception as error:
                return found + self._stop(number, error, one)
        return found

    def _try(
        self, number: int, notes: Sequence[Rows], batch: Records, limit_s: float
    ) -> list[Rows]:
        """Returns the records of a rule; where it raises, all is as it was before."""
        rule, newest = self._rules[number], self._ids[number]
        known = {key: replace(one) for key, one in self._open[number].items()}
        try:
            with ended_after(LIMITS_S[-1]):
                rule.prepare()
            with ended_after(limit_s):
                found = list(self._found(number, rule.process(batch), notes, batch))
        except BaseException:
            self._open[number], self._ids[number] = known, newest
            rule.go_back()
            raise
        rule.keep(batch)
        return found

    def _stop(self, number: int, error: BaseException, batch: Records) -> list[Rows]:
        """Stops a rule at the first record of `batch`; returns the ends of its alerts."""
        self._endings.append(self._rules[number].stop(batch.first_offset, error))
        return self._end_alerts(number, _receipt(batch, 0), batch.first_offset)

    def _end_alerts(self, number: int, ts: int, offset: int | None = None) -> list[Rows]:
        """Closes what a rule that has stopped has open."""
        known, self._open[number] = self._open[number], {}
        ends = [_closed(one.row, ts, "reason=rule-stopped") for _, one in sorted(known.items())]
        for row in ends if offset is not None else ():
            row["sequence"] = offset
        return ends

    def _found(
        self, number: int, findings: Iterable[Finding], notes: Sequence[Rows], batch: Records
    ) -> Iterator[Rows]:
        """Yields the records of a rule, with who has seen an alert in the place of the note."""
        waiting = list(notes)
        for one in findings:
            while waiting and waiting[0]["sequence"][0] <= one.offset:
                yield from self._acknowledged(number, waiting.pop(0))
            yield from self._rows(number, one, batch)
        for note in waiting:
            yield from self._acknowledged(number, note)

    def _acknowledged(self, number: int, note: Rows) -> Iterator[Rows]:
        """Yields the record of an alert that `note` is about, if it is open and was not seen."""
        for known in self._open[number].values():
            if known.id == note["id"][0] and not known.is_acknowledged:
                row = known.row.copy()
                for name in ("detail", "state", "ts_event", "ts_recv", "sequence"):
                    row[name] = note[name]
                known.is_acknowledged = True
                yield row

    def _rows(self, number: int, found: Finding, batch: Records) -> list[Rows]:
        """Returns the records of one finding: one, or two of what is over at once."""
        # Numbers of numpy are numbers, but none that a state can hold.
        found = replace(
            found, offset=int(found.offset), ts=int(found.ts), instrument=int(found.instrument)
        )
        if not batch.first_offset <= found.offset < batch.next_offset:
            raise ProcessorError(f"expected the offset of a record of the batch, got {found}")
        if found.state not in FOUND:
            raise ProcessorError(
                f"expected a state of {', '.join(FOUND)}, got {found.state!r} in {found}"
            )
        states = ("opened", "closed") if found.state == "instant" else (found.state,)
        return [self._row(number, found, state, batch) for state in states]

    def _row(self, number: int, found: Finding, state: str, batch: Records) -> Rows:
        rule, known = self._rules[number].rule, self._open[number]
        row = np.zeros(1, ALERT)
        if found.instrument in known:
            state = "updated" if state == "opened" else state
            before = known[found.instrument].row
            for name in ("id", "ts_start", "first_offset"):
                row[name] = before[name]
        elif state != "opened":
            raise ProcessorError(f"{rule.name}: no alert is open that could be {state}")
        else:
            self._ids[number] += 1
            row["id"] = (number + 1) * IDS + self._ids[number]
            row["ts_start"] = found.ts if found.ts_start is None else found.ts_start
            row["first_offset"] = found.offset if found.first_offset is None else found.first_offset
        row["length"], row["kind"] = ALERT.itemsize // 8, kind_of("alert")
        row["instrument"], row["ts_event"] = found.instrument, found.ts
        row["sequence"] = row["last_offset"] = found.offset
        row["ts_recv"] = _receipt(batch, found.offset - batch.first_offset)
        row["ts_end"] = found.ts if state == "closed" else NONE
        row["value"], row["threshold"] = found.value, found.threshold
        row["price"], row["size"], row["count"] = found.price, found.size, found.count
        row["rule"], row["detector"] = rule.name.encode(), b"own"
        row["subject"] = _fitted(found.subject, ALERT["subject"].itemsize)
        row["detail"] = _fitted(found.detail, ALERT["detail"].itemsize)
        row["state"], row["severity"] = STATES[state], SEVERITIES[rule.severity]
        row["side"] = SIDES.get(found.side, 0)
        if state == "closed":
            del known[found.instrument]
        elif found.instrument in known:
            known[found.instrument].row = row
        else:
            known[found.instrument] = Open(row)
        return row

    def take_output(self, written: Records) -> None:
        """Takes in what was told: the core what is of its rules, and all else is kept here."""
        rows = np.frombuffer(bytes(written.numpy("alert")), ALERT)
        names = [rule.rule.name.encode() for rule in self._rules]
        is_own = (rows["id"] >= IDS) & np.isin(rows["rule"], names)
        if self._core is not None:
            # An alert of a rule that is gone, or is of another kind now, is closed by the core.
            self._core.take_output(Records.from_bytes(rows[~is_own].tobytes()))
            rows = rows[is_own]
        self._told.take(rows)

    def reconcile(self) -> "Buffer":
        """Returns what makes the output that was taken in follow from the state."""
        parts: list[Rows] = []
        if self._core is not None:
            parts.append(np.frombuffer(memoryview(self._core.reconcile()), ALERT))
        told, self._told = self._told, Told()
        for number, rule in enumerate(self._rules):
            first = (number + 1) * IDS
            self._ids[number] = max(self._ids[number], told.newest[number + 1] - first)
            for instrument, known in sorted(self._open[number].items()):
                one = told.known(rule.rule.name, instrument)
                if one is None and rule.ending is not None:
                    # It stopped, and that its alert is over was told before the state was kept.
                    del self._open[number][instrument]
                    continue
                parts += self._follow(number, known, one)
        names = {rule.rule.name.encode() for rule in self._rules}
        for one in told.open.values():
            is_gone = one.row["rule"][0] not in names
            reason = "reason=rule-removed" if is_gone else "reason=settings-changed"
            parts.append(_closed(one.row, self._ts, reason))
        return np.concatenate(parts).tobytes() if parts else b""

    def _follow(self, number: int, known: Open, told: Open | None) -> list[Rows]:
        """Goes on with the alert that was told to be open, or tells of the one that was not."""
        known.is_acknowledged = told is not None and told.is_acknowledged
        severity = SEVERITIES[self._rules[number].rule.severity]
        if told is None:
            self._ids[number] += 1
            known.row["id"] = (number + 1) * IDS + self._ids[number]
            known.row["state"] = STATES["opened"]
        else:
            known.row["id"], known.row["ts_start"] = told.row["id"], told.row["ts_start"]
            if told.row["severity"][0] == severity:
                return []
            known.row["state"] = STATES["updated"]
        known.row["severity"] = severity
        known.row["ts_recv"] = np.maximum(known.row["ts_recv"], self._ts)
        return [known.row.copy()]

    def snapshot(self) -> bytes:
        """Returns the states of all rules."""
        core = b"" if self._core is None else self._core.snapshot()
        own = {
            "rules": [self._state(rule) for rule in self._rules],
            "endings": [one.ending and (one.ending.offset, one.ending.why) for one in self._rules],
            "next": self._next,
            "ids": self._ids,
            "ts": self._ts,
            "open": [[(key, one.to_json()) for key, one in known.items()] for known in self._open],
        }
        return len(core).to_bytes(8, "little") + core + json.dumps(own).encode()

    def _state(self, rule: RuleRunner) -> Any:
        """Returns the state of a rule; none of one that has stopped, as by this."""
        if rule.ending is None:
            try:
                with ended_after(LIMITS_S[-1]):
                    rule.take_state()
            except Exception as error:
                self._endings.append(rule.stop(self._next, error))
        return json.loads(rule.state)

    def restore(self, state: bytes) -> None:
        """Takes in what `snapshot` returned.

        Raises:
            ValueError: it is of an earlier version, which did not keep what was told.
        """
        length = int.from_bytes(state[:8], "little")
        own = json.loads(state[8 + length :])
        if "ts" not in own:
            raise ValueError("it is of an earlier version: not used")
        if self._core is not None:
            self._core.restore(state[8 : 8 + length])
        self._next = own.get("next", 0)
        self._begun = {name: at for name, at in self._begun.items() if at >= self._next}
        endings = own.get("endings", [None] * len(self._rules))
        for rule, saved, ended in zip(self._rules, own["rules"], endings, strict=True):
            rule.begin(json.dumps(saved), ended and Ending(rule.rule.name, *ended))
            self._prepare(rule)
        self._ids, self._ts = own["ids"], own["ts"]
        self._open = [
            {key: Open(_row_of(row), is_seen) for key, (row, is_seen) in known}
            for known in own["open"]
        ]

    def _prepare(self, rule: RuleRunner) -> None:
        """Has a rule take in its state; one that cannot has stopped."""
        if rule.ending is not None:
            return
        try:
            with ended_after(LIMITS_S[-1]):
                rule.prepare()
        except CallTimeoutError:
            # It is tried again with its first batch.
            rule.go_back()
        except Exception as error:
            self._endings.append(rule.stop(self._next, error))


def _closed(row: Rows, ts: int, reason: str) -> Rows:
    """Returns the end of an alert that no rule knows any more."""
    end = np.maximum(row["ts_recv"], ts)
    closed = row.copy()
    closed["state"], closed["detail"] = STATES["closed"], reason.encode()
    closed["ts_event"] = closed["ts_recv"] = end
    closed["ts_end"] = np.maximum(end, row["ts_start"])
    return closed


def _acknowledgements(batch: Records) -> list[Rows]:
    """Returns who has seen an alert of a rule in Python, each with its place on the tape."""
    if kind_of("alert") not in batch.kinds():
        return []
    notes = np.frombuffer(bytes(batch.numpy("alert")), ALERT).copy()
    table = pa.record_batch(batch.arrow("alert", offsets=True))
    notes["sequence"] = table.column("tape_offset").to_numpy()
    is_meant = (notes["state"] == STATES["acknowledged"]) & (notes["id"] >= IDS)
    return list(notes[is_meant].reshape(-1, 1))


def _row_of(text: str) -> Rows:
    return np.frombuffer(bytes.fromhex(text), ALERT).copy()


def _fitted(text: str, bytes_max: int) -> bytes:
    """Returns as many whole characters of `text` as fit."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore").encode()


def _receipt(batch: Records, place: int) -> int:
    return newest_receipt(batch.slice(place, place + 1))
