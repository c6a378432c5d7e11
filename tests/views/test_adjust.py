"""Bars that are adjusted for splits and dividends, beside numbers that were computed by hand."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest

import tapeworks as tw
from tapeworks.views.adjust import Factor, adjusted, check_adjust, factors

MINUTE = 60_000


def action(day, **told):
    row = {"venue": "m", "symbol": "X", "subtype": "", "action": "split", "sequence": 0}
    row["currency"] = "USD"
    return {**row, "ts_event": datetime.fromisoformat(f"{day}T00:00:00+00:00"), **told}


def bars(*told):
    """Returns bars of (UTC minute, price, volume)."""
    decimal = {"price": pa.decimal128(19, 9), "size": pa.decimal128(19, 8)}
    columns = {
        "venue": ["m"] * len(told),
        "symbol": ["X"] * len(told),
        "ts_event": pa.array(
            [datetime.fromisoformat(at).replace(tzinfo=UTC) for at, *_ in told],
            pa.timestamp("us", "UTC"),
        ),
    }
    for name in ("open", "high", "low", "close"):
        columns[name] = pa.array([Decimal(price) for _, price, _ in told], decimal["price"])
    for name in ("volume", "buy_volume"):
        columns[name] = pa.array([Decimal(size) for *_, size in told], decimal["size"])
    for name in ("turnover", "buy_turnover"):
        values = [Decimal(price) * Decimal(size) for _, price, size in told]
        columns[name] = pa.array(values, pa.decimal128(38, 17))
    return pa.table(columns)


def test_splits_are_exact_and_rounded_once():
    # 20 for 1 on 18 July, 1 for 3 on 20 July: midnight in New York is 04:00 UTC. Before both, a
    # price times 3/20: 2255.34 -> 338.301; between, times 3: 112.767; a third is rounded once.
    rows = [
        action("2022-07-18", split_from=Decimal(1), split_to=Decimal(20)),
        action("2022-07-20", split_from=Decimal(3), split_to=Decimal(1)),
    ]
    found = factors(rows, "splits", lambda *_: None)
    made = adjusted(
        bars(
            ("2022-07-18T03:59", "2255.34", "100"),
            ("2022-07-18T04:00", "112.767", "1"),
            ("2022-07-20T03:59", "112.767", "2"),
            ("2022-07-20T04:00", "338.301", "7"),
        ),
        found,
        MINUTE,
    ).to_pylist()
    assert [row["close"] for row in made] == [
        Decimal("338.301"),
        Decimal("338.301"),
        Decimal("338.301"),
        Decimal("338.301"),
    ]
    assert [row["volume"] for row in made] == [
        Decimal("666.66666667"),
        Decimal("0.33333333"),
        Decimal("0.66666667"),
        Decimal("7"),
    ]
    # What was paid stays what it was.
    assert made[0]["turnover"] == Decimal("225534")


def test_a_dividend_takes_its_part_of_the_price_before_it():
    # A dividend of 0.5 at a last price of 50 is a hundredth; then a split of 2 for 1 is before it.
    rows = [
        action("2022-07-18", action="dividend", cash_amount=Decimal("0.5"), subtype="CD"),
        action("2022-07-15", split_from=Decimal(1), split_to=Decimal(2)),
    ]
    told = bars(("2022-07-14T15:00", "100", "10"), ("2022-07-15T15:00", "50", "20"))
    found = factors(rows, "all", lambda *_: Decimal(50))
    made = adjusted(told, found, MINUTE).to_pylist()
    assert [row["open"] for row in made] == [Decimal("49.5"), Decimal("49.5")]
    assert [row["volume"] for row in made] == [20, 20]
    assert [row["turnover"] for row in made] == [990, 990]
    splits = adjusted(told, factors(rows, "splits", lambda *_: None), MINUTE).to_pylist()
    assert [row["open"] for row in splits] == [50, 50]
    for close, said in ((None, "no price is held"), (Decimal("0.5"), "the last price is 0.5")):
        with pytest.raises(tw.QueryError, match=f"{said} before its dividend of 0.5"):
            factors(rows, "all", lambda *_, close=close: close)


def test_what_is_only_announced_changes_nothing_before_its_day():
    rows = [action("2022-07-18", split_from=Decimal(1), split_to=Decimal(2))]
    day = 1_658_116_800 * 10**9
    assert not factors(rows, "splits", lambda *_: None, day - 1)
    assert factors(rows, "splits", lambda *_: None, day)


def test_an_action_that_is_told_again_counts_once():
    rows = [
        action("2022-07-18", split_from=Decimal(1), split_to=Decimal(2)),
        action("2022-07-18", split_from=Decimal(2), split_to=Decimal(3)),
    ]
    [factor] = factors(rows, "splits", lambda *_: None)["m", "X"]
    assert factor == Factor(1_658_116_800 * 10**9, Fraction(2, 3), Fraction(3, 2))


def test_dividends_of_a_day_count_together_and_in_dollars_alone():
    # Of one kind and day, told apart by their ids alone: 10 and 20 of 2240.
    cash = {"action": "dividend", "subtype": "CD"}
    rows = [
        action("2022-07-18", **cash, cash_amount=Decimal(10), sequence=1),
        action("2022-07-18", **cash, cash_amount=Decimal(20), sequence=2),
    ]
    [factor] = factors(rows, "all", lambda *_: Decimal(2240))["m", "X"]
    assert factor.price == 1 - Fraction(30, 2240)
    with pytest.raises(tw.QueryError, match=r"the last price is 30 before its dividend of 30\.0"):
        factors(rows, "all", lambda *_: Decimal(30))
    rows.append(action("2022-07-19", **cash, cash_amount=Decimal(1000), currency="JPY"))
    with pytest.raises(tw.QueryError, match="its dividend on 2022-07-19 is in JPY"):
        factors(rows, "all", lambda *_: Decimal(2240))
    assert not factors(rows, "splits", lambda *_: None)


def test_what_cannot_be_adjusted_is_refused():
    check_adjust(None, None)
    check_adjust("all", 86_400_000)
    with pytest.raises(tw.QueryError, match="expected adjust of splits or all, got 'split'"):
        check_adjust("split", MINUTE)
    for length in (None, 7 * 86_400_000):
        with pytest.raises(tw.QueryError, match="only bars of time, up to a day long"):
            check_adjust("splits", length)


def day_ns(day):
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 10**9


def test_the_lake_adjusts_by_what_it_holds(spine, maker):
    # A trade on Friday and one on Monday, when a split of 1 for 20 and a dividend come; a later
    # dividend, of which no price is held, does not count, and one between two trades is an error.
    def trades(day, *told):
        rows = maker.rows("trade", len(told), instrument=1, count=1, channel=1, flags=1)
        rows["ts_event"] = rows["ts_recv"] = day_ns(day) + 15 * 3_600 * 10**9
        for row, (number, price, size) in zip(rows, told, strict=True):
            row["trade_id"] = row["sequence"] = number
            row["price"], row["size"] = price * 10**9, size * 10**8
        spine.append(rows)

    def told(day, **values):
        rows = maker.rows("corporate_action", 1, instrument=1, flags=1)
        for name in ("split_from", "split_to", "cash_amount", "ts_declared", "ts_record", "ts_pay"):
            rows[name] = (1 << 63) - 1
        rows["ts_event"], rows["ts_recv"] = day_ns(day), day_ns(day)
        for name, value in values.items():
            rows[name] = value
        spine.append(rows)

    spine.append(maker.definitions(("GOOG",)))
    trades("2022-07-15", (1, 2000, 1), (2, 2240, 10))
    trades("2022-07-18", (3, 113, 100))
    # What has an id and comes again with another day is the same; also if that is far ahead.
    told("2022-07-15", action=1, split_from=10**9, split_to=20 * 10**9, sequence=1)
    told("2022-07-18", action=1, split_from=10**9, split_to=20 * 10**9, sequence=1)
    told("2022-07-18", action=2, cash_amount=224 * 10**9, sequence=2)
    told("2022-07-18", action=2, cash_amount=5 * 10**9, sequence=3)
    told("2025-07-18", action=2, cash_amount=5 * 10**9, sequence=3)
    told("2024-07-18", action=2, cash_amount=10**9)
    with tw.open(spine.path) as lake:
        shown = lake.bars("GOOG", interval="1d", partial=True, adjust="splits")
        assert "adjusted for splits (1 of them)" in repr(shown)
        assert [(row["close"], row["volume"]) for row in shown] == [(112, 220), (113, 100)]
        shown = lake.bars("GOOG", interval="1d", partial=True, adjust="all")
        assert [row["close"] for row in shown] == [Decimal("100.8"), 113]
        plain = lake.bars("GOOG", interval="1d", partial=True)
        assert [row["close"] for row in plain] == [2240, 113]
    told("2022-03-01", action=2, cash_amount=10**9)
    with tw.open(spine.path) as lake:
        with pytest.raises(tw.QueryError, match="no price is held before its dividend of 1"):
            lake.bars("GOOG", interval="1d", adjust="all")
        assert len(lake.bars("GOOG", interval="1d", partial=True, adjust="splits")) == 2
