"""The rules of a Binance session, without any socket: streams, subscriptions, limits, answers."""

import asyncio
import json
import random
import resource
import signal

import pytest

from tapeworks._core import Ingest, numbers
from tapeworks.errors import ConfigError, VenueError
from tapeworks.feeds import rest
from tapeworks.feeds.base import Clock, ControlKind, LivenessPolicy, Request
from tapeworks.feeds.binance import BinanceConfig, BinanceFeed
from tapeworks.feeds.binance.rest import depth_request, rate_limits, refusal, weight_used
from tapeworks.feeds.binance.session import PARAMS_MAX, BinanceSubscriptions
from tapeworks.feeds.limits import Backoff, RateLimiter, WeightBudget
from tapeworks.feeds.watchdog import idle_limit_s

CONTROL = BinanceFeed(BinanceConfig(symbols=("BTCUSDT",))).control


def reply(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_futures_streams_go_to_their_routed_paths():
    # A stream on the wrong path is silent for good and gives no error, so the table decides.
    config = BinanceConfig(
        product="usdm",
        symbols=("BTCUSDT",),
        channels=("aggTrade", "bookTicker", "depth", "depth20", "kline_1m", "markPrice", "ticker"),
        depth_speed_ms=250,
    )
    lines = BinanceFeed(config).lines()
    assert {line.url.split("binance.com")[1]: line.streams for line in lines} == {
        "/market/stream": (
            "btcusdt@aggTrade",
            "btcusdt@kline_1m",
            "btcusdt@markPrice@1s",
            "btcusdt@ticker",
        ),
        "/public/stream": ("btcusdt@bookTicker", "btcusdt@depth", "btcusdt@depth20"),
    }


def test_spot_asks_for_microseconds_and_splits_large_sets():
    # 70 symbols of 3 channels are 210 streams: more than the default of 200 on a connection.
    symbols = tuple(f"S{number}USDT" for number in range(70))
    lines = BinanceFeed(BinanceConfig(symbols=symbols, connections=2)).lines()
    assert [len(line.streams) for line in lines] == [200, 10]
    assert all(line.url.endswith("/stream?timeUnit=MICROSECOND") for line in lines)
    assert [line.copies for line in lines] == [2, 2]
    assert lines[0].group != lines[1].group
    assert "s0usdt@depth@100ms" in lines[0].streams


@pytest.mark.parametrize(
    ("preset", "stream", "requests"),
    [
        ("us", "wss://stream.binance.us:9443/stream", "https://api.binance.us"),
        ("tr", "wss://stream-cloud.binance.tr/stream", "https://api.binance.me"),
    ],
)
def test_another_binance_is_another_end_point(preset, stream, requests):
    # The same paths and rules at other hosts.
    feed = BinanceFeed(BinanceConfig(symbols=("BTCTRY",), endpoints=preset))
    assert feed.lines()[0].url.partition("?")[0] == stream
    assert feed.rest_url == requests


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"symbols": ()}, "symbols"),
        ({"symbols": ("BTC/USDT",)}, "symbols"),
        ({"product": "margin"}, "product"),
        ({"channels": ("trades",)}, "channels"),
        ({"channels": ("markPrice",)}, "channels"),
        ({"channels": ("depth7",)}, "channels"),
        ({"depth_speed_ms": 250}, "depth_speed_ms"),
        ({"connections": 0}, "connections"),
        ({"endpoints": "moon"}, "endpoints"),
        ({"snapshot_limit": 6000}, "snapshot_limit"),
        ({"product": "usdm", "snapshot_limit": 700}, "snapshot_limit"),
        ({"rotation_s": 90_000}, "rotation_s"),
    ],
)
def test_wrong_setting_is_named(fields, named):
    # Each setting by itself, against good ones: the message must name it and what was found.
    with pytest.raises(ConfigError, match=named):
        BinanceConfig(**({"symbols": ("BTCUSDT",)} | fields))


@pytest.mark.parametrize(
    ("payload", "kind", "number"),
    [
        (reply(result=None, id=1), ControlKind.ACK, 1),
        (reply(result=["a@trade"], id=2), ControlKind.LISTING, 2),
        (reply(error={"code": 2, "msg": "Invalid request"}, id=3), ControlKind.REFUSED, 3),
        (reply(code=2, msg="Invalid request", id=4), ControlKind.REFUSED, 4),
        (reply(error={"code": 3, "msg": "Invalid JSON"}, id=None), ControlKind.REFUSED, None),
        (reply(e="serverShutdown", E=1), ControlKind.SHUTDOWN, None),
        (
            reply(stream="!serverShutdown", data={"e": "serverShutdown", "E": 1}),
            ControlKind.SHUTDOWN,
            None,
        ),
        (reply(data={"e": "trade"}, stream="a@trade"), ControlKind.DATA, None),
        (b"[]", ControlKind.UNKNOWN, None),
        (b"{", ControlKind.UNKNOWN, None),
    ],
)
def test_control_frames_are_understood_in_all_documented_forms(payload, kind, number):
    # Errors come nested and flat, shutdowns raw and in an envelope, keys in any order.
    control = CONTROL(payload)
    assert (control.kind, control.id) == (kind, number)


def serve(talk: BinanceSubscriptions, bad: set[str], forgets: set[str]) -> list[dict[str, object]]:
    """Plays a venue that refuses batches with a bad name, and forgets some names once."""
    live: list[str] = []
    sent = []
    while (message := talk.next()) is not None:
        request = json.loads(message)
        sent.append(request)
        params = request.get("params", [])
        if request["method"] == "LIST_SUBSCRIPTIONS":
            talk.receive(CONTROL(reply(result=live, id=request["id"])))
        elif bad & set(params):
            error = {"code": 2, "msg": "Invalid request: invalid stream"}
            talk.receive(CONTROL(reply(error=error, id=request["id"])))
        else:
            live += [name for name in params if name not in forgets]
            forgets -= set(params)
            talk.receive(CONTROL(reply(result=None, id=request["id"])))
    return sent


def test_subscriptions_go_in_batches_and_are_verified():
    # 450 streams: three messages and the list, well under the venue's five messages a second.
    names = [f"s{number}usdt@trade" for number in range(450)]
    talk = BinanceSubscriptions(names)
    sent = serve(talk, set(), set())
    assert [len(request.get("params", [])) for request in sent] == [PARAMS_MAX, PARAMS_MAX, 50, 0]
    assert talk.done
    assert not talk.failed


def test_one_bad_stream_does_not_stop_the_others():
    # The venue refuses a whole batch for one name; halving finds it in a few messages.
    names = [f"s{number}usdt@trade" for number in range(100)]
    talk = BinanceSubscriptions(names)
    sent = serve(talk, {"s77usdt@trade"}, set())
    assert talk.done
    assert talk.failed == ["s77usdt@trade"]
    assert len(sent) <= 16


def test_forgotten_stream_is_asked_for_once_more():
    # Acknowledged and not in the list: the second time it works, or it counts as failed.
    talk = BinanceSubscriptions(["a@trade", "b@trade"])
    serve(talk, set(), {"b@trade"})
    assert talk.done
    assert not talk.failed
    stubborn = BinanceSubscriptions(["a@trade", "c@trade"])
    for live in (["a@trade"], ["a@trade"]):
        while b"LIST" not in (message := stubborn.next() or b""):
            stubborn.receive(CONTROL(reply(result=None, id=json.loads(message)["id"])))
        stubborn.receive(CONTROL(reply(result=live, id=json.loads(message)["id"])))
    assert stubborn.done
    assert stubborn.failed == ["c@trade"]


def test_pace_never_exceeds_its_window():
    # Random arrivals and waits: no window may hold more than four events.
    chance = random.Random(5)
    pace = RateLimiter(4, 1.0)
    now, moments = 0.0, []
    for _ in range(500):
        now += chance.random() * 0.3
        moments.append(now + pace.take(now))
    moments.sort()
    assert all(b - a >= 1.0 - 1e-9 for a, b in zip(moments, moments[4:], strict=False))


def test_pongs_use_up_the_pace():
    # The venue counts pongs among the messages, so after four of them a subscription waits.
    pace = RateLimiter(4, 1.0)
    for _ in range(4):
        pace.spend(10.0)
    assert pace.take(10.2) == pytest.approx(0.8)


def test_backoff_doubles_with_jitter_up_to_its_limit():
    # Each delay lies between half and all of a doubling series, and starts anew after a success.
    backoff = Backoff(0.25, 30.0, random.Random(1))
    delays = [backoff.delay() for _ in range(12)]
    for number, delay in enumerate(delays):
        whole = min(30.0, 0.25 * 2**number)
        assert whole / 2 <= delay <= whole
    backoff.lived(100.0, 131.0, 30.0)
    assert backoff.delay() <= 0.25


def test_backoff_is_reset_once_for_each_connection_that_lived():
    # A connection of an hour is kept, since its successors are cut: that it lives on must not make
    # the next successor come at once, each time again.
    backoff = Backoff(1.0, 30.0, random.Random(1))
    delays = []
    for now in range(3600, 3700, 10):
        backoff.lived(0.0, float(now), 30.0)
        delays.append(backoff.delay())
    assert delays[0] <= 1.0
    assert min(delays[5:]) >= 15.0
    backoff.lived(3650.0, 3700.0, 30.0)
    assert backoff.delay() <= 1.0


def test_definitions_of_futures_are_asked_for_hourly():
    # Their answer holds every symbol of the venue; spot sends what it is asked for. What is set
    # is done, and a list that is too long for a path is not sent.
    def feed(**fields):
        return BinanceFeed(BinanceConfig(symbols=("BTCUSDT",), **fields))

    assert feed().definitions_s == 300.0
    assert feed(product="usdm").definitions_s == 3600.0
    assert feed(product="usdm", definitions_s=60.0).definitions_s == 60.0
    assert feed(definitions_s=0.0).definitions_s == 0.0
    assert "BTCUSDT" in feed().opening_requests()[0].path
    many = tuple(f"S{number}USDT" for number in range(1000))
    (request,) = BinanceFeed(BinanceConfig(symbols=many)).opening_requests()
    assert (request.path, request.weight) == ("/api/v3/exchangeInfo", 20)


def test_weight_budget_holds_a_share_of_the_window():
    # 100 books of weight 250 against 6000 a minute, half of it ours: at most 3000 in any window
    # of the venue, which count from the full minute.
    budget = WeightBudget(6000, share=0.5)
    now, used = 5.0, dict.fromkeys(range(20), 0)
    for _ in range(100):
        while (delay := budget.delay(250, now, now)) > 0:
            now += delay
        budget.spend(250, now, now)
        used[int(now // 60)] += 250
    assert max(used.values()) <= 3000
    assert now < 60 * 10


def test_limit_of_nothing_is_not_believed():
    # An answer that says 0 must not stop the recorder, nor divide by it.
    budget = WeightBudget(6000)
    budget.change_limit(0)
    budget.spend(3000, 5.0, 5.0)
    assert 0 < budget.delay(250, 5.0, 5.0) < 60


def test_weight_budget_believes_the_venue():
    # Another process behind the same address used almost all: nothing until the next window.
    budget = WeightBudget(6000, share=0.5)
    budget.spend(5, 100.0, 100.0)
    budget.told(5990, 100.0)
    assert budget.delay(250, 100.0, 100.0) == pytest.approx(20.5)
    assert budget.delay(250, 121.0, 121.0) == 0.0


def test_busy_neighbour_does_not_take_our_share():
    # Somebody behind the same address uses 60 % of the limit, early in each window. Snapshots of
    # 250 go on at the rate of our half: some nine a minute, and never a request above the limit.
    budget = WeightBudget(6000, share=0.5)
    now, made, own, window = 60.0, 0, 0, 1
    while now < 660.0:
        if int(now // 60) != window:
            window, own = int(now // 60), 0
        neighbour = int(3600 * min(1.0, now % 60 / 30 + 0.9))
        delay = budget.delay(250, now, now)
        if delay > 0:
            now += delay
            continue
        budget.spend(250, now, now)
        made, own = made + 1, own + 250
        assert own <= 3000
        budget.told(neighbour + own, now)
        now += 0.1
    assert made >= 80


def test_what_the_venue_says_is_believed_within_bounds_only():
    # Numbers of five thousand digits, limits that no venue has, bans until 2286: each is as if it
    # had not been said, and nothing raises.
    huge, deep = "9" * 5000, b"[" * 200_000 + b"]" * 200_000
    assert weight_used({"X-MBX-USED-WEIGHT-1M": huge}, 60) == 0
    assert weight_used({f"X-MBX-USED-WEIGHT-{huge}M": "1"}, 60) == 0
    assert refusal(429, {"Retry-After": huge}, b"{}", 0).retry_after_ms == 60_000
    assert refusal(429, {"Retry-After": "٣"}, b"{}", 0).retry_after_ms == 60_000
    until_2286 = b'{"code":-1003,"msg":"banned until 9999999999999"}'
    assert refusal(418, {}, until_2286, 1_700_000_000_000).retry_after_ms == 120_000
    assert "2286" not in str(refusal(500, {}, b'{"x":' + deep + b"}", 0))
    wire = b'{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","limit":%s}]}'
    assert rate_limits(wire % (b"1" + b"0" * 400)) == []
    assert rate_limits(wire % b"-5") == []
    assert [limit.limit for limit in rate_limits(wire % b"6000")] == [6000]
    assert rate_limits(b'{"x":' + deep + b',"rateLimits":[]}') == []
    assert CONTROL(deep).kind is ControlKind.UNKNOWN
    assert CONTROL(b'{"id":1,"result":' + deep + b"}").kind in (
        ControlKind.UNKNOWN,
        ControlKind.ACK,
    )


def test_ban_stops_every_request():
    # 418 with Retry-After: no request, however light, until it is over.
    budget = WeightBudget(6000)
    budget.ban(120.0, 50.0)
    assert budget.delay(1, 51.0, 51.0) == pytest.approx(119.0)
    assert budget.delay(1, 170.5, 170.5) == 0.0


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait_ms"),
    [
        (429, {"Retry-After": "7"}, b"", 7000),
        (418, {"retry-after": "120"}, b"", 120_000),
        (418, {}, b'{"code":-1003,"msg":"IP banned until 1700000300000."}', 300_000),
        (429, {}, b"", 60_000),
        (403, {}, b"<html>", 300_000),
        (503, {}, b"", 1000),
        (400, {}, b'{"code":-1121,"msg":"Invalid symbol."}', 0),
    ],
)
def test_refusals_say_when_to_ask_again(status, headers, body, wait_ms):
    # By header, by the text of the code, or by what the documentation says of the status.
    error = refusal(status, headers, body, 1_700_000_000_000)
    assert (error.status, error.retry_after_ms) == (status, wait_ms)


def test_used_weight_is_read_for_the_minute_alone():
    # The header's name carries its window; others are not comparable.
    headers = {"X-MBX-USED-WEIGHT": "9", "x-mbx-used-weight-1m": "42", "X-MBX-USED-WEIGHT-1D": "7"}
    assert weight_used(headers, 60) == 42


def test_depth_requests_weigh_what_the_venue_counts():
    # The table of the documentation, at its borders.
    spot = [depth_request("spot", "A", limit, 0).weight for limit in (100, 101, 1000, 1001, 5000)]
    usdm = [depth_request("usdm", "A", limit, 0).weight for limit in (50, 100, 500, 1000)]
    assert spot == [5, 25, 50, 250, 250]
    assert usdm == [2, 5, 10, 20]
    assert depth_request("spot", "BTCUSDT", 5000, 0).path == (
        "/api/v3/depth?symbol=BTCUSDT&limit=5000"
    )


def test_full_queue_of_requests_takes_none_and_says_so(tmp_path, monkeypatch):
    # A venue or a feed that causes requests without end must not fill the memory. One that is
    # queued already is none more.
    monkeypatch.setattr(rest, "QUEUED_MAX", 10)
    feed = BinanceFeed(BinanceConfig(symbols=("BTCUSDT",)))
    ingest = Ingest(tmp_path, "binance-spot", feed.native)
    requests = rest.Requests(feed, ingest, lambda: None, Clock(), None)
    for number in [*range(10), 3, 10]:
        requests.push(Request(0, f"/{number}"))
    ingest.close()
    assert requests.waiting("/9")
    assert not requests.waiting("/10")
    assert (requests.failed, requests.last_failure) == (1, "/10: 10 requests wait already")


def test_an_answer_that_found_no_room_is_none(tmp_path, monkeypatch):
    # The disk is full and the buffer as well: what asked is not told of an answer. Later it is.
    feed = BinanceFeed(BinanceConfig(symbols=("BTCUSDT",)))
    ingest = Ingest(tmp_path, "binance-spot", feed.native, pending_bytes_max=4096)
    requests = rest.Requests(feed, ingest, ingest.flush, Clock(), None)

    async def exchange(path):
        return 200, {}, b"[]", ""

    monkeypatch.setattr(requests, "_exchange", exchange)
    text = numbers("blob_kind")["text"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        for number in range(2):
            ingest.receive(0, text, number, b"x" * 4000)
        with pytest.raises(VenueError, match="shed") as refused:
            asyncio.run(requests.get(Request(0, "/x")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert refused.value.retry_after_ms > 0
    ingest.flush()
    assert asyncio.run(requests.get(Request(0, "/x"))) == b"[]"
    ingest.close()


def test_silence_is_judged_by_the_streams_own_pace():
    # One message in ten seconds: two minutes of quiet say nothing. Ten a second: half a minute
    # does. A kline or a trade may stop for as long as nobody trades.
    learned = LivenessPolicy(30.0, 30.0, learned=True)
    assert idle_limit_s(learned, 200, 0.0, 1990.0) == pytest.approx(500.0)
    assert idle_limit_s(learned, 200, 0.0, 19.9) == 30.0
    assert idle_limit_s(learned, 99, 0.0, 9.0) is None
    assert idle_limit_s(LivenessPolicy(), 10_000, 0.0, 9.0) is None
    assert idle_limit_s(LivenessPolicy(15.0, 15.0), 1, 0, 0) == 15.0
