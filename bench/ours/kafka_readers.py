"""Records in a topic of Kafka to books on other machines: one worker, then two that share it.

Argument 1: how many, as a multiple of a million. The broker is a real one on this machine. Each
worker is `tape worker derive --from` with a data folder of its own; it begins with a topic that is
full, and is timed from its first record to the end of the topic.

Sketch: a message takes 3 us to fetch and hand over in Python, 150 ns to decode, 100 ns in a book.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import numpy as np  # noqa: E402
from tests.services import SERVICES  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.registry import load_member, load_settings  # noqa: E402
from tapeworks.sinks.base import SinkContext  # noqa: E402
from tapeworks.sinks.feeder import Feeder  # noqa: E402
from tapeworks.tape import TapeReader  # noqa: E402
from tapeworks.topics import BOOK, NORMALIZED  # noqa: E402

SOURCE, SYMBOLS, PARTITIONS = "binance-spot", 60, 6
START = "from tapeworks.cli import main; main()"
SECONDS_MAX = 500.0
NOW = 1_780_000_000_000_000_000


def rows(kind: str, count: int) -> np.ndarray:
    """Returns records of `kind`, all zero but for what tells it."""
    made = np.zeros(count, dtype=_core.dtype_descr(kind))
    made["length"], made["kind"] = made.dtype.itemsize // 8, _core.kind_of(kind)
    made["feed"], made["ts_event"], made["ts_recv"] = 1, NOW, NOW
    return made


def content(count: int) -> bytes:
    """Returns definitions, a snapshot of each book, and updates of one level."""
    channels, codes = _core.numbers("channel"), _core.numbers("marker_code")
    ids = np.arange(1, SYMBOLS + 1)
    definitions = rows("definition", SYMBOLS)
    definitions["instrument"] = ids
    definitions["symbol"] = [f"S{number:02}USDT".encode() for number in ids]
    parts = [definitions.tobytes()]
    for number in ids:
        ends, levels = rows("marker", 2), rows("level", 2)
        for part in (ends, levels):
            part["instrument"], part["channel"], part["sequence"] = number, channels["snapshot"], 1
        ends["code"] = codes["snapshot_begin"], codes["snapshot_end"]
        ends["first"] = ends["last"] = 1
        ends["count"], ends["flags"] = 2, (0, 1)
        levels["side"], levels["price"] = (1, 2), (99 * 10**9, 101 * 10**9)
        levels["size"], levels["flags"] = 10**8, 2
        parts += [ends[:1].tobytes(), levels.tobytes(), ends[1:].tobytes()]
    updates = rows("level", count)
    at = np.arange(count)
    updates["instrument"], updates["sequence"] = at % SYMBOLS + 1, at // SYMBOLS + 2
    updates["channel"], updates["side"], updates["flags"] = channels["depth"], 1, 1
    updates["price"] = (90 * 10**9) + (at % 997) * 10**6
    updates["size"] = 10**8 + at
    updates["ts_event"] = updates["ts_recv"] = NOW + at * 1_000
    return b"".join([*parts, updates.tobytes()])


def fill(servers: str, data: Path, count: int) -> None:
    """Publishes all of it."""
    tape = data / "tape" / SOURCE / NORMALIZED
    tape.mkdir(parents=True)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(content(count))
        writer.sync()
    settings = {"servers": servers, "topics": (NORMALIZED,), "partitions": PARTITIONS}
    config = load_settings("sink", "kafka")(**settings)
    sink = load_member("sink", "kafka")(config, SinkContext("kafka", data))
    feeder = Feeder(sink.partition(SOURCE, NORMALIZED), tape, config.policy)
    assert feeder.drain(SECONDS_MAX)
    feeder.close()


def read(servers: str, folder: Path, workers: int, count: int) -> float:
    """Returns updates of books a second of `workers`, all together."""
    folders = [folder / f"{workers}.{number}" for number in range(workers)]
    address = f"kafka://{servers}/{NORMALIZED}?group=bench{workers}"
    processes = []
    for one in folders:
        one.mkdir()
        words = [sys.executable, "-c", START, "worker", "derive", "--from", address]
        with (one / "log").open("wb") as log:
            words += ["--data", "data", "--only", "books"]
            processes.append(subprocess.Popen(words, cwd=one, stdout=log, stderr=log))
    try:
        done, began, deadline = 0, 0.0, time.monotonic() + SECONDS_MAX
        first = 0
        while done < count:
            assert time.monotonic() < deadline, f"{done} of {count}"
            time.sleep(0.02)
            tapes = [path for one in folders for path in one.glob(f"data/tape/*/{BOOK}")]
            done = sum(covered(path) for path in tapes)
            if done and not began:
                began, first = time.monotonic(), done
        return (done - first) / (time.monotonic() - began)
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)


def covered(tape: Path) -> int:
    """Returns how many records of its input a book tape covers."""
    try:
        return TapeReader(tape).covered or 0
    except OSError:
        return 0


def main() -> None:
    """Prints updates a second with one worker and with two."""
    count = max(50_000, int(1e6 * float(sys.argv[1])))
    with tempfile.TemporaryDirectory() as name, SERVICES["kafka"]() as server:
        servers, folder = f"127.0.0.1:{server.port}", Path(name)
        fill(servers, folder / "recorder", count)
        one, two = (read(servers, folder, workers, count) for workers in (1, 2))
    print(json.dumps({"one": round(one), "two": round(two), "times": round(two / one, 2)}))


if __name__ == "__main__":
    main()
