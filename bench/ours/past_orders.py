"""`lake.book(at=, depth="orders")` on a day of 10 M messages of one stock, from tape and from lake.

Sketch: a replay of the day reads 1.3 GB of records of 128 bytes and applies each in 60 ns: seconds
from the tape, more from Parquet. From a checkpoint it is 65 k events or a little more, and 32
bytes an open order.

`first` is the first question, of the newest instant, which leaves checkpoints on its way. `p50` and
`worst` are of random instants behind it, `cpu` is their mean time on processors, and `replay` the
time of some of these instants without checkpoints; each book is compared with that of its replay. A
question asks the ledger and the lake as well.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tapeworks
from tapeworks.views.order_books import OrderBookAt
from tapeworks.views.order_checkpoints import FOLDER

MESSAGES = 10_000_000
SOURCE, SEED = "itch", 7
OPENS = 1_692_711_000_000_000_000
"""2023-08-22, 9:30 in New York."""
QUESTIONS, REPLAYS = 40, 4


def tape(*arguments: object) -> None:
    command = [sys.executable, "-c", "from tapeworks.cli import main; main()", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ask(lake: tapeworks.Lake, symbol: str, at: int | None) -> tuple[float, OrderBookAt]:
    """Returns the ms that a question took, and its answer."""
    began = time.perf_counter()
    book = lake.book(symbol, at, depth="orders", source=SOURCE)
    return (time.perf_counter() - began) * 1e3, book


def orders_of(book: OrderBookAt) -> object:
    return book.orders("bid"), book.orders("ask"), book.events, book.ts_event, book.notice


def measure(data: Path, chance: random.Random, prefix: str) -> dict[str, float]:
    lake = tapeworks.open(data)
    [symbol] = lake.symbols(source=SOURCE)
    first, newest = ask(lake, symbol, None)
    assert newest.ts_recv is not None
    instants = [chance.randrange(OPENS, newest.ts_recv) for _ in range(QUESTIONS)]
    used = time.process_time()
    asked = [ask(lake, symbol, at) for at in instants]
    used = time.process_time() - used
    kept = sum(path.stat().st_size for path in (data / FOLDER).rglob("*.book"))
    replays = []
    for at, (_, answer) in list(zip(instants, asked, strict=True))[:REPLAYS]:
        shutil.rmtree(data / FOLDER, ignore_errors=True)
        took, replayed = ask(lake, symbol, at)
        assert orders_of(replayed) == orders_of(answer), at
        replays.append(took)
    times = [took for took, _ in asked]
    return {
        f"{prefix}_first_ms": first,
        f"{prefix}_p50_ms": statistics.median(times),
        f"{prefix}_cpu_ms": used / QUESTIONS * 1e3,
        f"{prefix}_worst_ms": max(times),
        f"{prefix}_replay_ms": statistics.median(replays),
        f"{prefix}_cache_mib": kept / (1 << 20),
    }


def main() -> None:
    messages = max(50_000, round(MESSAGES * float(sys.argv[2])))
    folder = Path(tempfile.mkdtemp(prefix="bench-past-orders-", dir=sys.argv[1]))
    file, data = folder / "08222023.NASDAQ_ITCH50", folder / "data"
    tape("simulate", "itch", "--file", file, "--stocks", 1, "--messages", messages, "--seed", SEED)
    tape("import", "itch", file, "--data", data)
    figures = measure(data, random.Random(SEED), "tape")
    shutil.rmtree(data / "tape")
    shutil.rmtree(data / FOLDER, ignore_errors=True)
    figures |= measure(data, random.Random(SEED), "lake")
    shutil.rmtree(folder)
    print(json.dumps(figures))


main()
