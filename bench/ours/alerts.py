"""Runs rules of alerts over a market: events a second of one core, and what measuring stages costs.

Sketch: an event is 64 or 128 bytes, given to each detector of its instrument, which moves a few
numbers: some tens of ns a rule. An order is found in two trees of a few thousand entries.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tapeworks import _core
from tapeworks._core import Processor, Records, Stage, TapeWriter

EVENTS, BATCH, INSTRUMENTS = 1_000_000, 4_096, 10
START = 1_717_761_600_000_000_000
NS_BETWEEN = 50_000
SETS = {
    "quotes": ("quote", ("spread", "crossed", "locked", "stale")),
    "orders": (
        "order",
        (
            *("crossed", "locked", "stuffing", "layering_like", "wash_like", "price_spike"),
            *("quote_flicker", "momentum_ignition_like", "fat_finger"),
        ),
    ),
}


def rows_of(kind: str, count: int) -> np.ndarray:
    """Returns records of ten instruments, 20 k a second, without what they say."""
    chance = np.random.default_rng(7)
    rows = np.zeros(count, np.dtype(_core.dtype_descr(kind)))
    rows["length"], rows["kind"] = rows.dtype.itemsize // 8, _core.kind_of(kind)
    rows["feed"], rows["flags"] = 1, 1
    rows["instrument"] = chance.integers(1, INSTRUMENTS + 1, count)
    rows["ts_event"] = START + np.cumsum(chance.integers(1, 2 * NS_BETWEEN, count))
    rows["ts_recv"] = rows["ts_event"] + 1_000_000
    return rows


def quotes(count: int) -> np.ndarray:
    """Returns quotes whose prices walk."""
    rows, chance = rows_of("quote", count), np.random.default_rng(8)
    mid = 60_000 * 10**9 + np.cumsum(chance.integers(-1, 2, count)) * 10**8
    rows["bid_price"], rows["ask_price"] = mid - 10**8, mid + 10**8
    rows["bid_size"], rows["ask_size"] = chance.integers(1, 10**9, (2, count))
    return rows


def orders(count: int) -> np.ndarray:
    """Returns orders that come, go and are filled, a few thousand alive at a time."""
    chance, actions = random.Random(9), _core.numbers("order_action")
    rows, live = rows_of("order", count), [[] for _ in range(INSTRUMENTS + 1)]
    found = []
    for number, instrument in enumerate(rows["instrument"].tolist(), start=1):
        known = live[instrument]
        if len(known) < 300 or chance.random() < 0.5:
            side, depth = chance.choice((1, 2)), chance.randrange(1, 50)
            price = 10_000 + (depth if side == 2 else -depth)
            known.append((side, price, 100 * chance.randrange(1, 9), number))
            found.append((actions["add"], *known[-1]))
        else:
            at = chance.randrange(len(known))
            known[at], known[-1] = known[-1], known[at]
            action = "execute" if chance.random() < 0.1 else "delete"
            found.append((actions[action], *known.pop()))
    action, side, price, size, numbers = (np.array(one) for one in zip(*found, strict=True))
    rows["action"], rows["side"], rows["order_id"] = action, side, numbers
    rows["price"] = rows["order_price"] = price * 10**9
    rows["size"] = size * 10**8
    return rows


def batches_of(rows: np.ndarray) -> list[Records]:
    """Cuts records into batches."""
    return [
        Records.from_bytes(rows[at : at + BATCH].tobytes(), at) for at in range(0, len(rows), BATCH)
    ]


def rate(rows: np.ndarray, rules: tuple[str, ...]) -> float:
    """Returns events a second of processor time."""
    text = "\n".join(f"{rule}\t{rule}\twarning\t\t" for rule in rules)
    processor, batches = Processor("alerts", {"rules": text}), batches_of(rows)
    started = time.process_time()
    for batch in batches:
        processor.process(batch)
    return len(rows) / (time.process_time() - started)


def measuring(rows: np.ndarray, rounds: int = 5) -> float:
    """Returns how many times as long a stage takes that measures: the median of some rounds."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        writer = TapeWriter(source, durability="never")
        for batch in batches_of(rows):
            writer.append(batch)
        ratios = []
        for number in range(rounds):
            taken = []
            for measures in (False, True):
                place = Path(folder) / f"{number}-{measures}"
                stage = Stage("ticks", source, place / "out", place / "state", durability_ms=-1)
                if measures:
                    stage.measure()
                started = time.process_time()
                stage.run_until_idle()
                taken.append(time.process_time() - started)
                stage.close()
            ratios.append(taken[1] / taken[0])
        writer.close()
    return sorted(ratios)[rounds // 2]


def main() -> None:
    count = max(20_000, int(EVENTS * float(sys.argv[1])))
    made = {"quotes": quotes(count), "orders": orders(count)}
    figures = {name: rate(made[name], rules) for name, (_, rules) in SETS.items()}
    # What was received before a stage was opened is not measured: these are yet to come.
    late = made["quotes"].copy()
    late["ts_recv"] = time.time_ns() + 3_600 * 10**9
    figures["measuring"] = measuring(late)
    print(json.dumps(figures))


main()
