"""Alerts as messages to chat, mail and web hooks, by the library Apprise.

Two steps, so that no server holds anything up. Storing puts the messages of a tape into an outbox:
one file together with the place on the tape, so that each alert is there once. Delivery is upkeep,
in a thread of its own: each target is tried for itself, with back-off, and a message leaves the
outbox when all targets have it or gave it up. A sink that is killed sends at most the message twice
that was on its way.

    [sinks.notify]
    severity = "warning"

The targets are secrets, from the environment only:

    TAPEWORKS_SINKS__NOTIFY__URLS="discord://...,mailto://..."
"""

import contextlib
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from tapeworks._core import Records
from tapeworks.alert_notes import SEVERITIES, STATES
from tapeworks.durable import make_folder, replace_file
from tapeworks.errors import ConfigError, SinkUnavailable
from tapeworks.printable import printable
from tapeworks.sinks.base import SinkConfig, SinkContext
from tapeworks.sinks.notify_held import HeldBack, SevereOnce
from tapeworks.sinks.notify_target import Target, service_of
from tapeworks.sinks.notify_text import body_of, counted, line_of, printable_lines, seconds
from tapeworks.sinks.store import StorePartition, StoreSink
from tapeworks.tape import Place
from tapeworks.topics import ALERTS

log = logging.getLogger("tapeworks.sinks")

# Messages that wait for one tape; beyond it several alerts become one message.
WAITING_MAX = 1_000
MINUTE_S = 60.0
# Alerts that a message which stands for many lists one by one.
LISTED_MAX = 10
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://.")
Urls = tuple[str, ...]


@dataclass(frozen=True)
class NotifyConfig(SinkConfig):
    """Who is told, of what, and how often."""

    flush_seconds: float = 0.5
    """Changes of alerts are told together that come within so long."""
    urls: Urls = field(default=(), metadata={"secret": True})
    """Where to, as Apprise writes it; from the environment only, with commas between them."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """Alerts that are less severe are not told; one that becomes so is told as opened then."""
    states: tuple[str, ...] = ("opened", "closed")
    """Which changes are told: opened, updated, closed, acknowledged."""
    per_minute: int = 20
    """Messages a minute to one target, of each source. Further changes of alerts become one
    message that lists them, until there is room again."""
    quiet_seconds: float = 300.0
    """One rule of one symbol that opens again so soon is told when that is over, if it is open."""
    age_seconds: float = 3_600.0
    """What is older when it is read is not told; nor is what could not be sent for so long."""
    timeout_seconds: float = 10.0
    """A server that does not answer for so long has failed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("per_minute", "age_seconds", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.quiet_seconds < 0:
            raise ConfigError(f"quiet_seconds: expected 0 or more, got {self.quiet_seconds}")
        for number, url in enumerate(self.urls, 1):
            # The text is a secret, and where a comma cut it a part may be one: none is shown.
            if not ADDRESS.match(url):
                raise ConfigError(
                    f"urls: number {number} of {len(self.urls)} is no address such as "
                    "discord://...; write a comma within one as %2C"
                )
            if service_of(url) is None:
                raise ConfigError(
                    f"urls: number {number} of {len(self.urls)}: Apprise has no service that takes "
                    "it; https://appriseit.com lists them with what each needs"
                )
        if wrong := [state for state in self.states if state not in STATES]:
            known = ", ".join(STATES)
            raise ConfigError(f"states: expected any of {known}, got {', '.join(wrong)}")

    def idle(self, name: str) -> str:
        """Says so where there are no targets."""
        variable = f"TAPEWORKS_SINKS__{name.upper().replace('-', '_')}__URLS"
        return "" if self.urls else f"nobody is told of alerts: set {variable} in the environment"


def send_trial(config: NotifyConfig) -> Iterator[tuple[str, str]]:
    """Sends one message to each target of `config`; yields its name, and why it was not taken."""
    message = Message("[info] Tapeworks: a trial", "Alerts will be told here.", "info", time.time())
    for number, url in enumerate(config.urls, 1):
        target = Target(url, config)
        target.send(message)
        yield f"{number}: {target.name}", target.refusal


@dataclass
class Message:
    """One message in the outbox."""

    title: str
    body: str
    severity: str
    made_at: float
    sent: list[str] = field(default_factory=list)
    """Targets that have it, or that it was given up for, by their marks."""
    counts: dict[str, int] = field(default_factory=dict)
    """Of one that stands for many: how many changes there are of each rule and state."""
    first: list[str] = field(default_factory=list)
    """And the first of them, a line each."""


class NotifySink(StoreSink):
    """Tells people of alerts.

    Where it has no target nothing is lost: what is on the tape waits, and is told once there is one
    if it is not older than `age_seconds` by then.
    """

    Config = NotifyConfig
    TOPICS: ClassVar[tuple[str, ...]] = (ALERTS,)

    def __init__(self, config: NotifyConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self.settings = config
        self._outboxes: dict[tuple[str, str], Outbox] = {}

    @classmethod
    def topics(cls, config: SinkConfig) -> tuple[str, ...]:
        """Returns the topic of alerts; there are none on others."""
        if config.topics not in ((), cls.TOPICS):
            raise ConfigError(f"topics: expected {ALERTS}, got {', '.join(config.topics)}")
        return cls.TOPICS

    def connect(self) -> None:
        """Reads the targets; nothing is opened before there is something to tell."""
        if idle := self.settings.idle(self.context.name):
            raise SinkUnavailable(idle, retry_after_ms=60_000)

    def disconnect(self) -> None:
        """Does nothing: nothing is open."""

    def partition(self, source: str, topic: str) -> StorePartition:
        """Makes the part of the sink that tells of one source."""
        made = super().partition(source, topic)
        return NotifyPartition(self, made._state, topic)

    def outbox(self, partition: StorePartition) -> "Outbox":
        """Returns what waits to be sent of one tape."""
        key = (partition.source, partition.topic)
        if key not in self._outboxes:
            folder = self.context.data / "state" / partition.source / "sinks" / self.context.name
            self._outboxes[key] = Outbox(folder / "outbox.json", self.settings)
        return self._outboxes[key]

    def load_place(self, partition: StorePartition) -> Place | None:
        """Reads the place that stands beside the messages."""
        return self.outbox(partition).place

    def store(self, partition: StorePartition, items: Sequence[Any], place: Place) -> None:
        """Puts the messages of `items` into the outbox, with `place`, in one step."""
        alerts = [row for item in items for row in alerts_of(item, partition)]
        self.outbox(partition).put(partition.source, alerts, place)


class NotifyPartition(StorePartition):
    """The alerts of one source; delivery is its upkeep."""

    MAINTENANCE_S: ClassVar[float] = 0.25

    def __init__(self, sink: NotifySink, state: Any, topic: str) -> None:
        super().__init__(sink, state, topic)
        self._notify = sink

    def run_maintenance(self) -> bool:
        """Sends one message, if one is due; returns whether it did."""
        return bool(self._notify.settings.urls) and self._notify.outbox(self).send_next()

    @property
    def troubles(self) -> list[str]:
        """What could not be sent, a line a target."""
        return [*super().troubles, *self._notify.outbox(self).troubles]


def alerts_of(batch: Records, partition: StorePartition) -> list[dict[str, Any]]:
    """Returns the alerts in `batch` as rows, with the symbol of their instrument."""
    rows = pa.record_batch(batch.arrow("alert", partition.symbols, offsets=True)).to_pylist()
    if any(row["symbol"] is None and row["instrument"] for row in rows):
        partition.require_symbols("an instrument of an alert has no definition")
        return alerts_of(batch, partition)
    chosen = partition.instruments
    return [row for row in rows if chosen is None or row["instrument"] in chosen]


class Outbox:
    """Messages that wait, and the place on the tape up to which alerts became messages."""

    def __init__(self, path: Path, settings: NotifyConfig) -> None:
        self._path = path
        self._settings = settings
        # One thread stores, another one delivers.
        self._lock = threading.Lock()
        self._messages: list[Message] = []
        self.place: Place | None = None
        self._told: dict[str, float] = {}
        """When a rule of a symbol was told last."""
        self._passed: Counter[str] = Counter()
        """How often it opened since without being told."""
        self._made_at: list[float] = []
        """When messages were made, of the last minute."""
        self._sending: Message | None = None
        """What is being sent: nothing is added to it."""
        self._silent: list[int] = []
        """Numbers of open alerts that were not told: their end is not, either."""
        self._held = HeldBack()
        """Those of them that are told once their rule is quiet no more."""
        self._severe = SevereOnce()
        """Open alerts, and whether they were ever as severe as those that are told."""
        self._targets = [Target(url, settings) for url in settings.urls]
        self._read()

    @property
    def troubles(self) -> list[str]:
        """What an operator should know, a line a target."""
        told = [target.trouble for target in self._targets if target.trouble]
        return [f"{one}; {len(self._messages)} messages wait" for one in told]

    def put(self, source: str, alerts: Sequence[Mapping[str, Any]], place: Place) -> None:
        """Makes messages of `alerts`, and stores them with `place`."""
        with self._lock:
            before = (self.place, list(self._messages), dict(self._told), Counter(self._passed))
            silent, made_at = list(self._silent), list(self._made_at)
            held, severe = list(self._held.entries), dict(self._severe.entries)
            chosen = [self._choose(source, row) for row in alerts]
            self.place = place
            self._add(source, [row for row in chosen if row is not None])
            if lost := self._messages[:-WAITING_MAX]:
                log.error("%s: %d messages are dropped: too many wait", source, len(lost))
                self._messages = self._messages[-WAITING_MAX:]
            try:
                self._write()
            except OSError as error:
                self.place, self._messages, self._told, self._passed = before
                self._silent, self._made_at = silent, made_at
                self._held, self._severe = HeldBack(held), SevereOnce(severe)
                raise SinkUnavailable(f"{self._path}: {error}") from error

    def send_next(self) -> bool:
        """Sends the oldest message that a target wants and may have now."""
        with self._lock:
            self._release()
        for target in self._targets:
            with self._lock:
                due = [one for one in self._messages if target.mark not in one.sent]
                if not due or not target.is_ready():
                    continue
                message = self._sending = due[0]
            is_done = self._deliver(message, target)
            with self._lock:
                self._sending = None
                if not is_done:
                    continue
                message.sent.append(target.mark)
                marks = {one.mark for one in self._targets}
                self._messages = [one for one in self._messages if not marks <= set(one.sent)]
                with contextlib.suppress(OSError):
                    # Where it cannot be written the message is sent once more after a restart.
                    self._write()
            return True
        return False

    def _deliver(self, message: Message, target: "Target") -> bool:
        """Sends `message`, or gives it up; returns whether `target` is done with it."""
        if time.time() - message.made_at <= self._settings.age_seconds:
            return target.send(message)
        target.give_up(message, "it is too old")
        return True

    def _choose(self, source: str, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Returns `row` as it is told, or none: nothing is told of what nobody knows of."""
        number, state = row["id"], row["state"]
        is_severe = self._is_severe(row)
        if state in ("closed", "acknowledged"):
            # It is over, or somebody has seen it.
            self._held.forget(number)
        if state == "opened":
            # A number that was in use is of another tape.
            self._silent = [one for one in self._silent if one != number]
            self._severe.note(number, is_severe)
            return row if is_severe and self._is_opening_told(source, row) else None
        if state == "updated":
            self._held.update(row, body_of(source, row))
        was_severe = self._severe.look(number, forgets=state == "closed")
        if number in self._silent:
            if state == "closed":
                self._silent.remove(number)
            return None
        if was_severe is False and (state != "updated" or not is_severe):
            return None
        if not was_severe and state == "updated" and is_severe:
            # Whether one is told that opened under an earlier version is not known: once more.
            self._severe.note(number, True)
            risen = {**row, "state": "opened"}
            return risen if self._is_opening_told(source, risen) else None
        # Who was told that it opened is told that it is over, however severe it is by then.
        is_meant = is_severe or (state == "closed" and was_severe is True)
        return row if is_meant and state in self._settings.states else None

    def _is_severe(self, row: Mapping[str, Any]) -> bool:
        least = SEVERITIES.index(self._settings.severity)
        return SEVERITIES.index(row["severity"] or "info") >= least

    def _is_opening_told(self, source: str, row: Mapping[str, Any]) -> bool:
        """Whether it is told now that an alert opened; otherwise its end is not told, either."""
        now, key = time.time(), f"{source}/{row['rule']}/{row['symbol'] or ''}"
        is_old = now - seconds(row["ts_recv"]) > self._settings.age_seconds
        since = now - self._told.get(key, 0.0)
        # What was told in the future was told while the clock was wrong: no reason to be quiet.
        is_repeated = 0 <= since < self._settings.quiet_seconds
        if is_old or is_repeated:
            self._passed[key] += is_repeated
            self._silent = [*self._silent[-WAITING_MAX:], row["id"]]
            if not is_old:
                due = self._told[key] + self._settings.quiet_seconds
                self._held.hold(key, row, body_of(source, row), due)
            return False
        self._told = {one: at for one, at in self._told.items() if 0 <= now - at < 86_400}
        self._told[key] = now
        return "opened" in self._settings.states

    def _release(self) -> None:
        """Tells what opened again within a quiet time that is over, and is still open."""
        now = time.time()
        due = self._held.take_due(now, self._settings.quiet_seconds)
        if not due:
            return
        for one in due:
            number, key = one["row"]["id"], one["key"]
            self._silent = [silent for silent in self._silent if silent != number]
            if not self._is_severe(one["row"]):
                self._severe.note(number, False)
                continue
            self._told[key] = now
            # It is no more among those that were passed over.
            self._passed = +(self._passed - Counter([key]))
            if "opened" in self._settings.states:
                row = {**one["row"], "body": one["body"]}
                self._add(key.partition("/")[0], [row])
        with contextlib.suppress(OSError):
            # Where it cannot be written it is told once more after a restart.
            self._write()

    def _add(self, source: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds a message for each of `rows`, or one for all where there is no room for so many."""
        if not rows:
            return
        now = time.monotonic()
        self._made_at = [at for at in self._made_at if now - at < MINUTE_S]
        room = self._settings.per_minute - len(self._made_at)
        if len(rows) <= room and len(self._messages) < WAITING_MAX:
            self._messages += [self._single(source, row) for row in rows]
            self._made_at += [now] * len(rows)
            return
        last = self._messages[-1] if self._messages else None
        if last is not None and last.counts and not last.sent and last is not self._sending:
            # It waits itself: what comes now is told with it.
            self._messages[-1] = self._digest(source, rows, last)
        else:
            self._messages.append(self._digest(source, rows))
            self._made_at.append(now)

    def _single(self, source: str, row: Mapping[str, Any]) -> Message:
        passed = self._passed.pop(f"{source}/{row['rule']}/{row['symbol'] or ''}", 0)
        times = counted(passed, "time", "times")
        more = f"\nopened {times} more since the last message" if passed else ""
        title = f"[{row['severity']}] {row['rule']} {row['state']}: {row['symbol'] or source}"
        return Message(
            printable(title),
            printable_lines(row.get("body") or body_of(source, row)) + more,
            row["severity"],
            time.time(),
        )

    def _digest(
        self, source: str, rows: Sequence[Mapping[str, Any]], last: Message | None = None
    ) -> Message:
        """Returns one message of `rows`, and of what `last` stands for."""
        counts = Counter({} if last is None else last.counts)
        counts.update(f"{row['rule']} {row['state']}" for row in rows)
        first = [] if last is None else list(last.first)
        first += [line_of(source, row) for row in rows[: LISTED_MAX - len(first)]]
        severities = [row["severity"] for row in rows] + ([] if last is None else [last.severity])
        worst = max(severities, key=SEVERITIES.index)
        lines = [f"{count} x {what}" for what, count in counts.most_common(LISTED_MAX)]
        text = printable_lines("\n".join([*lines, "", "the first of them:", *first]))
        changes = counted(counts.total(), "change", "changes")
        title = printable(f"[{worst}] {changes} of alerts: {source}")
        return Message(title, text, worst, time.time(), counts=dict(counts), first=first)

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_bytes())
            self.place = Place(**found["place"]) if found["place"] else None
            self._messages = [Message(**one) for one in found["messages"]]
            self._told, self._silent = dict(found["told"]), list(found["silent"])
            self._passed = Counter(found["passed"])
            self._held = HeldBack(found.get("held"))
            self._severe = SevereOnce(found.get("severe"))
        except FileNotFoundError:
            return
        except (KeyError, TypeError, ValueError) as error:
            # Where it was is not known: what the tape holds is read again, old alerts are not told.
            log.error("%s cannot be read, it is begun anew: %s", self._path, error)

    def _write(self) -> None:
        make_folder(self._path.parent)
        content = {
            "place": None if self.place is None else asdict(self.place),
            "messages": [asdict(one) for one in self._messages],
            "told": self._told,
            "silent": self._silent,
            "passed": dict(self._passed),
            "held": self._held.entries,
            "severe": self._severe.entries,
        }
        replace_file(self._path, json.dumps(content))
