"""Rules of alerts in Python: their contract, and what runs them beside those of the core.

    [[alerts]]
    name = "large"
    kind = "my_package.my_module:LargeTrades"
    size = 10.0

A rule sees every record of `market-data.normalized` in order, and no clock. What it finds of a
record depends on the records before it alone, never on where batches begin or end, so that live
equals replay. Its alerts are on the tape `market-data.alerts` among those of the core, in the order
of the records that caused them. `examples/own_rule.py` is a whole one.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tapeworks._core import NONE, Records, dtype_descr, kind_of, numbers
from tapeworks._core import Processor as CoreProcessor
from tapeworks.errors import ProcessorError
from tapeworks.processors.alerts import AlertRule, CoreSettings
from tapeworks.processors.base import Processor, newest_receipt
from tapeworks.registry import load_member

if TYPE_CHECKING:
    from typing_extensions import Buffer

ALERT = np.dtype(dtype_descr("alert"))
STATES, SEVERITIES, SIDES = numbers("alert_state"), numbers("severity"), numbers("side")
FOUND = ("opened", "updated", "closed", "instant")
# Alerts of rules in Python are numbered from here on, each rule for itself.
IDS = 1_000_000_000


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

    `rule` are its settings: its `parameters` are what the settings say beside name and severity.
    """

    Config: ClassVar[type[AlertRule]] = AlertRule

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule

    @abstractmethod
    def process(self, batch: Records) -> Iterable[Finding]:
        """Returns what follows from `batch`, in the order of its records."""

    def snapshot(self) -> Any:
        """Returns the whole state, as JSON can hold it; none unless overridden."""
        return None

    def restore(self, state: Any) -> None:  # noqa: B027
        """Takes in what `snapshot` of a rule of the same settings returned."""


class AlertsProcessor(Processor):
    """The rules of the core and those of the user's own, as one processor."""

    def __init__(self, settings: CoreSettings, rules: Sequence[AlertRule]) -> None:
        super().__init__((dict(settings), tuple(rules)))
        self._core = CoreProcessor("alerts", settings) if settings else None
        self._rules = [_made(rule) for rule in rules]
        self._ids = [0] * len(rules)
        self._open: list[dict[int, tuple[int, int, int]]] = [{} for _ in rules]
        """Of each rule by instrument: number, start and first offset of the alert that is open."""

    def process(self, batch: Records) -> "Buffer":
        """Returns the alerts of all rules, in the order of the records that caused them."""
        parts: list[npt.NDArray[Any]] = []
        if self._core is not None:
            parts.append(np.frombuffer(memoryview(self._core.process(batch)), ALERT))
        for number, rule in enumerate(self._rules):
            found = [row for one in rule.process(batch) for row in self._rows(number, one, batch)]
            if found:
                parts.append(np.concatenate(found))
        if not parts:
            return b""
        rows = np.concatenate(parts)
        return rows[np.argsort(rows["sequence"], kind="stable")].tobytes()

    def _rows(self, number: int, found: Finding, batch: Records) -> list[npt.NDArray[Any]]:
        """Returns the records of one finding: one, or two of what is over at once."""
        if not batch.first_offset <= found.offset < batch.next_offset:
            raise ProcessorError(f"expected the offset of a record of the batch, got {found}")
        if found.state not in FOUND:
            raise ProcessorError(
                f"expected a state of {', '.join(FOUND)}, got {found.state!r} in {found}"
            )
        states = ("opened", "closed") if found.state == "instant" else (found.state,)
        return [self._row(number, found, state, batch) for state in states]

    def _row(self, number: int, found: Finding, state: str, batch: Records) -> npt.NDArray[Any]:
        rule, known = self._rules[number].rule, self._open[number]
        first = found.offset if found.first_offset is None else found.first_offset
        start = found.ts if found.ts_start is None else found.ts_start
        if found.instrument not in known:
            if state != "opened":
                raise ProcessorError(f"{rule.name}: no alert is open that could be {state}")
            self._ids[number] += 1
            identity = (number + 1) * IDS + self._ids[number]
            known[found.instrument] = (identity, start, first)
        elif state == "opened":
            state = "updated"
        identity, start, first = known[found.instrument]
        if state == "closed":
            del known[found.instrument]
        row = np.zeros(1, ALERT)
        row["length"], row["kind"] = ALERT.itemsize // 8, kind_of("alert")
        row["instrument"], row["ts_event"] = found.instrument, found.ts
        row["sequence"] = found.offset
        row["ts_recv"] = _receipt(batch, found.offset - batch.first_offset)
        row["id"], row["ts_start"] = identity, start
        row["ts_end"] = found.ts if state == "closed" else NONE
        row["first_offset"], row["last_offset"] = first, found.offset
        row["value"], row["threshold"] = found.value, found.threshold
        row["price"], row["size"], row["count"] = found.price, found.size, found.count
        row["rule"], row["detector"] = rule.name.encode(), b"own"
        row["subject"] = _fitted(found.subject, ALERT["subject"].itemsize)
        row["detail"] = _fitted(found.detail, ALERT["detail"].itemsize)
        row["state"], row["severity"] = STATES[state], SEVERITIES[rule.severity]
        row["side"] = SIDES.get(found.side, 0)
        return row

    def snapshot(self) -> bytes:
        """Returns the states of all rules."""
        core = b"" if self._core is None else self._core.snapshot()
        own = {
            "rules": [rule.snapshot() for rule in self._rules],
            "ids": self._ids,
            "open": [list(one.items()) for one in self._open],
        }
        return len(core).to_bytes(8, "little") + core + json.dumps(own).encode()

    def restore(self, state: bytes) -> None:
        """Takes in what `snapshot` returned."""
        length = int.from_bytes(state[:8], "little")
        own = json.loads(state[8 + length :])
        if self._core is not None:
            self._core.restore(state[8 : 8 + length])
        for rule, saved in zip(self._rules, own["rules"], strict=True):
            rule.restore(saved)
        self._ids = own["ids"]
        self._open = [{key: (a, b, c) for key, (a, b, c) in one} for one in own["open"]]


def _made(rule: AlertRule) -> Rule:
    made: Rule = load_member("rule", rule.kind)(rule)
    return made


def _fitted(text: str, bytes_max: int) -> bytes:
    """Returns as many whole characters of `text` as fit."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore").encode()


def _receipt(batch: Records, place: int) -> int:
    return newest_receipt(batch.slice(place, place + 1))
