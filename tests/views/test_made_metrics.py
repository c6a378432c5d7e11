"""Metrics made of what is held, against those that were measured as it came."""

import shutil

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, SpineFolder
from tapeworks import _core
from tapeworks.processors.derive import Derivation
from tapeworks.settings import MetricSetsConfig, ProcessorsConfig
from tapeworks.tape import TapeConfig
from tapeworks.topics import GAPS, METRICS

SECOND = 10**9
FIRST = START - START % SECOND + SECOND
PRICE, TICK = 100 * 10**9, 10**7
LATE = 10**6
SETS = MetricSetsConfig(
    sets=("l1", "ofi", "flow", "cost"),
    windows_ms=(1_000, 10_000),
    trade_windows=("tumbling 1s",),
)
NAMES = ["mid", "spread_ticks", "spread_tw_10s", "ofi_10s", "trades_1s", "tfi_10s"]
NAMES += ["effective_spread", "vwap_10s"]
CHANNEL = _core.numbers("channel")


class Market:
    """Makes records of one instrument by seconds since its beginning."""

    def __init__(self, maker):
        self._maker = maker
        self._sequence = 0

    def record(self, kind, at, late=LATE, **columns):
        ts = FIRST + round(at * SECOND)
        self._sequence += 1
        common = {"instrument": 1, "ts_event": ts, "ts_recv": ts + late, "flags": 1}
        common["sequence"] = self._sequence
        return self._maker.rows(kind, 1, **{**common, **columns})

    def define(self, at, tick, late=0):
        symbol = {"symbol": b"BTCUSDT", "canonical": b"BTC-USDT", "tick_size": tick}
        none = dict.fromkeys(("lot_size", "valid_to"), _core.NONE)
        return self.record("definition", at, late, **symbol, **none)

    def quote(self, at, ticks=2, **columns):
        sizes = {"bid_size": (1 + round(at) % 3) * 10**8, "ask_size": 10**8}
        prices = {"bid_price": PRICE, "ask_price": PRICE + ticks * TICK}
        return self.record("quote", at, **prices, **sizes, **columns)

    def trade(self, at, number, side=1, **columns):
        price = PRICE + number % 3 * TICK
        own = {"price": price, "size": 10**8, "count": 1, "channel": 1}
        return self.record("trade", at, sequence=number, side=side, **{**own, **columns})

    def gap(self, at, state, channel="trade", cause="sequence", since=None, **columns):
        told = {"code": _core.numbers("marker_code")["gap"], "channel": CHANNEL[channel]}
        told |= {"state": _core.numbers("gap_state")[state]}
        told |= {"cause": _core.numbers("gap_cause")[cause]}
        start = _core.NONE if since is None else FIRST + round(since * SECOND)
        return self.record("marker", at, ts_start=start, **{"count": 2**32 - 1, **told, **columns})

    def status(self, at, name):
        status = _core.field_names("status")["status"].index(name)
        none = dict.fromkeys(("price_low", "price_high"), _core.NONE)
        return self.record("status", at, status=status, **none)

    def end(self, at):
        code = _core.numbers("marker_code")["end_of_session"]
        return self.record("marker", at, instrument=0, code=code, ts_start=_core.NONE)


def write(path, records):
    """A folder of these records in two steps, with all that is derived of them."""
    spine = SpineFolder(path)
    for part in (records[:-1], records[-1:]):
        for record in part:
            spine.writer().append(record.tobytes())
        spine.writer().sync()
        spine.drain()
    processors = ProcessorsConfig(measured=SETS.settings("trade"))
    derivation = Derivation(processors, TapeConfig("never"), path, spine.source)
    assert derivation.drain(60.0)
    derivation.close()
    return spine


def measured(lake, names, start, end, make):
    within = FIRST + round(start * SECOND), FIRST + round(end * SECOND)
    return lake.metrics("BTCUSDT", names, *within, make=make)


def check(lake, live):
    for each, rows in live.items():
        made = measured(lake, NAMES, *each, True).to_arrow()
        assert made.to_pydict() == rows.to_pydict(), each


@pytest.mark.slow
def test_of_any_range_they_are_those_that_were_measured(tmp_path, maker):
    # A gap in quotes, a step of prices that changes, a halt, a recording that ends, a quiet hour
    # whose last quote and last moves of the price are of long before: what is made of any part of
    # it is what was measured, from the tape, and from the lake alone.
    market = Market(maker)
    records = [market.define(0, TICK), market.status(0, "trading")]
    for at in range(120):
        if at == 80:
            # It is told by the quote behind it, which counts.
            records.append(market.gap(at + 0.25, "closed", channel="quote", since=78.25))
        records += [market.quote(at + 0.25), market.trade(at + 0.5, at)]
    records += [market.status(120.5, "halted"), market.status(150, "trading")]
    records += [market.quote(150.25), market.define(160, TICK // 10)]
    for at in range(160, 200):
        records += [market.quote(at + 0.25), market.trade(at + 0.5, at, side=0)]
    records += [market.end(200), market.quote(260.25, ticks=3), market.trade(261.5, 261, side=0)]
    records += [market.trade(262.5, 262, side=0), market.trade(3_900.5, 263, side=0)]
    records += [market.trade(3_902.5, 265, side=0), market.quote(3_910.25)]
    spine = write(tmp_path, records)
    ranges = ((70, 95), (100, 115), (115, 155), (155, 170), (195, 265), (3_899, 3_912), (0, 4_000))
    with tw.open(tmp_path) as lake:
        live = {each: measured(lake, NAMES, *each, False).to_arrow() for each in ranges}
        assert all(len(rows) for rows in live.values())
        check(lake, live)
    for topic in ("market-data.normalized", GAPS, METRICS):
        spine.drain(topic)
    shutil.rmtree(spine.tape())
    shutil.rmtree(spine.tape(GAPS))
    with tw.open(tmp_path) as lake:
        check(lake, live)


def with_a_gap(market, outage):
    """Forty seconds of two trades each, of which twenty are lost; their history comes later."""
    kept, lost = [market.define(0, TICK)], []
    for number in range(80):
        at = number * 0.5
        kept.append(market.quote(at + 0.2))
        where = lost if 21 <= number <= 40 else kept
        if number == 41:
            known = {"first": 21, "last": 40, "count": 20, "since": 10.3}
            if outage:
                kept.append(market.gap(11, "open", cause="disconnect", since=10.3))
                kept.append(market.gap(20.8, "closed", cause="disconnect", since=10.3, count=20))
            kept.append(market.gap(20.8, "closed", **known))
        where.append(market.trade(at + 0.3, number))
    told = [record.copy() for record in lost]
    for record in told:
        # One came by a line that was late, the others are of the venue's history.
        record["flags"] |= 8 if record is told[0] else 4 | 8
        record["ts_recv"] = FIRST + 300 * SECOND
    filled = market.gap(20.8, "repaired", late=280 * SECOND, **known)
    return kept, lost, [*told, filled, market.quote(301)]


@pytest.mark.slow
@pytest.mark.parametrize("outage", [False, True])
def test_trades_that_filled_a_gap_are_measured_when_it_is_asked_for(tmp_path, maker, outage):
    # Live there were none: those metrics are not complete, and say how to have them. What is made
    # is what would have been measured had nothing been lost.
    kept, lost, later = with_a_gap(Market(maker), outage)
    is_data = [record for record in kept if record.dtype != np.dtype(_core.dtype_descr("marker"))]
    intact = sorted([*is_data, *lost], key=lambda record: int(record["ts_recv"][0]))
    write(tmp_path / "intact", intact)
    write(tmp_path / "lossy", [*kept, *later])
    names, windows = ["trades_1s", "vwap_10s", "mid", "effective_spread"], ["tumbling_1s_volume"]
    with tw.open(tmp_path / "intact") as intact, tw.open(tmp_path / "lossy") as lossy:
        for asked in (names, windows):
            expected, stored, made = (
                measured(lake, asked, 2, 39, make)
                for lake, make in ((intact, False), (lossy, False), (lossy, True))
            )
            assert made.to_arrow().to_pydict() == expected.to_arrow().to_pydict()
            assert made.coverage().is_complete
            assert stored.to_arrow().to_pydict() != expected.to_arrow().to_pydict()
            assert not stored.coverage().is_complete
            found = [row for row in stored.coverage() if row["finding"] == "not_measured"]
            spoiled = {("filled_later", name) for name in asked if name != "mid"}
            assert {(row["cause"], row["channel"]) for row in found} == spoiled
            *said, advice = [line for line in stored.notices() if "filled" in line]
            assert all(one.startswith("made before a gap was filled: BTCUSDT ") for one in said)
            assert advice.startswith("lake.metrics(..., make=True) makes ")
        # Ticks are as they were made, too.
        ticks = lossy.ticks("BTCUSDT", FIRST + 2 * SECOND, FIRST + 39 * SECOND).coverage()
        found = {(row["cause"], row["channel"]) for row in ticks if row["finding"] != "repaired"}
        assert found == {("filled_later", "ticks")}
        # What is of quotes alone lacks nothing, nor does another time.
        assert measured(lossy, ["mid"], 2, 39, False).coverage().is_complete
        assert measured(lossy, ["trades_1s"], 22, 39, False).coverage().is_complete
