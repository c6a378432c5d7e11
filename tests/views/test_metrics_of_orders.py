"""Metrics of feeds that tell single orders, on the book that the orders add up to."""

import numpy as np

from conftest import START
from tapeworks import _core
from tapeworks._core import Processor, Records

METRIC = np.dtype(_core.dtype_descr("metric"))
ORDER, TRADE, STATUS = (np.dtype(_core.dtype_descr(kind)) for kind in ("order", "trade", "status"))
ACTIONS = _core.numbers("order_action")
BID, ASK = 1, 2
SECOND = 10**9
# id, action, side, price, size, previous id; one a second.
EVENTS = [
    (1, "add", BID, 100, 5, 0),
    (2, "add", ASK, 102, 7, 0),
    (3, "add", BID, 101, 4, 0),
    (3, "execute", BID, 101, 1, 0),
    (4, "replace", ASK, 103, 2, 2),
    (3, "delete", BID, 0, 0, 0),
    (1, "cancel", BID, 0, 2, 0),
]
# Best bid and size, best ask and size behind each.
BEST = [
    (100, 5, None, 0),
    (100, 5, 102, 7),
    (101, 4, 102, 7),
    (101, 3, 102, 7),
    (101, 3, 103, 2),
    (100, 5, 103, 2),
    (100, 3, 103, 2),
]
SETTINGS = {"sets": "l1,ofi,depth,rates,cost,orders", "windows_ms": [10_000], "interval_ms": 0}
SETTINGS |= {"partial": 1, "levels": [5]}


def order_rows(events=EVENTS, first=1, start=START):
    rows = np.zeros(len(events), ORDER)
    rows["length"], rows["kind"] = ORDER.itemsize // 8, _core.kind_of("order")
    rows["feed"], rows["instrument"], rows["flags"] = 1, 1, 1
    for row, (number, action, side, price, size, previous) in zip(rows, events, strict=True):
        row["order_id"], row["action"], row["side"] = number, ACTIONS[action], side
        row["price"], row["size"] = price * 10**9 or _core.NONE, size * 10**8
        row["previous_id"] = previous
    rows["sequence"] = first + np.arange(len(events))
    rows["ts_event"] = rows["ts_recv"] = start + np.arange(len(events)) * SECOND
    return rows


def values(data, name):
    rows = np.frombuffer(data, METRIC)
    return rows[rows["metric"] == name.encode()]["value"].tolist()


def run(*parts, **settings):
    processor = Processor("metrics", SETTINGS | settings)
    return b"".join(bytes(processor.process(Records.from_bytes(part))) for part in parts)


def test_best_prices_depth_and_flow_follow_from_orders():
    # By hand: what stands in the book behind each event, and what it adds to the flow.
    data = run(order_rows().tobytes())
    nan = float("nan")
    np.testing.assert_equal(
        values(data, "mid"), [nan if ask is None else (bid + ask) / 2 for bid, _, ask, _ in BEST]
    )
    np.testing.assert_equal(values(data, "depth_bid_L1")[2:], [size for _, size, _, _ in BEST[2:]])
    np.testing.assert_equal(values(data, "depth_ask_L1")[2:], [size for *_, size in BEST[2:]])
    # An ask that appears counts -7, a better bid 4, its fill -1, the ask that gives way 7, the bid
    # that goes -3, the cancel behind it -2.
    assert values(data, "ofi_10s") == [0, -7, -3, -4, 3, 0, -2]
    assert values(data, "rate_fill_bid_10s")[-1] == 0.1
    assert values(data, "cancel_ratio_10s")[-1] == 3 / (3 + 4)
    assert values(data, "orders_filled")[-1] == 0
    assert values(data, "orders_cancelled")[-1] == 2
    assert abs(values(data, "lifetime_p50")[-1] / (3 * SECOND) - 1) < 1e-3


def test_trade_has_the_quote_before_its_own_order():
    # The fill of the best bid as a whole: its effective spread is by the mid before it.
    orders = order_rows([(1, "add", BID, 100, 5, 0), (2, "add", ASK, 104, 5, 0)])
    more = order_rows([(3, "add", BID, 102, 1, 0), (3, "execute", BID, 102, 1, 0)], 3)
    more["ts_event"] += 2 * SECOND
    trade = np.zeros(1, TRADE)
    trade["length"], trade["kind"] = TRADE.itemsize // 8, _core.kind_of("trade")
    trade["feed"], trade["instrument"], trade["channel"], trade["side"] = 1, 1, 1, ASK
    trade["price"], trade["size"], trade["sequence"] = 102 * 10**9, 10**8, 4
    trade["ts_event"] = trade["ts_recv"] = more["ts_event"][-1]
    data = run(orders.tobytes() + more.tobytes() + trade.tobytes())
    assert values(data, "effective_spread")[-1] == 2 * (103 - 102)
    assert values(data, "mid")[-1] == 102


def test_batches_and_restarts_change_nothing():
    rows = order_rows()
    whole = run(rows.tobytes())
    assert whole == run(*(rows[at : at + 1].tobytes() for at in range(len(rows))))
    for at in range(len(rows)):
        before, after = Processor("metrics", SETTINGS), Processor("metrics", SETTINGS)
        first = bytes(before.process(Records.from_bytes(rows[:at].tobytes())))
        after.restore(before.snapshot())
        assert first + bytes(after.process(Records.from_bytes(rows[at:].tobytes()))) == whole


def test_orders_of_before_a_halt_are_not_taken_from_those_that_came_behind_it():
    # Two orders of before it end behind it, and one lives on: of the three that came behind it one
    # was filled, one was cancelled, and one is open. Cut anywhere, the same.
    before = order_rows([(number, "add", BID, 90 + number, 5, 0) for number in (1, 2, 3)])
    after = [(4, "add", ASK, 120, 5, 0), (1, "delete", BID, 0, 0, 0)]
    after += [(2, "execute", BID, 92, 5, 0), (5, "add", ASK, 121, 5, 0)]
    after += [(4, "execute", ASK, 120, 5, 0), (6, "add", ASK, 122, 5, 0)]
    after += [(5, "delete", ASK, 0, 0, 0)]
    behind = order_rows(after, 4, START + 20 * SECOND)
    status = np.zeros(2, STATUS)
    status["length"], status["kind"] = STATUS.itemsize // 8, _core.kind_of("status")
    status["feed"], status["instrument"] = 1, 1
    status["status"] = [1, 2]
    status["ts_event"] = status["ts_recv"] = START + np.array([1, 10]) * SECOND
    parts = [status[:1], before, status[1:], behind]
    data = run(*(part.tobytes() for part in parts))
    names = ("orders_filled", "orders_cancelled", "orders_open")
    assert [values(data, name)[-1] for name in names] == [1, 1, 1]
    assert values(data, "orders_open")[-len(after) :] == [1, 1, 1, 2, 1, 2, 1]
    for at in range(1, len(after)):
        first, second = (Processor("metrics", SETTINGS) for _ in range(2))
        made = [bytes(first.process(Records.from_bytes(part.tobytes()))) for part in parts[:3]]
        made.append(bytes(first.process(Records.from_bytes(behind[:at].tobytes()))))
        second.restore(first.snapshot())
        made.append(bytes(second.process(Records.from_bytes(behind[at:].tobytes()))))
        assert b"".join(made) == data


def test_a_book_that_is_not_whole_says_nothing_until_the_numbers_begin_anew():
    # An order that never came: what else is missing, nobody knows. The next day begins at 1.
    unknown = order_rows([(9, "delete", BID, 0, 0, 0), (5, "add", BID, 99, 1, 0)], 8)
    unknown["ts_event"] += 8 * SECOND
    day = order_rows(EVENTS[:2], 1, START + 86_400 * SECOND)
    data = run(order_rows().tobytes(), unknown.tobytes(), day.tobytes())
    bids = values(data, "depth_bid_L1")
    assert bids[6] == 3
    assert np.isnan(bids[7:-2]).all()
    assert bids[-1] == 5
    assert values(data, "mid")[-1] == 101


def test_a_gap_of_the_orders_is_null_from_then_on():
    gap = np.zeros(1, np.dtype(_core.dtype_descr("marker")))
    gap["length"], gap["kind"] = gap.dtype.itemsize // 8, _core.kind_of("marker")
    gap["instrument"], gap["channel"] = 1, _core.numbers("channel")["order"]
    gap["code"] = _core.numbers("marker_code")["gap"]
    gap["cause"] = _core.numbers("gap_cause")["disconnect"]
    gap["state"] = _core.numbers("gap_state")["closed"]
    gap["ts_event"] = gap["ts_recv"] = START + 7 * SECOND
    more = order_rows([(11, "add", BID, 100, 5, 0)], 9)
    more["ts_event"] += 8 * SECOND
    data = run(order_rows().tobytes() + gap.tobytes() + more.tobytes())
    assert values(data, "mid")[6] == 101.5
    assert np.isnan(values(data, "mid")[7:]).all()
    assert np.isnan(values(data, "depth_bid_L1")[7:]).all()
