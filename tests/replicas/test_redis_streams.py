"""A reader of streams against a real server."""

import json
import time

import numpy as np
import pytest
import redis

from tapeworks import _core
from tapeworks._core import Records
from tapeworks.errors import SinkError, TapeReplacedError
from tapeworks.replicas.base import ReplicaContext, parse_address
from tapeworks.replicas.redis import RedisTopicReader
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.redis import RedisConfig, RedisSink
from tapeworks.source_symbols import KeptDefinitions
from tapeworks.tape import TapeConfig, TapeReader, TapeWriter
from tapeworks.topics import NORMALIZED

SECONDS_MAX = 30.0
STREAM = f"far.{NORMALIZED}:binance-spot"


def publish(spine, url, sink="redis", prefix="far."):
    config = RedisConfig(url=url, prefix=prefix, topics=(NORMALIZED,), entries_max=0)
    partition = RedisSink(config, SinkContext(sink, spine.path)).partition(spine.source, NORMALIZED)
    feeder = Feeder(partition, spine.tape(NORMALIZED), config.policy, name=f"sink-{sink}")
    try:
        assert feeder.drain(30)
    finally:
        feeder.close()


def reader_in(folder, url, prefix="far."):
    context = ReplicaContext(folder, TapeConfig(), lambda sources: None)
    return RedisTopicReader(parse_address(f"{url}/{prefix}{NORMALIZED}", ("redis",)), context)


def content(folder):
    tape = folder / "tape" / "binance-spot" / NORMALIZED
    reader, found = TapeReader(tape), []
    while (batch := reader.read()) is not None:
        found.append(bytes(batch))
    return b"".join(found)


def read_until(reader, position):
    deadline = time.monotonic() + SECONDS_MAX
    while reader.status().get("binance-spot", {}).get("position") != position:
        assert time.monotonic() < deadline, reader.troubles
        reader.poll(0.02)
    reader.checkpoint()


@pytest.mark.slow
def test_a_stream_has_one_reader_of_a_group_whose_tape_is_the_recorders(
    spine, maker, server, tmp_path
):
    # Two workers of a group: one reads the stream, until it gives it back; then the other reads it
    # from the beginning. What is trimmed before it was read is a gap. A stream that is said to be
    # of another tape is refused.
    url = f"redis://127.0.0.1:{server('redis').port}/0"
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    publish(spine, url)
    first, second = (reader_in(tmp_path / name, url) for name in ("first", "second"))
    read_until(first, 53)
    assert content(tmp_path / "first") == content(spine.path)
    for _ in range(5):
        assert second.poll(0.02) == 0
    first.close()
    read_until(second, 53)
    assert content(tmp_path / "second") == content(spine.path)
    with redis.from_url(url) as client:
        [group] = client.xinfo_groups(STREAM)
        assert (group["name"], group["last-delivered-id"]) == (b"tapeworks", b"53-0")
        second.close()
        spine.append(maker.trades(50, 50))
        spine.append(maker.trades(50, 100))
        publish(spine, url)
        client.xtrim(STREAM, minid="120-1", approximate=False)
        second = reader_in(tmp_path / "second", url)
        read_until(second, 153)
        records = Records.from_bytes(content(tmp_path / "second"))
        [gap] = np.frombuffer(
            records.select([_core.kind_of("marker")]), _core.dtype_descr("marker")
        )
        assert gap["cause"] == _core.numbers("gap_cause")["retention"]
        assert (gap["first"], gap["last"]) == (53, 119)
        trades = np.frombuffer(records.numpy("trade"), _core.dtype_descr("trade"))
        assert trades["trade_id"].tolist() == [*range(50), *range(117, 150)]
        fields = client.hgetall("far.tapeworks.offsets")
        # The other one says whose stream it is.
        [place] = [one for one, value in fields.items() if value.startswith(b"{")]
        told = json.loads(fields[place]) | {"tape": "00" * 16}
        client.hset("far.tapeworks.offsets", place, json.dumps(told))
        with pytest.raises(TapeReplacedError, match="name another folder"):
            read_until(second, None)
        second.close()


@pytest.mark.parametrize("is_running", [False, True])
def test_a_stream_that_is_made_anew_behind_what_was_read_is_a_gap(
    spine, maker, server, tmp_path, is_running
):
    # The server loses all that it had, and retention the front of the tape. The sink refuses, and
    # goes on under another name, with what the tape has: the worker, which runs all the time or
    # starts again, has all of it, and a gap for what it will never get.
    url, prefix = f"redis://127.0.0.1:{server('redis').port}/0", f"anew.{is_running}."
    KeptDefinitions(spine.path, spine.source).keep(
        Records.from_bytes(maker.definitions().tobytes())
    )
    folder = spine.tape()
    folder.mkdir(parents=True)
    settings = {"durability": "never", "segment_bytes": 1 << 16, "retention_bytes": 1 << 18}
    tape = TapeWriter(folder, "records", **settings)
    tape.append(maker.definitions().tobytes())
    tape.append(maker.trades(500).tobytes())
    tape.sync()
    publish(spine, url, "one", prefix)
    reader = reader_in(tmp_path / "far", url, prefix)
    read_until(reader, 503)
    if not is_running:
        reader.close()
    with redis.from_url(url) as client:
        client.delete(f"{prefix}{NORMALIZED}:{spine.source}", f"{prefix}tapeworks.offsets")
    for first in range(500, 15_500, 500):
        tape.append(maker.trades(500, first).tobytes())
        tape.sync()
    tape.close()
    first = TapeReader(folder).first
    assert 503 < first < 15_503
    with pytest.raises(SinkError, match="give the sink another name"):
        publish(spine, url, "one", prefix)
    publish(spine, url, "two", prefix)
    # What the one that was refused had not claimed is not its own.
    with pytest.raises(SinkError):
        publish(spine, url, "one", prefix)
    if not is_running:
        reader = reader_in(tmp_path / "far", url, prefix)
    read_until(reader, 15_503)
    reader.close()
    records = Records.from_bytes(content(tmp_path / "far"))
    [gap] = np.frombuffer(records.select([_core.kind_of("marker")]), _core.dtype_descr("marker"))
    assert (gap["first"], gap["last"]) == (503, first - 1)
    assert gap["cause"] == _core.numbers("gap_cause")["retention"]
    trades = np.frombuffer(records.numpy("trade"), _core.dtype_descr("trade"))
    assert trades["trade_id"].tolist() == [*range(500), *range(first - 3, 15_500)]
