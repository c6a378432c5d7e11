"""When metrics count what came: behind silence and horizons, at halts, and out of order."""

from collections import defaultdict

import numpy as np
import pytest

from conftest import START
from tapeworks import _core
from tapeworks._core import NONE, Processor, Records

METRIC = np.dtype(_core.dtype_descr("metric"))
SECOND = 10**9
FIRST = START - START % (60 * SECOND)
CHANNELS, CODES = _core.numbers("channel"), _core.numbers("marker_code")
TRADING, HALTED = 1, 2
LAST, OUT_OF_ORDER, MAYBE_BAD = 1, 8, 32
# Of a book that is known to 96 on the side of the bids. The mid is 100.5.
BOUNDS = {
    "depth_bid_300bps": 3,
    "depth_bid_500bps": 5,
    "depth_bid_700bps": 6,
    "depth_ask_300bps": 3,
    "depth_ask_500bps": 5,
    "depth_ask_700bps": 7,
    "depth_complete_bid_300bps": 1,
    "depth_complete_bid_500bps": 0,
    "depth_complete_bid_700bps": 0,
    "depth_complete_ask_700bps": 1,
    "depth_bid_L5": 5,
    "depth_bid_L6": 6,
    "depth_bid_L11": 6,
    "depth_ask_L11": 10,
    "fill_sell_5": 5,
    "fill_sell_6": 6,
    "fill_sell_7": 6,
    "fill_buy_11": 10,
    "cost_sell_5": 1e4 * (1 - 98 / 100.5),
    "cost_sell_6": 1e4 * (1 - (490 + 94) / 6 / 100.5),
}


def row(kind, at, **fields):
    made = np.zeros((), np.dtype(_core.dtype_descr(kind)))
    made["length"], made["kind"] = made.dtype.itemsize // 8, _core.kind_of(kind)
    made["feed"], made["instrument"], made["flags"] = 1, 1, LAST
    made["ts_event"] = made["ts_recv"] = FIRST + round(at * SECOND)
    for name, value in fields.items():
        made[name] = value
    return made.tobytes()


def quote(at, bid=100, ask=101, **more):
    prices = {"bid_price": bid * SECOND, "ask_price": ask * SECOND}
    return row("quote", at, **prices, bid_size=10**8, ask_size=10**8, **more)


def trade(at, price=100, **more):
    fields = {"price": price * SECOND, "size": 10**8, "side": 1, "channel": 1, "count": 1}
    return row("trade", at, **(fields | more))


def status(at, number):
    return row("status", at, status=number, price_low=NONE, price_high=NONE)


def other(at):
    """Shows that time passes, by another instrument."""
    return quote(at, instrument=2)


def measure(records, names, each=None, **settings):
    """Returns of each name the values by seconds, None where they are null, the newest of each."""
    parts = [records[at : at + each] for at in range(0, len(records), each)] if each else [records]
    processor, data = Processor("metrics", settings), b""
    for part in parts:
        made = Processor("metrics", settings)
        made.restore(processor.snapshot())
        data += bytes(made.process(Records.from_bytes(b"".join(part))))
        processor = made
    found = defaultdict(dict)
    for one in np.frombuffer(data, METRIC):
        name, at = one["metric"].decode(), (int(one["ts_event"]) - FIRST) / SECOND
        if name in names and one["instrument"] == 1:
            found[name][at] = None if np.isnan(one["value"]) else float(one["value"])
    return found


@pytest.mark.parametrize("sizes", [None, 1])
def test_trade_counts_where_its_horizon_ends_though_all_is_silent(sizes):
    # Horizons of 30 s and windows of 1 and 10 s: what the price did until 33 s counts then, and not
    # when the next event comes. An unchanged quote each second changes no value.
    records = [quote(0), trade(3, 101), quote(3.2, 102, 103)]
    behind = [quote(at + 0.5, 110, 111) for at in range(60, 64)]
    names = [f"realized_spread_30s_mean_{length}s" for length in (1, 10)]
    settings = {"sets": "cost", "windows_ms": [1_000, 10_000], "horizons_ms": [30_000]}
    silent = measure([*records, *behind], names, sizes, **settings)
    told = [quote(at, 102, 103) for at in range(4, 60)]
    busy = measure([*records, *told, *behind], names, sizes, **settings)
    for name, until in zip(names, (33, 42), strict=True):
        expected = {float(at): -3.0 for at in range(33, until + 1)}
        for found in (silent, busy):
            assert {at: value for at, value in found[name].items() if value is not None} == expected
        assert all(busy[name][at] == value for at, value in silent[name].items())
    # Its rows: until the windows have drained, again behind the horizon, and before what comes.
    assert sorted(silent[names[0]]) == [*range(15), *range(33, 45), *range(60, 64)]


def test_trade_counts_where_its_horizon_ends_though_no_sample_is_there():
    # Final at 3 s: in the window of a second until 4 s, of whichever event the sample is.
    times = (2.1, 2.9, 3.8, 4.3, 4.7)
    records = [quote(0), trade(2, 101), *(quote(at, 102, 103) for at in times)]
    name = "realized_spread_1s_mean_1s"
    settings = {"sets": "cost", "windows_ms": [1_000], "horizons_ms": [1_000], "partial": 1}
    found = measure(records, [name], interval_ms=0, **settings)[name]
    assert {at: value for at, value in found.items() if value is not None} == {3.8: -3.0}


def test_first_halt_that_is_told_is_a_halt():
    # Nobody said before that it trades; after the end of a session, nobody says so again.
    end = row("marker", 30, instrument=0, code=CODES["end_of_session"], ts_start=NONE)
    lost = row("marker", 30, code=CODES["gap"], channel=CHANNELS["quote"], ts_start=NONE)
    silence = [other(at) for at in range(20, 30)]
    day = [quote(at) for at in range(4)]
    later = [quote(40 + at) for at in range(4)]
    settings = {"sets": "l1", "windows_ms": [1_000], "grace_ms": 0}

    def last(*records):
        return list(measure(list(records), ["mid"], **settings)["mid"].values())[-1]

    halt, again = status(4, HALTED), status(44, HALTED)
    behind = [other(at) for at in range(50, 60)]
    assert last(*day, *silence) == 100.5
    assert last(*day, status(4, TRADING), *silence) == 100.5
    assert last(*day, halt, *silence) is None
    # The same said again is no other halt, unless its end may have been missed.
    resumed = [*day, halt, *later]
    assert last(*resumed, again, *behind) == 100.5
    for broken in (end, lost):
        assert last(*day, halt, broken, *later, again, *behind) is None
        assert last(*day, status(4, TRADING), broken, *later, *behind) == 100.5
        cleared = [*day, halt, broken, status(39, HALTED), *later]
        assert last(*cleared, again, *behind) == 100.5


def level(at, sequence, side, price, channel="depth", **more):
    fields = {"sequence": sequence, "side": side, "price": price * SECOND, "size": 10**8}
    return row("level", at, channel=CHANNELS[channel], **(fields | more))


def test_update_of_a_book_out_of_order_says_nothing_of_the_time():
    # Four trades, quotes and updates a second; of one update both levels say 50 s later.
    ends = {"instrument": 1, "sequence": 1, "first": 1, "channel": CHANNELS["snapshot"]}
    records = [
        row("marker", 0, code=CODES["snapshot_begin"], count=2, **ends),
        level(0, 1, 1, 90, "snapshot"),
        level(0, 1, 2, 110, "snapshot"),
        row("marker", 0, code=CODES["snapshot_end"], count=2, **ends),
    ]
    for number in range(1, 120):
        at, ahead = number / 4, 50 if number == 80 else 0
        flags = OUT_OF_ORDER if ahead else 0
        for side, price, last in ((1, 90, 0), (2, 110, LAST)):
            stamp = {"ts_event": FIRST + round((at + ahead) * SECOND), "flags": flags | last}
            records.append(level(at, number + 1, side, price, **stamp))
        records += [trade(at), quote(at)]
    names = ["trades_1s", "mid", "depth_bid_L1"]
    settings = {"sets": "l1,flow,depth", "windows_ms": [1_000]}
    found = measure(records, names, **settings)
    assert found["trades_1s"] == {1.0: None} | {float(at): 4.0 for at in range(2, 30)}
    assert set(list(found["mid"].values())[1:]) == {100.5}


def test_what_is_behind_the_snapshot_of_a_book_is_a_bound():
    # Bids of 1 at 100 to 96, of which the snapshot has as many as were asked for; asks of 1 at 101
    # to 110, which are all. Then one more bid comes to be known, and others there are not.
    ends = {"sequence": 1, "first": 1, "channel": CHANNELS["snapshot"], "state": 1, "count": 15}
    sides = [*((1, price) for price in range(100, 95, -1)), *((2, p) for p in range(101, 111))]
    records = [
        row("marker", 0, code=CODES["snapshot_begin"], **ends),
        *(level(0, 1, side, price, "snapshot", flags=0) for side, price in sides),
        row("marker", 0, code=CODES["snapshot_end"], **ends),
        level(0, 2, 1, 94, previous=1),
    ]
    settings = {
        "sets": "depth",
        "interval_ms": 0,
        "bands_bps": [300, 500, 700],
        "levels": [5, 6, 11],
        "sizes": [5 * 10**8, 6 * 10**8, 7 * 10**8, 11 * 10**8],
    }
    # With a restart before each record the state is gone on from.
    found = measure(records, BOUNDS, 1, **settings)
    assert {name: one[0.0] for name, one in found.items()} == pytest.approx(BOUNDS)
    data = Processor("metrics", settings).process(Records.from_bytes(b"".join(records)))
    flagged = {
        one["metric"].decode() for one in np.frombuffer(data, METRIC) if one["flags"] & MAYBE_BAD
    }
    assert flagged & BOUNDS.keys() == {
        *("depth_bid_500bps", "depth_bid_700bps", "depth_bid_L6", "depth_bid_L11"),
        *("cost_sell_6", "fill_sell_7"),
    }


def test_order_out_of_order_says_nothing_of_the_time():
    orders = []
    for number in range(1, 120):
        at = number / 4
        fields = {"action": _core.numbers("order_action")["add"], "sequence": number}
        fields |= {"order_id": number, "side": 1 + number % 2, "size": 10**8}
        fields["price"] = (110 if number % 2 else 90) * SECOND
        if number == 80:
            stamp = FIRST + round((at + 50) * SECOND)
            fields |= {"ts_event": stamp, "flags": LAST | OUT_OF_ORDER}
        orders.append(row("order", at, **fields))
    settings = {"sets": "l1,rates", "windows_ms": [1_000], "trade_windows": "tumbling 1s"}
    found = measure(orders, ["rate_quote_1s", "rate_add_bid_1s", "rate_add_ask_1s"], **settings)
    assert sorted(found["rate_quote_1s"]) == list(range(1, 30))
    for second in range(2, 30):
        rates = [found[f"rate_add_{side}_1s"][second] for side in ("bid", "ask")]
        assert sum(rates) == 4
