"""Alerts as messages: to a real web server and a real mail server on sockets, which fail.

The servers are of the standard library and keep what they were sent; the sink is fed from a tape.
"""

import socket
import time
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from tests.receivers import Hook, Mail, served

from conftest import START
from tapeworks._core import Processor, detector_table
from tapeworks.alert_notes import SEVERITIES
from tapeworks.cli.alerts import Severity
from tapeworks.cli.alerts import told as line_of_change
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError
from tapeworks.processors.alerts import LatencyConfig
from tapeworks.settings import resolve_member
from tapeworks.sinks import notify, notify_held
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.notify import Message, NotifyConfig, NotifySink, Outbox
from tapeworks.sinks.notify_target import TYPES
from tapeworks.sinks.notify_text import body_of
from tapeworks.stage_times import STAGES
from tapeworks.tape import Place
from tapeworks.topics import ALERTS

WAIT_S = 10.0


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    with served(server):
        yield server


def alerts(maker, first: int, count: int, **columns: object) -> np.ndarray:
    """Returns opened alerts with ids from `first` on, that came just now."""
    ids = np.arange(first, first + count)
    now = time.time_ns()
    known = {"rule": b"wide", "detector": b"spread", "severity": 2, "state": 1, "instrument": 1}
    rows = maker.rows("alert", count, id=ids, ts_event=now, ts_recv=now, ts_start=now)
    rows["ts_end"] = rows["price"] = rows["size"] = 2**63 - 1
    rows["value"], rows["threshold"] = 99.5, 50.0
    for name, value in (known | columns).items():
        rows[name] = value
    return rows


class Told:
    """A sink over the alerts of a tape, fed and delivering."""

    def __init__(self, spine, *urls: str, **settings: object) -> None:
        config = NotifyConfig(kind="notify", urls=urls, **settings)
        self.sink = NotifySink(config, SinkContext("notify", spine.path))
        partition = self.sink.partition(spine.source, ALERTS)
        self.feeder = Feeder(partition, spine.tape(ALERTS), config.policy, name="notify")

    def run(self, until: Callable[[], bool]) -> None:
        """Feeds all, and delivers until it is so."""
        self.feeder.drain(seconds_max=WAIT_S)
        self.deliver(until)

    def deliver(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not until():
            assert time.monotonic() < deadline
            if not self.feeder.run_maintenance():
                time.sleep(0.01)


@pytest.fixture
def spoken(spine, maker):
    spine.append(maker.definitions())
    return spine


def test_values_have_units_and_times_one_format():
    # To the second and to the microsecond alike; a rule of the core, and one of the user's own.
    whole = datetime(2026, 11, 30, 6, 37, 56, tzinfo=UTC)
    row = {"rule": "late", "detector": "lag", "subject": None, "symbol": "BTCUSDT", "id": 4}
    row |= {"ts_start": whole.replace(microsecond=500_000), "ts_end": whole, "detail": None}
    row |= {"value": 30453.8, "threshold": 1.0, "price": None, "size": None}
    row |= {"first_offset": 35, "last_offset": 35}
    assert body_of("it", row).splitlines() == [
        "what: lag",
        "since: 2026-11-30T06:37:56.500000Z",
        "until: 2026-11-30T06:37:56.000000Z",
        "value: 30453.8 ms",
        "limit: 1 ms",
        "records: offset 35 of market-data.normalized",
        "alert: it#4",
    ]
    own = body_of("it", row | {"detector": "own", "rule": "mine", "first_offset": 7})
    assert "what: mine\n" in own
    assert "value: 30453.8\n" in own
    assert "records: offsets 7 to 35 of" in own
    row |= {"source": "it", "severity": "warning", "state": "opened", "ts_event": whole}
    assert line_of_change(row) == (
        "2026-11-30T06:37:56.000Z it#4 warning opened late: BTCUSDT 30453.8 ms (limit 1 ms)"
    )


@pytest.mark.slow
def test_an_alert_reaches_web_hook_and_mail_once(spoken, maker, hook):
    mail = Mail()
    url = f"mailto://127.0.0.1:{mail.server_address[1]}?from=tape@here.test&to=desk@here.test"
    spoken.append(alerts(maker, 1, 1, detail=b"bid=1 ask=2"), ALERTS)
    spoken.append(alerts(maker, 1, 1, state=3, ts_end=START), ALERTS)
    with served(mail):
        told = Told(spoken, hook.url, f"{url}&mode=insecure")
        told.run(lambda: len(hook.taken) == 2 and len(mail.letters) == 2)
        told.feeder.close()
        # A restart reads its place: nothing is told again.
        again = Told(spoken, hook.url, f"{url}&mode=insecure")
        again.run(lambda: True)
        assert not again.feeder.run_maintenance()
        again.feeder.close()
    opened, closed = hook.taken
    assert opened["title"] == "[warning] wide opened: BTCUSDT"
    assert "value: 99.5" in opened["message"]
    assert "evidence: bid=1 ask=2" in opened["message"]
    assert "until: " in closed["message"]
    assert "wide opened" in mail.letters[0]
    assert "desk@here.test" in mail.letters[0]


@pytest.mark.slow
def test_a_server_that_fails_is_tried_again_and_holds_nobody_up(spoken, maker, hook):
    # One hook fails twice, another one is not there at all; both messages reach the first, the
    # place on the tape has moved on, and what waits outlives the sink.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = f"json://127.0.0.1:{taken.getsockname()[1]}/"
        hook.failures = 2
        spoken.append(alerts(maker, 1, 1), ALERTS)
        spoken.append(alerts(maker, 2, 1, rule=b"crossed"), ALERTS)
        told = Told(spoken, gone, hook.url, timeout_seconds=0.5)
        told.run(lambda: len(hook.taken) == 2)
        assert hook.asked == 4
        assert told.feeder.partition.committed.offset == 2
        [trouble] = told.feeder.partition.troubles
        assert "failed" in trouble
        assert "2 messages wait" in trouble
        told.feeder.close()
    again = Told(spoken, gone, hook.url, timeout_seconds=0.5)
    again.feeder.drain(seconds_max=WAIT_S)
    assert len(again.sink.outbox(again.feeder.partition)._messages) == 2
    assert len(hook.taken) == 2
    again.feeder.close()


@pytest.mark.slow
def test_a_flood_is_told_in_one_message_and_flapping_once(spoken, maker, hook):
    spoken.append(alerts(maker, 1, 500, rule=[f"rule {n}".encode() for n in range(500)]), ALERTS)
    told = Told(spoken, hook.url, per_minute=6)
    told.run(lambda: len(hook.taken) == 1)
    assert hook.taken[0]["title"] == "[warning] 500 changes of alerts: binance-spot"
    # The same rule opens and closes again and again.
    for number in range(1_000, 1_004):
        spoken.append(alerts(maker, number, 1, rule=b"flaps"), ALERTS)
        spoken.append(alerts(maker, number, 1, rule=b"flaps", state=3), ALERTS)
        told.feeder.drain(seconds_max=WAIT_S)
    told.deliver(lambda: len(hook.taken) == 3)
    time.sleep(0.05)
    assert not told.feeder.run_maintenance()
    assert [one["title"] for one in hook.taken[1:]] == [
        "[warning] flaps opened: BTCUSDT",
        "[warning] flaps closed: BTCUSDT",
    ]
    told.feeder.close()


@pytest.mark.slow
def test_what_is_not_severe_or_old_is_not_told(spoken, maker, hook):
    spoken.append(alerts(maker, 1, 1, severity=1), ALERTS)
    spoken.append(alerts(maker, 2, 1, rule=b"old", ts_recv=START), ALERTS)
    spoken.append(alerts(maker, 3, 1, rule=b"of all", instrument=0), ALERTS)
    told = Told(spoken, hook.url)
    told.run(lambda: len(hook.taken) == 1)
    assert hook.taken[0]["title"] == "[warning] of all opened: binance-spot"
    assert not told.feeder.run_maintenance()
    told.feeder.close()


def test_targets_are_secrets_of_the_environment():
    written = Section("sinks.notify", {"urls": Value(["json://here"], "tapeworks.toml")})
    with pytest.raises(ConfigError, match="TAPEWORKS_SINKS__NOTIFY__URLS"):
        resolve_member("sink", "notify", Section("sinks", {"notify": written}))


@pytest.mark.parametrize("part", ["tok,en-abc", "secret:word", "://nothing"])
def test_a_target_that_is_no_address_is_an_error_and_is_not_shown(part):
    with pytest.raises(ConfigError, match="urls: number 2 of") as error:
        NotifyConfig(kind="notify", urls=("json://here", part))
    assert part not in str(error.value)


def outbox(path, *urls: str, **settings: object) -> Outbox:
    return Outbox(path / "outbox.json", NotifyConfig(kind="notify", urls=urls, **settings))


def row(number: int, rule: str) -> dict[str, object]:
    known = {"severity": "critical", "state": "opened", "symbol": None, "ts_recv": time.time_ns()}
    return {"id": number, "rule": rule, **known}


def test_a_target_that_no_service_takes_is_refused_and_not_shown():
    # Before anything runs: were it found out by the sink, alerts would be given up for it.
    for number, url in enumerate(("sesame://geheim", "discord://geheim"), 1):
        urls = ("json://here", url) if number == 2 else (url,)
        with pytest.raises(ConfigError, match=f"urls: number {number} of {number}:") as error:
            NotifyConfig(kind="notify", urls=urls)
        assert not [text for text in ("sesame", "geheim") if text in str(error.value)]


def test_what_waits_is_kept_until_a_new_target_takes_it(tmp_path, monkeypatch):
    # The target that a message waited for was mistyped and is gone from the settings.
    box = outbox(tmp_path, "json://old")
    evidence = dict.fromkeys(("value", "threshold", "price", "size", "subject", "detail", "ts_end"))
    evidence |= {
        "detector": "crossed",
        "ts_start": datetime.now(UTC),
        "first_offset": 1,
        "last_offset": 1,
    }
    place = Place("tape", 1, "print")
    box.put("it", [row(1, "crossed") | evidence], place)
    box = outbox(tmp_path, "json://new")
    taken = []
    monkeypatch.setattr(box._targets[0], "send", lambda message: taken.append(message) or True)
    assert box.send_next()
    assert [message.title for message in taken] == ["[critical] crossed opened: it"]
    assert not box.send_next()


@pytest.mark.slow
def test_a_trial_reaches_each_target_and_says_which_failed(tape, hook, monkeypatch):
    path = tape.folder / "tapeworks.toml"
    path.write_text("[sinks.notify]\n")
    refused = tape.refuse("alerts", "test", code=2)
    assert "TAPEWORKS_SINKS__NOTIFY__URLS" in refused
    assert "nobody is told" in tape.run("config", "check")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        urls = f"{hook.url},json://127.0.0.1:{taken.getsockname()[1]}/"
        monkeypatch.setenv("TAPEWORKS_SINKS__NOTIFY__URLS", urls)
        shown = tape.run("alerts", "test", code=1)
        hook.failures = 1
        again = tape.run("alerts", "test", code=1)
    # Each with the reason, and no word of where it is.
    ends = [line.partition("): ")[2] for line in (*shown.splitlines(), *again.splitlines())]
    reached = "failed: it was not reached"
    assert ends == ["sent", reached, "failed: it answered 500", reached]
    assert "127.0.0.1" not in shown + again
    assert [one["title"] for one in hook.taken] == ["[info] Tapeworks: a trial"]
    monkeypatch.setenv("TAPEWORKS_SINKS__NOTIFY__URLS", "nonsense://x")
    assert "urls: number 1 of 1" in tape.refuse("config", "check", code=2)


def test_a_clock_that_was_ahead_makes_nobody_quiet(tmp_path):
    box = outbox(tmp_path, "json://here")
    for name in ("crossed", "locked"):
        box._told[f"it/{name}/"] = time.time() + 1e6
    assert box._choose("it", change(1, "crossed"))
    assert not box._choose("it", change(2, "crossed"))
    assert list(box._told) == ["it/crossed/"]


def change(number: int, rule: str = "", state: str = "opened") -> dict[str, object]:
    """Returns a change of an alert with all that a message says of it."""
    absent = ("subject", "ts_end", "value", "threshold", "price", "size", "detail")
    known = {
        "detector": "spread",
        "ts_start": datetime.fromtimestamp(START / 1e9, UTC),
        "first_offset": 1,
        "last_offset": 2,
    }
    made = row(number, rule or f"rule {number}") | known | dict.fromkeys(absent)
    return made | {"state": state}


def test_what_opens_again_and_stays_open_is_told_when_the_quiet_time_is_over(tmp_path, monkeypatch):
    # The last word on an alert that is open is never that it closed. One that flaps is told once.
    now, sent = time.time(), []
    clock = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(notify, "time", clock)

    def box_of() -> Outbox:
        box = outbox(tmp_path, "json://here")
        monkeypatch.setattr(box._targets[0], "send", lambda one: not sent.append(one))
        return box

    def put(box: Outbox, number: int, state: str, after: float) -> list[str]:
        nonlocal now
        now += after
        told = change(number, "stale", state) | {"ts_recv": now * 1e9}
        box.put("it", [told], Place(number))
        return deliver(box)

    def deliver(box: Outbox) -> list[str]:
        sent.clear()
        while box.send_next():
            pass
        return [one.title for one in sent]

    box = box_of()
    opened, closed = (f"[critical] stale {state}: it" for state in ("opened", "closed"))
    assert put(box, 1, "opened", 0) == [opened]
    assert put(box, 1, "closed", 60) == [closed]
    for number in (2, 3):
        assert put(box, number, "opened", 10) == []
        assert put(box, number, "closed", 10) == []
    assert put(box, 4, "opened", 60) == []
    assert put(box, 4, "updated", 139) == []
    # It outlives the sink, and is told once: 300 s behind the first.
    again = box_of()
    now += 2
    assert deliver(again) == [opened]
    assert "alert: it#4" in sent[0].body
    assert "opened 2 times more since the last message" in sent[0].body
    assert deliver(again) == deliver(box_of()) == []
    # Its end is told as well, and what opens now waits for the next quiet time to be over.
    assert put(again, 4, "closed", 100) == [closed]
    assert put(again, 5, "opened", 100) == []
    now += 101
    assert deliver(again) == [opened]
    assert put(again, 5, "closed", 1) == [closed]


def test_an_alert_is_told_from_when_it_is_severe_and_its_end_to_whom_it_was_told(tmp_path):
    # Settings that change make an open alert more or less severe; each change finds a sink that
    # begins anew. Nobody is told the end of what nobody knows of.
    def told(name: str, *changes: tuple[str, str], **settings: object) -> list[str]:
        for place, (state, severity) in enumerate(changes):
            box = outbox(tmp_path / name, "json://here", severity="critical", **settings)
            number = {"severity": severity, "detail": severity}
            box.put("it", [change(7, "stale", state) | number], Place(place))
        titles = [one.title for one in outbox(tmp_path / name, "json://here")._messages]
        return [title.removeprefix("[").removesuffix(": it") for title in titles]

    opened, closed = "critical] stale opened", "critical] stale closed"
    rises = (("opened", "warning"), ("updated", "warning"), ("updated", "critical"))
    ends = (("updated", "critical"), ("closed", "critical"))
    assert told("rises", *rises, *ends) == [opened, closed]
    every = ("opened", "updated", "closed", "acknowledged")
    updated = "critical] stale updated"
    assert told("every", *rises, *ends, states=every) == [opened, updated, closed]
    assert told("never", *rises[:2], ("acknowledged", "warning"), ("closed", "warning")) == []
    assert told("at its end", rises[0], ("closed", "critical")) == []
    falls = (("opened", "critical"), ("updated", "warning"), ("closed", "warning"))
    assert told("falls", *falls) == [opened, "warning] stale closed"]
    # It is told once, whichever way it goes in between.
    assert told("both", *rises, falls[1], ends[0], ends[1]) == [opened, closed]


def test_what_opened_before_it_was_noted_is_told_when_it_is_severe(tmp_path):
    # The outbox of an earlier version does not say which alerts are open; nor does one of very many
    # alerts that are open. Those that people were told of are not forgotten for others.
    box = outbox(tmp_path / "old", "json://here", severity="critical")
    mild = {"severity": "warning"}
    rows = [change(7, "stale", "updated") | mild, change(7, "stale", "updated")]
    box.put("it", [*rows, rows[1], change(7, "stale", "closed")], Place(1))
    titles = ["[critical] stale opened: it", "[critical] stale closed: it"]
    assert [one.title for one in box._messages] == titles
    box = outbox(tmp_path / "many", "json://here", severity="critical")
    box.put("it", [change(0, "stale")], Place(1))
    many = range(1, notify_held.OPEN_MAX + 50)
    box.put("it", [change(number, "wide") | mild for number in many], Place(2))
    box.put("it", [change(0, "stale", "closed") | mild], Place(3))
    assert [one.title for one in box._messages][1:] == ["[warning] stale closed: it"]


def test_what_is_held_back_is_told_as_it_is_by_then(tmp_path, monkeypatch):
    now = time.time()
    clock = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(notify, "time", clock)
    later: list[dict[str, object]] = []

    def told(name: str, *changes: dict[str, object], severity: str = "warning") -> list[str]:
        nonlocal now
        first = [change(1, "stale"), change(1, "stale", "closed"), change(2, "stale")]
        box = outbox(tmp_path / name, "json://here", severity=severity)
        now += 3_600
        box.put("it", [one | {"ts_recv": now * 1e9} for one in (*first, *changes)], Place(1))
        assert len(box._messages) == 2
        now += 301
        box._release()
        box.put("it", [one | {"ts_recv": now * 1e9} for one in later], Place(2))
        return [one.title for one in box._messages[2:]]

    less = change(2, "stale", "updated") | {"severity": "warning"}
    assert told("held") == ["[critical] stale opened: it"]
    assert told("changed", less) == ["[warning] stale opened: it"]
    # One that is less severe by then than what is told is not; it is once it is so again.
    assert told("less", less, severity="critical") == []
    later.append(change(2, "stale", "updated"))
    assert told("again", less, severity="critical") == ["[critical] stale opened: it"]
    later.clear()
    assert told("seen", change(2, "stale", "acknowledged")) == []
    # A tape that is made anew uses numbers again.
    again = [change(2, "other"), change(2, "other", "closed")]
    titles = ["[critical] other opened: it", "[critical] other closed: it"]
    box = outbox(tmp_path / "anew", "json://here")
    rows = [change(1, "stale"), change(2, "stale"), *again]
    box.put("it", [one | {"ts_recv": now * 1e9} for one in rows], Place(1))
    assert [one.title for one in box._messages][1:] == titles


def test_changes_are_told_one_by_one_up_to_the_limit_and_then_together(tmp_path, monkeypatch):
    # 20 a minute as set by default: 5 and 15 at once are 20 messages. What comes then is one that
    # grows while it waits; while it is being sent, what comes is another one.
    box, place, sent = outbox(tmp_path, "json://here"), Place(1), []

    def put(first: int, count: int) -> None:
        box.put("it", [change(number) for number in range(first, first + count)], place)

    def send(message: Message) -> bool:
        if message.counts and len(sent) == 20:
            put(500, 1)
        sent.append(message.title)
        return True

    monkeypatch.setattr(box._targets[0], "send", send)
    put(0, 5)
    put(5, 15)
    assert len(box._messages) == 20
    put(100, 2)
    put(200, 3)
    again = outbox(tmp_path, "json://here")
    assert [one.title for one in again._messages] == [one.title for one in box._messages]
    while box.send_next():
        pass
    assert sent[:2] == ["[critical] rule 0 opened: it", "[critical] rule 1 opened: it"]
    assert sent[20:] == [f"[critical] {count} of alerts: it" for count in ("5 changes", "1 change")]


def test_what_alerts_may_be_is_said_by_the_core_alone():
    # Types cannot be made of it, so that they are compared.
    assert typing.get_args(typing.get_type_hints(NotifyConfig)["severity"]) == SEVERITIES
    assert tuple(Severity) == SEVERITIES
    assert set(TYPES) == set(SEVERITIES)
    stages = [name.removesuffix("_ms") for name in vars(LatencyConfig()) if name != "quantile"]
    assert tuple(stages) == STAGES
    [text] = [texts[0] for head, _, texts in detector_table() if head[0] == "latency"]
    assert text[2].replace(" or ", ", ").split(", ") == list(STAGES)
    with pytest.raises(ValueError, match=f"a stage of {', '.join(STAGES)} and"):
        Processor("alerts", {"rules": "a\tlatency\tinfo\t\t\tstage=none"})
