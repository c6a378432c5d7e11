"""Keyed state of quotes and trades in plain Python, or in Bytewax: events a second of one core.

Best bid and offer, order-flow imbalance and bars of a second, of ten instruments: what the sets
`l1` and `ofi` and the processor `bars` keep, without what else these give. Events are tuples
that were decoded before the clock starts.
"""

import json
import sys
import time

import numpy as np

EVENTS, INSTRUMENTS = 1_000_000, 10
START, SECOND = 1_717_761_600_000_000_000, 1_000_000_000
TRADES_OF_TEN, NS_BETWEEN = 3, 50_000


def events(count: int) -> list[tuple[str, tuple[bool, int, int, int, int, int]]]:
    """Returns instrument and event: trade?, time, bid or price, its size, ask or side, its size."""
    random = np.random.default_rng(7)
    instrument = random.integers(1, INSTRUMENTS + 1, count)
    ts = START + np.cumsum(random.integers(1, 2 * NS_BETWEEN, count))
    mid = 60_000 * 10**9 + np.cumsum(random.integers(-1, 2, count)) * 10**8
    sizes = random.integers(1, 10**9, (2, count))
    is_trade = random.integers(0, 10, count) < TRADES_OF_TEN
    side = random.integers(1, 3, count)
    first = np.where(is_trade, mid, mid - 10**8)
    third = np.where(is_trade, side, mid + 10**8)
    columns = (is_trade, ts, first, sizes[0], third, sizes[1])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return list(zip(map(str, instrument.tolist()), rows, strict=True))


class State:
    """What is kept of one instrument."""

    __slots__ = ("bar", "best", "flow", "second")

    def __init__(self) -> None:
        self.best: tuple[int, int, int, int] | None = None
        self.flow = self.second = 0
        self.bar: list[int] = []

    def update(self, event: tuple[bool, int, int, int, int, int]) -> tuple | None:
        is_trade, ts, bid, bid_size, ask, ask_size = event
        second, made = ts // SECOND, None
        if second != self.second:
            made = (self.second, self.best, self.flow, self.bar)
            self.second, self.flow, self.bar = second, 0, []
        if is_trade:
            bar = self.bar
            if not bar:
                self.bar = [bid, bid, bid, bid, bid_size, bid * bid_size, 1]
            else:
                bar[1], bar[2], bar[3] = max(bar[1], bid), min(bar[2], bid), bid
                bar[4] += bid_size
                bar[5] += bid * bid_size
                bar[6] += 1
            return made
        if self.best is not None:
            old_bid, old_bid_size, old_ask, old_ask_size = self.best
            flow = 0
            if bid >= old_bid:
                flow += bid_size
            if bid <= old_bid:
                flow -= old_bid_size
            if ask <= old_ask:
                flow -= ask_size
            if ask >= old_ask:
                flow += old_ask_size
            self.flow += flow
        self.best = (bid, bid_size, ask, ask_size)
        return made


def in_python(rows: list) -> float:
    states = {str(number): State() for number in range(1, INSTRUMENTS + 1)}
    started, made = time.process_time(), 0
    for key, event in rows:
        if states[key].update(event) is not None:
            made += 1
    taken = time.process_time() - started
    assert made > 0
    return len(rows) / taken


def in_bytewax(rows: list) -> float:
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, TestingSource, run_main

    def step(state: State | None, event: tuple) -> tuple:
        state = state or State()
        made = state.update(event)
        return state, made

    made: list = []
    flow = Dataflow("keyed")
    stream = op.input("in", flow, TestingSource(rows, batch_size=4_096))
    updated = op.stateful_map("state", stream, step)
    done = op.filter("done", updated, lambda item: item[1] is not None)
    op.output("out", done, TestingSink(made))
    started = time.process_time()
    run_main(flow)
    taken = time.process_time() - started
    assert made
    return len(rows) / taken


def main() -> None:
    count = max(20_000, int(EVENTS * float(sys.argv[2])))
    run = {"python": in_python, "bytewax": in_bytewax}[sys.argv[1]]
    print(json.dumps({"keyed": run(events(count))}))


main()
