"""Redis with a real server: what the suite of sinks and the campaign of stores do not ask."""

import subprocess
import sys
import time

import numpy as np
import pytest
import redis
from tests.test_layout import ROOT

from conftest import START, SpineFolder
from published import stream_messages, trades
from tapeworks._core import decode_messages, dtype_descr
from tapeworks.errors import ConfigError, SinkError
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.redis import RedisConfig, RedisSink
from tapeworks.topics import BARS, NORMALIZED, RAW

DECODE = ["-m", "grpc_tools.protoc", "--proto_path=proto", "--decode=tapeworks.v1.MarketData"]


@pytest.fixture
def service(server):
    return server("redis")


def feeder_of(spine, service, prefix, name="redis", topic=NORMALIZED, **settings):
    config = RedisConfig(url=service.url(), prefix=prefix, topics=(topic,), **settings)
    sink = RedisSink(config, SinkContext(name, spine.path))
    return Feeder(sink.partition(spine.source, topic), spine.tape(topic), config.policy)


def command(service, *words: str) -> bytes:
    """Returns what `redis-cli` prints."""
    line = ["redis-cli", "-p", str(service.port), *words]
    return subprocess.run(line, capture_output=True, check=True, timeout=20).stdout


def test_a_group_of_the_command_line_reads_the_stream_and_protoc_the_last_state(
    spine, maker, service
):
    # redis-cli makes a group that takes entries by their offsets; the last trade of an instrument
    # is what protoc, which knows the schema alone, reads.
    spine.append(maker.definitions())
    spine.append(maker.trades(200))
    spine.append(maker.imbalances(5))
    feeder = feeder_of(spine, service, "cli.")
    assert feeder.drain(10)
    feeder.close()
    stream, key = f"cli.{NORMALIZED}:binance-spot", "cli.latest:binance-spot/ETHUSDT"
    command(service, "XGROUP", "CREATE", stream, "engine", "0")
    words = ["GROUP", "engine", "one", "COUNT", "5", "STREAMS", stream, ">"]
    told = command(service, "XREADGROUP", *words)
    assert [b"\n%d-1\n" % at in told for at in range(6)] == [True] * 5 + [False]
    message = command(service, "HGET", key, "trade").removesuffix(b"\n")
    line = [sys.executable, *DECODE, "tapeworks/v1/market_data.proto"]
    done = subprocess.run(line, input=message, cwd=ROOT, capture_output=True, check=True)
    last = max(at for at, one in enumerate(maker.trades(200)["instrument"]) if one == 2)
    for told in ('symbol: "ETHUSDT"', f"tape_offset: {3 + last}", "kind: KIND_TRADE"):
        assert told in done.stdout.decode()
    # What an auction to come would do is a state of its instrument, as the last trade is.
    message = command(service, "HGET", key, "imbalance").removesuffix(b"\n")
    done = subprocess.run(line, input=message, cwd=ROOT, capture_output=True, check=True)
    for told in ("KIND_IMBALANCE", "tape_offset: 206", 'code: "OSL"', "auction_time: 930"):
        assert told in done.stdout.decode()
    with redis.from_url(service.url()) as client:
        assert 0 < client.pttl(key) <= 3_600_000


def test_second_instance_that_moved_the_place_is_noticed(spine, maker, service, tmp_path):
    # Another machine with the same tapes goes on; the first one is refused by the script, and both
    # together stored each trade once. Opened again, it goes on from where the other one was.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    first = feeder_of(spine, service, "two.")
    assert first.drain(10)
    spine.append(maker.trades(50, 50))
    twin = type(spine)(tmp_path / "twin")
    twin.path.mkdir()
    (twin.path / "tape").symlink_to(spine.path / "tape")
    second = feeder_of(twin, service, "two.")
    assert second.drain(10)
    second.close()
    first.step()
    with pytest.raises(SinkError, match="does another instance of this sink run"):
        first.flush()
    first.close()
    spine.append(maker.trades(50, 100))
    assert first.drain(10)
    first.close()
    stored = stream_messages(service.url(), f"two.{NORMALIZED}:binance-spot")
    assert trades([message for _, message in stored]) == [(3 + at, at) for at in range(150)]


def test_a_stream_is_of_one_sink(spine, maker, service):
    # Redis takes no id below its newest: what a second sink stores late would be left out. It is
    # refused, the first one goes on. A stream from before there were owners is of the sink that has
    # a place in it; one without any is nobody's, unless a reader made it and it is empty.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    first = feeder_of(spine, service, "one.", "trades", kinds=("trade",))
    assert first.drain(10)
    first.close()
    places, stream = "one.tapeworks.offsets", f"one.{NORMALIZED}:{spine.source}"
    owner, told = f"owner {NORMALIZED}:{spine.source}", "expected a stream of the sink quotes"
    with redis.from_url(service.url()) as client:
        for remove in (None, owner):
            if remove is not None:
                client.hdel(places, remove)
            second = feeder_of(spine, service, "one.", "quotes", kinds=("quote",))
            with pytest.raises(SinkError, match=f"{told}, got one of the sink trades"):
                second.drain(10)
        # As the version before left it: its own sink goes on.
        spine.append(maker.trades(50, 50))
        assert first.drain(10)
        first.close()
        assert client.hget(places, owner) == b"trades"
        client.delete(places)
        with pytest.raises(SinkError, match="got one of nobody's"):
            second.drain(10)
        client.delete(stream)
        client.xgroup_create(stream, "readers", mkstream=True)
        assert first.drain(10)
        first.close()
    stored = stream_messages(service.url(), stream)
    assert trades([message for _, message in stored]) == [(3 + at, at) for at in range(100)]


def test_an_empty_stream_is_of_whoever_stores_first(spine, maker, service):
    # One that only looked at it, and one whose claim an earlier version left there, have no right
    # to it: of two that wait for the first records, the second is told whose the stream is.
    spine.append(maker.definitions())
    first, second = (feeder_of(spine, service, "free.", name) for name in ("first", "second"))
    owner = f"owner {NORMALIZED}:{spine.source}"
    with redis.from_url(service.url()) as client:
        client.hset("free.tapeworks.offsets", owner, "gone")
        second.step()
        assert first.drain(10)
        assert client.hget("free.tapeworks.offsets", owner) == b"first"
        with pytest.raises(SinkError, match="of the sink second, got one of the sink first"):
            second.flush()
    for feeder in (first, second):
        feeder.close()


def test_an_older_bar_that_is_amended_is_not_the_last_one(spine, maker, service):
    # Bars of three minutes in order; then a late trade amends the first of them, and another one
    # the last. The amended first one comes again behind a restart, which knows of no other.
    def bars(minutes, flags):
        ts = [START + 60_000_000_000 * minute for minute in minutes]
        values = {"ts_event": ts, "ts_recv": ts, "interval_ms": 60_000, "close": minutes}
        table = maker.rows("bar", len(minutes), instrument=1, flags=flags, channel=1, **values)
        spine.append(table, BARS)

    def last_close():
        with redis.from_url(service.url()) as client:
            message = client.hget(f"late.latest:{spine.source}/BTCUSDT", "bar")
        records, _, _ = decode_messages([message])
        return np.frombuffer(records.numpy("bar"), np.dtype(dtype_descr("bar")))["close"].tolist()

    spine.append(maker.definitions())
    feeder = feeder_of(spine, service, "late.", topic=BARS)
    for minutes, flags, expected in (
        ([1, 2, 3], 1, 3), ([1], 1 | 8, 3), ([3, 2], 1 | 8, 3), ([4, 3], [1, 1 | 8], 4),
    ):  # fmt: skip
        bars(minutes, flags)
        assert feeder.drain(10)
        assert last_close() == [expected]
    feeder.close()
    feeder = feeder_of(spine, service, "late.", topic=BARS)
    bars([1], 1 | 8)
    assert feeder.drain(10)
    feeder.close()
    assert last_close() == [4]


def test_a_stream_is_trimmed_and_its_ids_go_on(spine, maker, service):
    # About a hundred entries are kept; Redis trims whole nodes, and the last entry stays the last.
    spine.append(maker.definitions())
    spine.append(maker.trades(5_000))
    feeder = feeder_of(spine, service, "trim.", entries_max=100)
    assert feeder.drain(10)
    feeder.close()
    stored = stream_messages(service.url(), f"trim.{NORMALIZED}:binance-spot")
    assert 100 <= len(stored) < 1_000
    assert stored[-1][0] == b"5002-1"


def test_frames_are_no_entries():
    with pytest.raises(ConfigError, match=r"expected topics of records, got market-data\.raw"):
        RedisSink.topics(RedisConfig(topics=(RAW,)))


@pytest.mark.slow
def test_sources_in_parallel_are_all_stored(spine, maker, service, tape):
    # Three sources by two threads, each with its connection: all of each is in its stream, once,
    # and the process ends in good order, when it is asked to, also after it was killed.
    sources = ("binance-spot", "alpaca", "massive")
    feeds = "".join(
        f'[feeds.{name}]\nkind = "binance"\nsymbols = ["BTCUSDT"]\n' for name in sources
    )
    (tape.folder / "tapeworks.toml").write_text(
        f'{feeds}[sinks.redis]\nurl = "{service.url()}"\nprefix = "par."\nparallel = 2\n'
        f'topics = ["{NORMALIZED}"]\nflush_seconds = 0.02\n'
    )
    folders = [SpineFolder(tape.folder / "data", name) for name in sources]
    for folder in folders:
        folder.append(maker.definitions())
        folder.append(maker.trades(100))

    def stored(count):
        names = [f"par.{NORMALIZED}:{name}" for name in sources]
        found = [trades([one for _, one in stream_messages(service.url(), key)]) for key in names]
        return all(one == [(3 + at, at) for at in range(count)] for one in found)

    for count in (100, 200):
        process = tape.start("worker", "sink", "redis")
        deadline = time.monotonic() + 40
        while not stored(count):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if count == 100:
            process.kill()
            process.wait()
            for folder in folders:
                folder.append(maker.trades(100, 100))
    process.terminate()
    assert process.wait(30) == 0
    for folder in folders:
        folder.close()
