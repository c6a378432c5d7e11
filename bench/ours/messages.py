"""Trades from the tape into Kafka or Redis, exactly once, beside the client library alone.

Argument 1: how many, as a multiple of two million; 2: `kafka` or `redis`; 3: `sink`, or `client`,
which is a peer: the same messages, encoded before, sent by the client library in batches of as
many. It keeps no place and no order of batches. The server is a real one on this machine.

Sketch: 64 bytes a trade become a message of 130. To encode one takes 70 ns, to make it a Python
object 100 ns, librdkafka 1 us to queue, pack and send; Redis 1 us in its own process to add.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis
from confluent_kafka import Producer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import market  # noqa: E402
from tests.services import SERVICES  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.registry import load_member, load_settings  # noqa: E402
from tapeworks.sinks.base import SinkContext  # noqa: E402
from tapeworks.sinks.feeder import Feeder  # noqa: E402

FLUSH_ROWS = 100_000
PIPELINE = 500


def main() -> None:
    """Publishes all trades, and prints messages a second of processor time and of wall clock."""
    count, name, mode = max(10_000, int(2e6 * float(sys.argv[1]))), sys.argv[2], sys.argv[3]
    with tempfile.TemporaryDirectory() as folder, SERVICES[name]() as server:
        data = Path(folder)
        tape = data / "tape" / market.SOURCE / market.TOPIC
        tape.mkdir(parents=True)
        with _core.TapeWriter(tape, durability="never") as writer:
            writer.append(market.definitions().tobytes())
            for at in range(0, count, 250_000):
                rows = market.trades(min(250_000, count - at), seed=7 + at)
                writer.append(rows.tobytes(), ts=int(rows["ts_recv"].max()))
            writer.sync()
        address = f"127.0.0.1:{server.port}"
        work = sink(name, address, data, tape) if mode == "sink" else client(name, address, tape)
        began, started = time.perf_counter(), time.process_time()
        work()
        took, wall = time.process_time() - started, time.perf_counter() - began
    print(json.dumps({"value": count / took, "wall": count / wall}))


def sink(name: str, address: str, data: Path, tape: Path) -> Callable[[], object]:
    """Returns what stores all of the tape; connected, with its topics made."""
    place = {"servers": address} if name == "kafka" else {"url": f"redis://{address}/0"}
    limits = {"flush_rows": FLUSH_ROWS, "flush_seconds": 600.0, "topics": (market.TOPIC,)}
    config = load_settings("sink", name)(**place, **limits)
    partition = load_member("sink", name)(config, SinkContext(name, data)).partition(
        market.SOURCE, market.TOPIC
    )
    feeder = Feeder(partition, tape, config.policy)
    while feeder.stored is None:
        feeder.step()

    def work() -> None:
        assert feeder.drain(600)
        feeder.close()

    return work


def client(name: str, address: str, tape: Path) -> Callable[[], object]:
    """Returns what sends all messages by the client library."""
    encoder, reader, items = _core.ProtobufEncoder(market.SOURCE), _core.TapeReader(tape), []
    while (batch := reader.read(16_384)) is not None:
        items += encoder.encode(batch).items()
    return (to_kafka if name == "kafka" else to_redis)(address, items)


def to_kafka(address: str, items: list[tuple[bytes, bytes, int]]) -> Callable[[], object]:
    """Returns what produces messages, and waits until they are acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": address,
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 2 * FLUSH_ROWS,
        }
    )

    def work() -> None:
        for start in range(0, len(items), FLUSH_ROWS):
            for key, message, _ in items[start : start + FLUSH_ROWS]:
                producer.produce(market.TOPIC, message, key)
            producer.flush()

    return work


def to_redis(address: str, items: list[tuple[bytes, bytes, int]]) -> Callable[[], object]:
    """Returns what adds entries by pipelines, as the library is used."""
    connection = redis.from_url(f"redis://{address}/0")

    def work() -> None:
        for start in range(0, len(items), PIPELINE):
            pipeline = connection.pipeline(transaction=False)
            for _, message, offset in items[start : start + PIPELINE]:
                pipeline.xadd("trades", {"m": message}, id=f"{offset}-1")
            pipeline.execute()

    return work


main()
