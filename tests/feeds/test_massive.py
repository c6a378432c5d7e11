"""Massive: its session rules, and recording a venue that speaks like it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.feeds.venue_process import VenueProcess, rows, running

from tapeworks import _core
from tapeworks.errors import ConfigError, VenueError
from tapeworks.feeds.base import Control, ControlKind
from tapeworks.feeds.massive import MassiveConfig
from tapeworks.feeds.massive.session import MassiveFeed, MassiveSubscriptions
from tapeworks.feeds.massive.wire import MassiveWire

SOURCE = "massive-stocks"
GAP, CAUSES = _core.numbers("marker_code")["gap"], _core.numbers("gap_cause")


def feed(**settings: Any) -> MassiveFeed:
    return MassiveFeed(MassiveConfig(**{"symbols": ("AAPL",), "api_key": "k", **settings}))


def frame(*statuses: tuple[str, str]) -> bytes:
    told = [{"ev": "status", "status": name, "message": message} for name, message in statuses]
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"symbols": ()}, "such as AAPL, got none"),
        ({"symbols": ("A A",)}, "'A A'"),
        ({"symbols": ("A", "A")}, "more than once: A"),
        ({"symbols": ("*", "A")}, "no other beside it"),
        ({"channels": ("T", "ZZ")}, "stocks, T, Q, A, AM, LULD, NOI, FMV, got 'ZZ'"),
        ({"product": "bonds"}, "product: expected one of"),
        ({"product": "options", "symbols": ("*",)}, "record the channel T alone"),
        ({"endpoints": "test"}, "endpoints: expected one of"),
        ({"ws_url": "http://x"}, "ws_url"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said.replace("*", r"\*")):
        MassiveConfig(**{"symbols": ("AAPL",), **settings})


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MASSIVE_API_KEY", raising=False)
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set MASSIVE_API_KEY in the environment"):
        feed(api_key="")
    monkeypatch.setenv("POLYGON_API_KEY", "a-secret")
    talk = feed(api_key="").subscriptions(["T.AAPL"])
    talk.receive(Control(ControlKind.ACK, id="connected"))
    assert talk.next() == b'{"action":"auth","params":"a-secret"}'
    assert "a-secret" not in repr(MassiveConfig(symbols=("A",), api_key="a-secret"))


def test_statuses_mean_what_the_venue_says():
    for said, kind, retry_s in [
        (frame(("auth_failed", "authentication failed")), ControlKind.DENIED, 0),
        (frame(("max_connections", "Maximum number")), ControlKind.DENIED, 60),
        (frame(("auth_timeout", "No authentication")), ControlKind.DENIED, 1),
        (frame(("slow_consumer", "too slow")), ControlKind.SHUTDOWN, 0),
        (frame(("force_disconnect", "replaced")), ControlKind.SHUTDOWN, 0),
        (frame(("error", "not authorized")), ControlKind.REFUSED, 0),
        (frame(("connected", "Connected Successfully")), ControlKind.ACK, 0),
        (frame(("success", "unsubscribed to: T.A")), ControlKind.ACK, 0),
        (frame(("holiday", "")), ControlKind.UNKNOWN, 0),
        (b'[{"ev":"T","sym":"status"}]', ControlKind.DATA, 0),
        (b"[1]", ControlKind.UNKNOWN, 0),
        (b'[{"ev":7}]', ControlKind.UNKNOWN, 0),
    ]:
        found = feed().control(said)
        assert (found.kind, found.retry_after_s) == (kind, retry_s), said
    found = feed().control(frame(("success", "subscribed to: T.A"), ("error", "not authorized")))
    assert (found.kind, found.streams) == (ControlKind.REFUSED, ("T.A",))


def test_one_channel_that_the_plan_lacks_takes_no_other_with_it():
    # The refusal names no stream: it is of what was asked for last and not accepted.
    talk = MassiveSubscriptions("k", ["T.A", "T.B", "LULD.A", "LULD.B", "Q.A"])
    assert talk.next() is None, "the venue greets first"
    talk.receive(Control(ControlKind.ACK, id="connected"))
    assert talk.next() == b'{"action":"auth","params":"k"}'
    assert talk.next() is None
    talk.receive(Control(ControlKind.ACK, id="auth_success"))
    assert talk.next() == b'{"action":"subscribe","params":"T.A,T.B"}'
    talk.receive(Control(ControlKind.ACK, streams=("T.A",)))
    assert talk.next() is None
    talk.receive(Control(ControlKind.ACK, streams=("T.B",)))
    assert talk.next() == b'{"action":"subscribe","params":"LULD.A,LULD.B"}'
    talk.receive(Control(ControlKind.REFUSED, message="not authorized"))
    assert talk.next() == b'{"action":"subscribe","params":"Q.A"}'
    assert not talk.done
    talk.receive(Control(ControlKind.ACK, streams=("Q.A",)))
    assert talk.done
    assert talk.failed == ["LULD.A", "LULD.B"]


def test_what_is_never_answered_takes_nothing_else_with_it():
    # Where some were accepted, the rest has failed; where nothing was, the connection has.
    talk = MassiveSubscriptions("k", ["T.A", "T.B", "Q.A"])
    talk.receive(Control(ControlKind.ACK, id="auth_success"))
    talk.next()
    assert not talk.give_up()
    talk.receive(Control(ControlKind.ACK, streams=("T.A",)))
    assert talk.give_up()
    assert talk.failed == ["T.B"]
    assert talk.next() == b'{"action":"subscribe","params":"Q.A"}'
    assert talk.give_up()
    assert (talk.done, talk.failed) == (True, ["T.B", "Q.A"])
    assert not talk.give_up()


def test_streams_name_symbol_and_channel():
    crypto = feed(product="crypto", symbols=("BTC-USD",), channels=("XT", "XQ", "XA"))
    [line] = crypto.lines()
    assert line.url == "wss://socket.massive.com/crypto"
    told = [(crypto.symbol(s), crypto.channel(s)) for s in line.streams]
    # Quotes are of a pair on one exchange each, and a subscription is of all of them.
    assert told == [("BTC-USD", "trade"), ("", "quote"), ("BTC-USD", "kline")]
    stocks = feed(symbols=("*",), endpoints="delayed")
    assert stocks.lines()[0].url == "wss://delayed.massive.com/stocks"
    assert (stocks.symbol("T.*"), stocks.symbol("T.BRK.A")) == ("", "BRK.A")


def test_frames_tell_their_time_and_types_without_a_decoder():
    wire = MassiveWire("massive")
    body = b'[{"ev":"T","t":1651684192462},{"ev":"Q","t":1},{"ev":"T","t":2}]'
    assert wire.event_time(body) == 1_651_684_192_462_000_000
    assert wire.labels(body) == ("T", "Q")
    assert wire.event_time(b'[{"ev":"status"}]') is None


@pytest.fixture
def venue() -> Iterator[VenueProcess]:
    with running(Path(__file__).with_name("massive_venue.py")) as process:
        yield process


def record(
    venue: VenueProcess,
    data: Path,
    seconds: float,
    faults: dict[float, str],
    **settings: Any,
) -> Any:
    """Records the venue for some seconds, with faults at seconds of it; returns the last status."""
    url = f"ws://127.0.0.1:{venue.port}"
    config = MassiveConfig(**{"ws_url": url, "api_key": "the-key", **settings})
    return venue.record(config, data, seconds, faults)


def stored(data: Path) -> list[tuple[str, int]]:
    """Returns channel and sequence of every event."""
    found = [("T", int(q)) for q in rows(data, SOURCE, "trade")["sequence"]]
    return sorted(found + [("Q", int(q)) for q in rows(data, SOURCE, "quote")["sequence"]])


def test_every_event_is_stored_once(venue: VenueProcess, tmp_path: Path):
    # Two symbols, one of them unknown to the venue, which accepts it and is silent; a channel that
    # the plan has not. What was sent while the recorder stopped may or may not have arrived.
    status = record(venue, tmp_path, 1.5, {}, symbols=("AAPL", "NOPE"), channels=("T", "Q", "LULD"))
    outcome, log = status["outcome"], venue.log()
    assert log["paths"] == ["/stocks"]
    assert (outcome["streams"], outcome["spoke"]) == (6, 2)
    assert sorted(outcome["refused"]) == ["LULD.AAPL", "LULD.NOPE"]
    assert sorted(outcome["silent"]) == ["Q.NOPE", "T.NOPE"]
    sent = [(ev, q) for ev, _, q in log["sent"]]
    found = stored(tmp_path)
    assert len(found) > 20
    for channel in ("T", "Q"):
        arrived = [event for event in found if event[0] == channel]
        assert arrived == [event for event in sent if event[0] == channel][: len(arrived)]
    assert len(set(found)) == len(found)
    assert outcome["dead_letters"] == 0


def test_a_forced_cut_is_a_gap_that_ends(venue: VenueProcess, tmp_path: Path):
    # The venue announces one cut and makes another without a word: each is one connection more, an
    # entry of the ledger for both channels, and all that it sent on either side is stored once.
    status = record(venue, tmp_path, 3.0, {0.7: "cut", 1.6: "reset"}, symbols=("*",))
    log = venue.log()
    assert log["connects"] == 3
    assert status["outcome"]["down"] == []
    markers = rows(tmp_path, SOURCE, "marker")
    gaps = markers[(markers["code"] == GAP) & (markers["cause"] == CAUSES["disconnect"])]
    closed = gaps[gaps["state"] == 2]
    # Two cuts of two symbols and two channels.
    assert len(closed) == 8
    found = stored(tmp_path)
    assert len(found) > 400
    # What was sent is stored, but for what was on the way at a cut or at the end.
    lost = {(ev, q) for ev, _, q in log["sent"]} - set(found)
    assert len(lost) <= 3 * 2 * 4


def test_a_wrong_key_ends_the_recorder_at_once(venue: VenueProcess, tmp_path: Path):
    with pytest.raises(VenueError, match="the venue denies: authentication failed: check the key"):
        record(venue, tmp_path, 20, {}, symbols=("AAPL",), api_key="another")
    assert (venue.log()["connects"], venue.log()["keys"]) == (1, 1)


def test_a_key_that_the_venue_tells_back_is_not_shown(
    venue: VenueProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    venue.log(echo=1)
    with pytest.raises(VenueError, match=r"authentication failed: \*\*\*") as denied:
        record(venue, tmp_path, 20, {}, symbols=("AAPL",), api_key="hunter2")
    assert "hunter2" not in str(denied.value) + caplog.text


def test_a_channel_without_an_answer_is_refused_and_the_others_recorded(
    venue: VenueProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begin = MassiveFeed.__init__

    def hurried(self: MassiveFeed, config: MassiveConfig) -> None:
        begin(self, config)
        self.rules = replace(self.rules, ack_s=0.4)

    monkeypatch.setattr(MassiveFeed, "__init__", hurried)
    status = record(venue, tmp_path, 1.5, {}, symbols=("AAPL",), channels=("T", "A"))
    assert status["outcome"]["refused"] == ["A.AAPL"]
    assert (status["outcome"]["spoke"], venue.log()["connects"]) == (1, 1)


def test_too_many_connections_are_waited_for(
    venue: VenueProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Fully greeted and subscribed, then told: the next try comes after the pause, not at once.
    monkeypatch.setattr("tapeworks.feeds.massive.session.CONNECTIONS_PAUSE_S", 0.8)
    venue.log(too_many=2)
    status = record(venue, tmp_path, 4.0, {}, symbols=("AAPL",))
    first, second = venue.log()["denied"]
    assert second - first >= 0.8
    assert status["outcome"]["spoke"] == 2
