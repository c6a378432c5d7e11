"""Alpaca: its session rules, and recording a venue that speaks like it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.feeds.venue_process import VenueProcess, rows, running

from tapeworks import _core
from tapeworks.errors import ConfigError, VenueError
from tapeworks.feeds.alpaca import AlpacaConfig
from tapeworks.feeds.alpaca.session import AGAIN, AlpacaFeed
from tapeworks.feeds.alpaca.subscriptions import AlpacaSubscriptions
from tapeworks.feeds.alpaca.wire import AlpacaWire
from tapeworks.feeds.base import Control, ControlKind

GAP, CAUSES = _core.numbers("marker_code")["gap"], _core.numbers("gap_cause")
DEPTH = _core.numbers("channel")["depth"]


def feed(**settings: Any) -> AlpacaFeed:
    keys = {"api_key": "k", "api_secret": "s"}
    return AlpacaFeed(AlpacaConfig(**{"symbols": ("AAPL",), **keys, **settings}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"symbols": ()}, "such as AAPL, got none"),
        ({"symbols": ("A A",)}, "'A A'"),
        ({"symbols": ("A", "A")}, "more than once: A"),
        ({"symbols": ("*", "A")}, "no other beside it"),
        ({"channels": ("trades", "T")}, "those of iex, trades, quotes, .*, got 'T'"),
        ({"channels": ("orderbooks",)}, "got 'orderbooks'"),
        ({"product": "nyse"}, "product: expected one of"),
        ({"product": "crypto"}, "pairs such as BTC/USD, got 'AAPL'"),
        ({"symbols": ("BTC/USD",)}, "a pair of the product crypto"),
        ({"product": "test"}, "FAKEPACA alone, got 'AAPL'"),
        ({"product": "options", "symbols": ("*",)}, "record the channel trades alone"),
        ({"endpoints": "paper"}, "endpoints: expected one of"),
        ({"encoding": "xml"}, "encoding: expected one of"),
        ({"ws_url": "http://x"}, "ws_url"),
        ({"idle_timeout_s": 0.5}, "idle_timeout_s: expected 1 to 86400, got 0.5"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        AlpacaConfig(**{"symbols": ("AAPL",), **settings})


def test_the_keys_come_from_the_environment_and_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("APCA_API_KEY_ID", raising=False)
    monkeypatch.delenv("APCA_API_SECRET_KEY", raising=False)
    with pytest.raises(ConfigError, match="set APCA_API_KEY_ID in the environment"):
        feed(api_key="", api_secret="")
    monkeypatch.setenv("APCA_API_KEY_ID", "an-id")
    with pytest.raises(ConfigError, match="set APCA_API_SECRET_KEY in the environment"):
        feed(api_key="", api_secret="")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "a-secret")
    talk = feed(api_key="", api_secret="").subscriptions(["trades.AAPL"])
    talk.receive(Control(ControlKind.ACK, id="connected"))
    assert talk.next() == b'{"action":"auth","key":"an-id","secret":"a-secret"}'
    shown = repr(AlpacaConfig(symbols=("A",), api_key="an-id", api_secret="a-secret"))
    assert "an-id" not in shown
    assert "a-secret" not in shown


def test_messages_mean_what_the_venue_says():
    one, two = feed(), feed(encoding="msgpack")
    for code, kind, retry_s in [
        (400, ControlKind.REFUSED, 0),
        (401, ControlKind.DENIED, 1),
        (402, ControlKind.DENIED, 0),
        (403, ControlKind.ACK, 0),
        (404, ControlKind.DENIED, 1),
        (405, ControlKind.REFUSED, 0),
        (406, ControlKind.DENIED, 30),
        (407, ControlKind.SHUTDOWN, 0),
        (408, ControlKind.DENIED, 0),
        (409, ControlKind.DENIED, 0),
        (410, ControlKind.REFUSED, 0),
        (411, ControlKind.DENIED, 0),
        (412, ControlKind.REFUSED, 0),
        (413, ControlKind.REFUSED, 0),
        (499, ControlKind.UNKNOWN, 0),
        (500, ControlKind.DENIED, 1),
    ]:
        told = [{"T": "error", "code": code, "msg": "so"}]
        for payload in (json.dumps(told).encode(), msgspec.msgpack.encode(told)):
            found = one.control(payload)
            assert (found.kind, found.retry_after_s) == (kind, retry_s), code
            assert found == two.control(payload)
    ack = one.control(b'[{"T":"subscription","trades":["A"],"quotes":[],"bars":["*"]}]')
    assert (ack.kind, ack.streams) == (ControlKind.ACK, ("trades.A", "bars.*"))
    assert one.control(b'[{"T":"success","msg":"connected"}]').id == "connected"
    trade = b'[{"T":"t","S":"A","p":1,"s":1,"c":["@"],"t":"2026-02-02T02:40:00Z"}]'
    assert one.control(trade).kind is ControlKind.DATA
    stamp = msgspec.msgpack.encode([{"T": "t", "t": datetime(2026, 2, 2, tzinfo=UTC)}])
    assert two.control(stamp).kind is ControlKind.DATA
    for noise in (b"", b"[1]", b'[{"T":7}]', b"\xc1", b"{"):
        assert one.control(noise).kind is ControlKind.UNKNOWN, noise


def test_news_says_of_which_symbols_it_is():
    news = feed(product="news", symbols=("AAPL", "TSLA"))
    told = news.control(b'[{"T":"n","id":1,"symbols":["TSLA","X"],"content":"<p>"}]')
    assert (told.kind, told.streams) == (ControlKind.DATA, ("news.TSLA",))
    every = feed(product="news", symbols=("*",)).control(b'[{"T":"n","id":1,"symbols":[]}]')
    assert every.streams == ("news.*",)


def talk_of(*streams: str) -> AlpacaSubscriptions:
    talk = AlpacaSubscriptions("k", "s", streams, msgspec.json.encode)
    assert talk.next() is None, "the venue greets first"
    talk.receive(Control(ControlKind.ACK, id="connected"))
    assert talk.next() == b'{"action":"auth","key":"k","secret":"s"}'
    assert talk.next() is None
    talk.receive(Control(ControlKind.ACK, id="authenticated"))
    return talk


def answer(talk: AlpacaSubscriptions, known: set[str], limit: int) -> list[str]:
    """Answers as the venue does until all is said; returns what is subscribed."""
    accepted: list[str] = []
    while not talk.done:
        message = talk.next()
        assert message is not None
        asked = json.loads(message)
        assert asked.pop("action") == "subscribe"
        [(channel, symbols)] = asked.items()
        if not set(symbols) <= known:
            talk.receive(Control(ControlKind.REFUSED, id=400))
        elif len(accepted) + len(symbols) > limit:
            talk.receive(Control(ControlKind.REFUSED, id=405))
        else:
            accepted += [f"{channel}.{symbol}" for symbol in symbols]
            talk.receive(Control(ControlKind.ACK, id="subscription", streams=tuple(accepted)))
    return accepted


def test_one_symbol_that_the_venue_cannot_read_takes_no_other_with_it():
    symbols = [f"S{number}" for number in range(40)]
    talk = talk_of(*(f"trades.{symbol}" for symbol in symbols), "quotes.S1")
    accepted = answer(talk, set(symbols) - {"S7", "S39"}, 10**6)
    assert sorted(talk.failed) == ["trades.S39", "trades.S7"]
    assert len(accepted) == 39


def test_as_many_symbols_as_the_plan_allows_are_subscribed():
    symbols = [f"S{number}" for number in range(45)]
    talk = talk_of(*(f"trades.{symbol}" for symbol in symbols))
    accepted = answer(talk, set(symbols), 30)
    assert accepted == [f"trades.S{number}" for number in range(30)]
    assert sorted(talk.failed) == sorted(f"trades.S{number}" for number in range(30, 45))


def test_what_the_venue_does_not_name_was_not_accepted():
    talk = talk_of("trades.A", "trades.B", "lulds.A")
    talk.next()
    talk.receive(Control(ControlKind.ACK, id="subscription", streams=("trades.A",)))
    talk.next()
    talk.receive(Control(ControlKind.REFUSED, id=410))
    assert talk.done
    assert talk.failed == ["trades.B", "lulds.A"]


def test_a_book_is_asked_for_by_beginning_its_stream_anew():
    crypto = feed(product="crypto", symbols=("BTC/USD", "ETH/USD"), channels=("orderbooks",))
    assert crypto.books() == ["BTC/USD", "ETH/USD"]
    ended = crypto.snapshot_message("BTC/USD")
    assert ended == b'{"action":"unsubscribe","orderbooks":["BTC/USD"]}'
    told = crypto.control(b'[{"T":"subscription","orderbooks":["ETH/USD"]}]')
    assert told.reply == b'{"action":"subscribe","orderbooks":["BTC/USD"]}'
    assert told.paused == ("orderbooks.BTC/USD",)
    again = crypto.control(b'[{"T":"subscription","orderbooks":["BTC/USD","ETH/USD"]}]')
    assert (again.reply, again.paused) == (b"", ())


def test_each_feed_has_its_address_and_encoding():
    for product, symbol, path in [
        ("sip", "A", "v2/sip"),
        ("delayed_sip", "A", "v2/delayed_sip"),
        ("overnight", "A", "v1beta1/overnight"),
        ("test", "FAKEPACA", "v2/test"),
        ("crypto", "BTC/USD", "v1beta3/crypto/us"),
        ("options", "AAPL240308C00172500", "v1beta1/indicative"),
        ("opra", "AAPL240308C00172500", "v1beta1/opra"),
    ]:
        [line] = feed(product=product, symbols=(symbol,)).lines()
        assert line.url == f"wss://stream.data.alpaca.markets/{path}"
        is_options = product in ("options", "opra")
        form = "application/msgpack" if is_options else "application/json"
        assert line.headers == (("Content-Type", form),)
    assert feed(product="delayed_sip").source == "alpaca-delayed-sip"
    assert feed(endpoints="sandbox").lines()[0].url.startswith("wss://stream.data.sandbox.")


def test_frames_tell_their_time_and_types_without_a_decoder():
    wire = AlpacaWire("alpaca")
    body = b'[{"T":"t","t":"2026-02-02T02:40:00.5Z"},{"T":"q","t":"2026-02-02T02:41:00Z"}]'
    assert wire.event_time(body) == 1_770_000_000_500_000_000
    assert wire.labels(body) == ("t", "q")
    packed = msgspec.msgpack.encode(
        [{"T": "t", "S": "A", "t": datetime(2026, 2, 2, 2, 40, 0, 500_000, UTC)}, {"T": "q"}]
    )
    assert wire.event_time(packed) == 1_770_000_000_500_000_000
    assert wire.labels(packed + b"\x80") == ("t", "q")
    assert wire.event_time(b'[{"T":"success","msg":"connected"}]') is None
    bar = b'[{"T":"b","S":"A","t":"2026-02-02T02:40:00Z"}]'
    assert wire.event_time(bar) == 1_770_000_060_000_000_000
    assert wire.event_time(bar.replace(b'"b"', b'"d"')) is None
    assert wire.event_time(b'[{"t":"2026-99-02T02:40:00Z"}]') is None


@pytest.fixture
def venue() -> Iterator[VenueProcess]:
    with running(Path(__file__).with_name("alpaca_venue.py")) as process:
        yield process


def record(
    venue: VenueProcess, data: Path, seconds: float, faults: dict[float, str], **settings: Any
) -> Any:
    url = f"ws://127.0.0.1:{venue.port}"
    keys = {"ws_url": url, "api_key": "the-key", "api_secret": "the-secret"}
    return venue.record(AlpacaConfig(**{**keys, **settings}), data, seconds, faults)


def ns(text: str) -> int:
    second, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0"))


def stored(data: Path, source: str, kind: str) -> list[int]:
    """Returns the times of every trade or quote, in order: they are of no two."""
    return [int(ts) for ts in rows(data, source, kind)["ts_event"]]


@pytest.mark.parametrize(
    ("product", "symbol", "encoding"),
    [("iex", "AAPL", "json"), ("sip", "AAPL", "msgpack"),
     ("options", "AAPL240308C00172500", "json")],
)  # fmt: skip
def test_every_event_is_stored_once(
    venue: VenueProcess, tmp_path: Path, product: str, symbol: str, encoding: str
):
    # One symbol, and one unknown to the venue, which accepts it and is silent. What was sent while
    # the recorder stopped may or may not have arrived.
    settings = {"product": product, "symbols": (symbol, "NOPE"), "encoding": encoding}
    status = record(venue, tmp_path, 1.5, {}, **settings)
    outcome, log = status["outcome"], venue.log()
    assert (outcome["streams"], outcome["spoke"]) == (4, 2)
    assert outcome["refused"] == []
    assert sorted(outcome["silent"]) == ["quotes.NOPE", "trades.NOPE"]
    for kind, name in (("trade", "t"), ("quote", "q")):
        found = stored(tmp_path, f"alpaca-{product}", kind)
        sent = [ns(t) for ev, of, t in log["sent"] if [ev, of] == [name, symbol]]
        assert len(found) > 10
        assert found == sent[: len(found)]
    assert outcome["dead_letters"] == 0


def test_a_cut_is_a_gap_that_ends(venue: VenueProcess, tmp_path: Path):
    # The venue calls the client slow and cuts it, and then cuts it without a word: each is one
    # connection more, an entry of the ledger for both channels, and nothing is stored twice.
    status = record(venue, tmp_path, 3.5, {0.7: "slow", 1.9: "reset"}, symbols=("AAPL",))
    log = venue.log()
    assert log["connects"] == 3
    assert status["outcome"]["down"] == []
    markers = rows(tmp_path, "alpaca-iex", "marker")
    gaps = markers[(markers["code"] == GAP) & (markers["cause"] == CAUSES["disconnect"])]
    assert len(gaps[gaps["state"] == 2]) == 4
    for kind, name in (("trade", "t"), ("quote", "q")):
        found = stored(tmp_path, "alpaca-iex", kind)
        sent = [ns(t) for ev, _, t in log["sent"] if ev == name]
        assert len(set(found)) == len(found)
        # What was sent is stored, but for what was on the way at a cut or at the end.
        assert len(set(sent) - set(found)) <= 3 * 3


@pytest.mark.slow
def test_a_book_is_whole_again_after_a_cut_and_after_an_update_that_cannot_be_read(
    venue: VenueProcess, tmp_path: Path
):
    settings = {"product": "crypto", "symbols": ("BTC/USD",), "channels": ("orderbooks",)}
    status = record(venue, tmp_path, 5.0, {0.8: "reset", 2.2: "spoil"}, **settings)
    outcome = status["outcome"]
    assert (outcome["unverified"], outcome["dead_letters"]) == ([], 1)
    asked = [message for message in venue.log()["asked"] if message["action"] == "unsubscribe"]
    assert asked == [{"action": "unsubscribe", "orderbooks": ["BTC/USD"]}]
    assert status["unsynchronised"] == []
    # What the cut took of the book has no number, and is a gap all the same.
    markers = rows(tmp_path, "alpaca-crypto", "marker")
    gaps = markers[(markers["code"] == GAP) & (markers["cause"] == CAUSES["disconnect"])]
    assert {int(channel) for channel in gaps["channel"]} == {DEPTH}
    assert list(gaps["state"]) == [1, 2]
    # And what it lacks while it is asked for anew is one, too, until it comes.
    gaps = markers[(markers["code"] == GAP) & (markers["cause"] == CAUSES["silence"])]
    assert list(zip(gaps["channel"], gaps["state"], strict=True)) == [(DEPTH, 1), (DEPTH, 2)]


@pytest.mark.slow
def test_every_book_is_asked_for_anew_however_many_there_are(venue: VenueProcess, tmp_path: Path):
    # All were broken by one frame, and more are to be begun again than may be sent in a second.
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD", "UNI/USD", "DOT/USD")
    settings = {"product": "crypto", "symbols": symbols, "channels": ("orderbooks",)}
    status = record(venue, tmp_path, 9.0, {1.2: "garble"}, **settings)
    asked = [message for message in venue.log()["asked"] if "orderbooks" in message]
    begun = [name for one in asked if one["action"] == "subscribe" for name in one["orderbooks"]]
    ended = [name for one in asked if one["action"] == "unsubscribe" for name in one["orderbooks"]]
    # Each at the start, and once for each time that it was ended.
    assert set(ended) == set(symbols)
    assert sorted(begun) == sorted([*symbols, *ended])
    assert status["outcome"]["unverified"] == []
    assert status["unsynchronised"] == []


def test_wrong_keys_end_the_recorder_at_once(venue: VenueProcess, tmp_path: Path):
    with pytest.raises(VenueError, match=r"the venue denies: auth failed \(402\): check the key"):
        record(venue, tmp_path, 20, {}, symbols=("AAPL",), api_secret="another")
    assert (venue.log()["connects"], venue.log()["keys"]) == (1, 1)


def test_a_feed_that_the_plan_has_not_ends_the_recorder(venue: VenueProcess, tmp_path: Path):
    venue.log(insufficient=1)
    with pytest.raises(VenueError, match=r"insufficient subscription \(409\): the plan has no"):
        record(venue, tmp_path, 20, {}, symbols=("AAPL",), product="sip")


def test_another_session_is_waited_for(
    venue: VenueProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(AGAIN, 406, 0.8)
    venue.log(too_many=2)
    status = record(venue, tmp_path, 4.0, {}, symbols=("AAPL",))
    first, second = venue.log()["denied"]
    assert second - first >= 0.8
    assert status["outcome"]["spoke"] == 2


def test_more_symbols_than_the_plan_allows_are_told(venue: VenueProcess, tmp_path: Path):
    venue.log(symbols_max=3)
    settings = {"symbols": ("AAPL", "BRK.B", "X!", "C", "D"), "channels": ("trades",)}
    with pytest.raises(ConfigError, match="'X!'"):
        record(venue, tmp_path, 1, {}, **settings)
    status = record(venue, tmp_path, 2, {}, **{**settings, "symbols": ("AAPL", "BRK.B", "C", "D")})
    assert status["outcome"]["refused"] == ["trades.D"]
    assert status["outcome"]["spoke"] == 2
