"""Stocks that are followed by date under the symbols that they had."""

from datetime import UTC, datetime
from typing import Any

import pytest

import tapeworks as tw
from tapeworks.views.renames import CHANGES_MAX, parts_of

META, FB, OLD = "META", "FB", "TFB"
HOUR = 3_600 * 10**9
# Midnight of 2022-06-09 in New York is four hours behind that of UTC.
CHANGE = int(datetime(2022, 6, 9, 4, tzinfo=UTC).timestamp()) * 10**9
DAY = CHANGE - 4 * HOUR
FIRST = DAY - 30 * 24 * HOUR


def test_a_symbol_means_the_stock_that_has_it_at_the_end_of_the_range() -> None:
    changes = {("x", META): [(100, FB)], ("x", FB): [(40, OLD)]}

    def parts(symbol: str, first: int | None, last: int | None) -> list[tuple[Any, ...]]:
        found = parts_of(changes, "x", symbol, first, last)
        return [(part.symbol, part.start, part.end) for part in found]

    assert parts(META, None, None) == [(OLD, None, 40), (FB, 40, 100), (META, 100, None)]
    assert parts(META, 50, 150) == [(FB, 50, 100), (META, 100, 150)]
    # From the change on there is one symbol, and before it another stock had it.
    assert parts(META, 100, 150) == [(META, 100, 150)]
    assert parts(META, 10, 100) == [(META, 10, 100)]
    assert parts(FB, 10, 90) == [(OLD, 10, 40), (FB, 40, 90)]
    assert parts("AAPL", 10, None) == [("AAPL", 10, None)]
    # A circle of changes at one instant ends.
    circle = {("x", "A"): [(5, "B")], ("x", "B"): [(5, "A"), (4, "A")], ("x", "C"): [(4, "C")]}
    for symbol in "ABC":
        assert len(parts_of(circle, "x", symbol, None, None)) <= CHANGES_MAX


@pytest.fixture
def lake(spine: Any, maker: Any) -> tw.Lake:
    """Trades of both symbols an hour before and behind the change, each of one price."""
    definitions = maker.definitions((META, FB))
    definitions["ts_event"] = definitions["ts_recv"] = definitions["valid_from"] = FIRST
    spine.append(definitions)
    told = [
        (1, CHANGE - 2 * HOUR, 14),  # An ETF that was called META then.
        (2, CHANGE - HOUR, 196),
        (2, CHANGE - 1, 197),
        (1, CHANGE, 198),
        (2, CHANGE + HOUR, 3),  # Whoever is called FB now.
        (1, CHANGE + 2 * HOUR, 184),
    ]
    rows = maker.rows("trade", len(told), count=1, channel=1, flags=1)
    for number, (row, (instrument, ts, price)) in enumerate(zip(rows, told, strict=True), 1):
        row["instrument"], row["ts_event"], row["ts_recv"] = instrument, ts, ts
        row["sequence"] = row["trade_id"] = number
        row["price"], row["size"] = price * 10**9, 10**8
    spine.append(rows)
    change = maker.rows("corporate_action", 2, action=3, instrument=1, flags=1, sequence=7)
    change["ts_event"], change["ts_recv"], change["former"] = DAY, CHANGE, FB.encode()
    spine.append(change)
    return tw.open(spine.path)


def prices(rows: Any) -> list[tuple[str, int]]:
    return [(row["symbol"], int(row["price"])) for row in rows]


def test_trades_and_bars_of_a_stock_span_its_symbols(lake: tw.Lake) -> None:
    # The change is told twice. Before it, the rows of the former symbol; none of other stocks.
    whole = lake.trades(META, follow=True)
    assert prices(whole) == [(FB, 196), (FB, 197), (META, 198), (META, 184)]
    assert "as FB, META" in repr(whole)
    assert prices(lake.trades(META)) == [(META, 14), (META, 198), (META, 184)]
    assert prices(lake.trades(META, CHANGE - 1, follow=True)) == [
        (FB, 197),
        (META, 198),
        (META, 184),
    ]
    assert prices(lake.trades(META, end=CHANGE + 1, follow=True))[-1] == (META, 198)
    # Of a symbol that nobody took over from another, nothing changes.
    assert prices(lake.trades(FB, follow=True)) == [(FB, 196), (FB, 197), (FB, 3)]
    bars = lake.bars(META, interval="1h", follow=True, partial=True)
    assert [(bar["symbol"], int(bar["close"])) for bar in bars] == [
        *((FB, 197), (META, 198), (META, 184)),
    ]
    assert lake.trades(META, follow=True).coverage().recorded[0].source == "binance-spot"
    for wrong in ({"ticks": 2}, {"interval": "1d", "adjust": "splits"}):
        with pytest.raises(tw.QueryError, match="follow"):
            lake.bars(META, follow=True, **wrong)
    # A change of a symbol is neither a split nor a dividend.
    assert len(lake.bars(META, interval="1h", partial=True, adjust="all")) == 3
