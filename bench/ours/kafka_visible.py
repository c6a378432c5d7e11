"""From the tape to a reader of Kafka: how soon a record can be acted upon elsewhere.

Argument 1: how long, as a multiple of 20 s; 2: the sink's `delivery`, `low-latency` or
`exactly-once`; or a peer without tape and sink: `client` produces each message when it is due by
the client library alone, `transactions` commits what is due in one transaction after the other. The
broker is a real one on this machine, the sink is `tape worker sink kafka`, the reader the client
library alone, with `read_committed`.

Sketch: the sink gathers for 2 ms, encodes a record in 1 us, the broker takes a batch of each of six
partitions in turn, 0.2 ms each, and its reader, who waits, is answered in 1 ms. Exactly once the
tape is durable first, 1 ms and a sync; the partitions join the transaction, its end is written, and
so are its markers, 1 ms each. The broker compiles itself for the first ten seconds.

Open loop: record N is written at N / rate, whether or not those before were seen, with the time in
it. All processes read the same clock.
"""

import ctypes
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import market  # noqa: E402
from tests.services import SERVICES  # noqa: E402

from tapeworks import _core  # noqa: E402

RATE = 10_000
PARTITIONS = 6
SECONDS = 20.0
WARM_S = 10.0
PR_SET_TIMERSLACK = 29
START = "from tapeworks.cli import main; main()"
SETTINGS = {
    "low-latency": "flush_seconds = 1.0",
    "exactly-once": "flush_seconds = 0.001\n[tape]\ninterval_ms = 1",
}


def due_rows(count: int, begin: Event) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields ranges of trades that are due, each as soon as it is; each has the time in it."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    rows = market.trades(count, seed=7)
    rows["trade_id"] = np.arange(count)
    begin.wait()
    start, step = time.time_ns(), 1_000_000_000 // RATE
    rows["ts_recv"] = start + np.arange(count) * step
    done = 0
    while done < count:
        early = (start + done * step - time.time_ns()) / 1e9
        if early > 0:
            time.sleep(early)
        ready = min(count, (time.time_ns() - start) // step + 1)
        if ready > done:
            yield done, ready, rows
            done = ready


def write_tape(tape: Path, count: int, interval_ms: int, begin: Event, done: Event) -> None:
    """Writes `count` trades at the rate, one by one."""
    with _core.TapeWriter(tape, interval_ms=interval_ms) as writer:
        writer.append(market.definitions().tobytes())
        writer.sync()
        for first, end, rows in due_rows(count, begin):
            for number in range(first, end):
                writer.append(rows[number : number + 1].tobytes())
        done.wait()


def write_client(servers: str, is_transactional: bool, count: int, begin: Event) -> None:
    """Produces `count` trades at the rate by the client library."""
    settings = {"bootstrap.servers": servers, "linger.ms": 0.5, "enable.idempotence": True}
    if is_transactional:
        settings["transactional.id"] = "bench"
    admin = AdminClient({"bootstrap.servers": servers})
    for made in admin.create_topics([NewTopic(market.TOPIC, PARTITIONS)]).values():
        made.result()
    producer, encoder = Producer(settings), _core.ProtobufEncoder(market.SOURCE)

    def produce(content: bytes) -> None:
        for key, message, _ in encoder.encode(_core.Records.from_bytes(content)).items():
            producer.produce(market.TOPIC, message, key)

    if is_transactional:
        producer.init_transactions(60)
        producer.begin_transaction()
    produce(market.definitions().tobytes())
    producer.commit_transaction(60) if is_transactional else producer.flush(60)
    for first, end, rows in due_rows(count, begin):
        if is_transactional:
            producer.begin_transaction()
        produce(rows[first:end].tobytes())
        producer.commit_transaction(60) if is_transactional else producer.poll(0)
    producer.flush(60)


def read(servers: str, topic: str, count: int, begin: Event, seconds: float) -> list[float]:
    """Returns, in ms, how long after it was due each trade was seen, in their order."""
    settings = {"bootstrap.servers": servers, "group.id": "bench", "fetch.wait.max.ms": 100}
    settings |= {"isolation.level": "read_committed", "topic.metadata.refresh.interval.ms": 500}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    seen: list[tuple[int, bytes | None]] = []
    deadline = time.monotonic() + 60
    while not seen and time.monotonic() < deadline:
        # The definitions say that it reads.
        if (message := consumer.poll(0.1)) is not None and message.error() is None:
            seen.append((time.time_ns(), message.value()))
    begin.set()
    deadline = time.monotonic() + seconds + 120
    while len(seen) < count + len(market.definitions()) and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            seen.append((time.time_ns(), message.value()))
    consumer.close()
    times = []
    for at, value in seen:
        records, _, _ = _core.decode_messages([value or b""])
        rows = np.frombuffer(records.numpy("trade"), _core.dtype_descr("trade"))
        times += [(at - int(ts)) / 1e6 for ts in rows["ts_recv"]]
    return times


def start_sink(folder: Path, servers: str, delivery: str) -> Callable[[], object]:
    """Starts the worker of the sink; returns what ends it."""
    (folder / "tapeworks.toml").write_text(
        f'[feeds.{market.SOURCE}]\nsymbols = ["BTCUSDT"]\n'
        f'[sinks.kafka]\nservers = "{servers}"\npartitions = {PARTITIONS}\n'
        f'topics = ["{market.TOPIC}"]\ndelivery = "{delivery}"\n{SETTINGS[delivery]}\n'
    )
    words = [sys.executable, "-c", START, "worker", "sink", "kafka"]
    with (folder / "log").open("wb") as log:
        sink = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)

    def end() -> None:
        sink.terminate()
        sink.wait(30)

    return end


def main() -> None:
    """Prints the percentiles, without the first seconds."""
    seconds, mode = max(2.0, SECONDS * float(sys.argv[1])), sys.argv[2]
    warm = int(min(WARM_S, seconds / 2) * RATE)
    count = warm + int(seconds * RATE)
    context = multiprocessing.get_context("spawn")
    begin, done = context.Event(), context.Event()
    with tempfile.TemporaryDirectory() as name, SERVICES["kafka"]() as server:
        folder, servers = Path(name), f"127.0.0.1:{server.port}"
        if mode in SETTINGS:
            tape = folder / "data" / "tape" / market.SOURCE / market.TOPIC
            tape.mkdir(parents=True)
            interval_ms = 1 if mode == "exactly-once" else 50
            arguments = (tape, count, interval_ms, begin, done)
            writer = context.Process(target=write_tape, args=arguments, daemon=True)
            end = start_sink(folder, servers, mode)
        else:
            sending = (servers, mode == "transactions", count, begin)
            writer = context.Process(target=write_client, args=sending, daemon=True)
            end = done.set
        writer.start()
        try:
            times = read(servers, market.TOPIC, count, begin, seconds)
        finally:
            done.set()
            end()
            writer.join(10)
    late = np.sort(np.array(times[warm:]))
    lost = count - len(times)
    figures = {f"p{part}_ms": round(float(np.percentile(late, part)), 2) for part in (50, 99)}
    print(json.dumps(figures | {"lost": lost}))
    sys.exit(1 if lost > 0 else 0)


if __name__ == "__main__":
    main()
