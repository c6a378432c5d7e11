"""A reader of streams against a real server."""

import json
import time

import numpy as np
import pytest
import redis

from tapeworks import _core
from tapeworks._core import Records
from tapeworks.errors import TapeReplacedError
from tapeworks.replicas.base import ReplicaContext, parse_address
from tapeworks.replicas.redis import RedisTopicReader
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.redis import RedisConfig, RedisSink
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import NORMALIZED

SECONDS_MAX = 30.0
STREAM = f"far.{NORMALIZED}:binance-spot"


def publish(spine, url):
    config = RedisConfig(url=url, prefix="far.", topics=(NORMALIZED,), entries_max=0)
    partition = RedisSink(config, SinkContext("redis", spine.path)).partition(
        spine.source, NORMALIZED
    )
    feeder = Feeder(partition, spine.tape(NORMALIZED), config.policy)
    assert feeder.drain(30)
    feeder.close()


def reader_in(folder, url):
    context = ReplicaContext(folder, TapeConfig(), lambda sources: None)
    return RedisTopicReader(parse_address(f"{url}/far.{NORMALIZED}", ("redis",)), context)


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
