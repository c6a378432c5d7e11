"""Trades that were cancelled or corrected: what queries show, and what was told first."""

from decimal import Decimal

import pytest

import tapeworks as tw
from tapeworks import _core

SECOND = 10**9
DAY = 86_400 * SECOND
CANCEL, CORRECT = 1, 2


def trades(maker, *told, late: int = 5):
    """Returns trades of (instrument, second, id, price, size)."""
    start = int(maker.definitions()["ts_recv"][0])
    rows = maker.rows("trade", len(told), count=1, channel=1, flags=1)
    for row, (instrument, second, number, price, size) in zip(rows, told, strict=True):
        row["instrument"], row["trade_id"], row["sequence"] = instrument, number, number or second
        row["ts_event"] = start + int(second * SECOND)
        row["ts_recv"] = row["ts_event"] + late
        row["price"], row["size"] = price * 10**9, size * 10**8
    return rows


def corrections(maker, *told):
    """Returns corrections of (instrument, second, id, price, size), and maybe a sequence.

    Without a price it is void.
    """
    start = int(maker.definitions()["ts_recv"][0])
    rows = maker.rows("correction", len(told), flags=1)
    for row, (instrument, second, number, price, size, *sequence) in zip(rows, told, strict=True):
        row["instrument"], row["trade_id"], row["sequence"] = instrument, number, sum(sequence)
        row["ts_event"] = start + int(second * SECOND)
        row["ts_recv"] = row["ts_event"] + 5
        row["price"] = _core.NONE if price is None else price * 10**9
        row["size"] = _core.NONE if size is None else size * 10**8
        row["action"] = CANCEL if price is None else CORRECT
    return rows


def shown(rows):
    return sorted((row["symbol"], row["trade_id"], row["price"], row["size"]) for row in rows)


B, E = "BTCUSDT", "ETHUSDT"
TOLD = [
    (1, 1, 1, 10, 1),
    (1, 2, 2, 11, 2),
    (1, 3, 3, 12, 3),
    (2, 4, 2, 20, 4),
    (1, 5, 4, 13, 5),
    # The id of the first comes again a day later, and so does that of another, at two exchanges.
    (1, 86_402, 1, 14, 6),
    (1, 86_403, 9, 15, 7),
    (1, 86_404, 9, 16, 7),
]
LATER = [
    (1, 10, 2, None, None),
    (1, 11, 3, 17, 8),
    (1, 12, 3, 18, 9),
    (1, 86_405, 1, None, None),
    (1, 86_406, 9, None, None),
    # Of a trade that never came, and of none.
    (1, 86_407, 77, None, None),
    (1, 86_407, 0, None, None),
]
STANDS = [
    (B, 1, 10, 1),
    (B, 3, 18, 9),
    (B, 4, 13, 5),
    (B, 9, 15, 7),
    (B, 9, 16, 7),
    (E, 2, 20, 4),
]


@pytest.fixture(params=["files", "tape", "both"])
def corrected(request, spine, maker):
    """A folder with both in files, on the tape, or trades in files and corrections on the tape."""
    spine.append(maker.definitions())
    spine.append(trades(maker, *TOLD))
    if request.param == "both":
        spine.drain()
    spine.append(corrections(maker, *LATER))
    if request.param == "files":
        spine.drain()
    with tw.open(spine.path) as lake:
        yield lake


def test_queries_see_what_stands_and_the_first_is_kept(corrected):
    # By each way of asking; whole, and by symbol and time, which narrows the corrections as well.
    for found in (
        corrected.trades(),
        corrected.sql("select * from trades"),
        corrected.scan("trades").reader().read_all(),
        corrected.scan("trades").relation().to_arrow_table(),
        corrected.connect().sql("select * from trades").to_arrow_table(),
    ):
        assert shown(found.to_pylist()) == STANDS
    first = [(B if one == 1 else E, number, price, size) for one, _, number, price, size in TOLD]
    for found in (
        corrected.sql("select * from original_trades"),
        corrected.rows("original_trades"),
        corrected.connect().sql("select * from original_trades").to_arrow_table(),
    ):
        assert shown(found.to_pylist()) == sorted(first)
    start = corrected.sql("select min(ts_event) as t from original_trades").to_pylist()[0]["t"]
    part = corrected.trades("BTCUSDT", start, "2023-11-18")
    assert shown(part.to_pylist()) == STANDS[:3]
    told = corrected.sql("select trade_id, action, price from corrections order by tape_offset")
    assert [row["action"] for row in told.to_pylist()][:3] == ["cancel", "correct", "correct"]
    with pytest.raises(tw.QueryError, match="a dataset is of files, and trades is made from them"):
        corrected.scan("trades").dataset()
    joined = corrected.trades_and_quotes("BTCUSDT")
    assert shown(joined.to_pylist()) == STANDS[:5]


def test_a_correction_means_one_trade_of_its_day_by_all_its_ids(spine, maker):
    # The recording begins at 17:13 in New York: 30,000 s later is the next day there, within 24 h.
    spine.append(maker.definitions())
    day_before = [(1, 1, 5, 100, 10), (1, 2, 7, 300, 10)]
    told = [
        *((1, 30_000, 5, 101, 10), (1, 30_000, 7, 300, 10)),
        *((1, 40_000, 11, 100, 1), (1, 40_000, 21, 100, 1)),
        # At two exchanges; of the second the venue itself says that it is void.
        *((1, 50_000, 31, 1, 1), (1, 50_001, 31, 2, 1)),
        # The same of one without an id.
        *((1, 60_000, 0, 1, 1), (1, 60_001, 0, 2, 1)),
        # The second came live, in ms; what voids it has the ns of the history.
        *((1, 70_000, 41, 1, 1), (1, 70_001, 41, 2, 1)),
    ]
    spine.append(trades(maker, *day_before, *told))
    later = [
        *((1, 30_005, 5, None, None), (1, 30_005, 7, None, None)),
        # Under another id, which is cancelled; and corrected twice.
        *((1, 40_001, 11, 110, 2, 12), (1, 40_002, 12, None, None)),
        *((1, 40_001, 21, 110, 2, 22), (1, 40_002, 22, 105, 7, 23)),
        # Names that go round end, too, and what is told twice is the same.
        *((1, 40_003, 23, 106, 8, 21), (1, 40_003, 23, 106, 8, 21), (1, 40_004, 21, 107, 9, 24)),
        *((1, 50_001, 31, None, None, 31), (1, 60_001, 0, None, None, 60_001)),
        (1, 70_001.000_456_7, 41, None, None, 41),
    ]
    spine.append(corrections(maker, *later))
    with tw.open(spine.path) as lake:
        for found in (lake.trades(), lake.connect().sql("select * from trades").to_arrow_table()):
            stands = [
                (B, 0, 1, 1),
                (B, 5, 100, 10),
                (B, 7, 300, 10),
                (B, 21, 107, 9),
                (B, 31, 1, 1),
                (B, 41, 1, 1),
            ]
            assert shown(found.to_pylist()) == stands


def test_as_of_is_what_was_known_then(corrected, maker):
    start = int(maker.definitions()["ts_recv"][0])
    for second, known in (
        (4.5, [(B, 1, 10, 1), (B, 2, 11, 2), (B, 3, 12, 3), (E, 2, 20, 4)]),
        (10.5, [(B, 1, 10, 1), (B, 3, 12, 3), (B, 4, 13, 5), (E, 2, 20, 4)]),
        (11.5, [(B, 1, 10, 1), (B, 3, 17, 8), (B, 4, 13, 5), (E, 2, 20, 4)]),
        (10**6, STANDS),
    ):
        found = corrected.trades(as_of=start + int(second * SECOND))
        assert shown(found.to_pylist()) == known, second
    with pytest.raises(tw.QueryError, match="expected a time"):
        corrected.trades(as_of="soon")


def test_bars_are_of_the_trades_that_stand(corrected):
    first = corrected.bars("BTCUSDT", interval="1m", partial=True).to_pylist()[0]
    shares = [first[name] for name in ("open", "high", "low", "close", "volume", "count")]
    assert shares == [10, 18, 10, 13, 15, 3]
    assert first["turnover"] == Decimal(10 * 1 + 18 * 9 + 13 * 5)


def test_without_corrections_the_query_is_that_of_the_trades_alone(spine, maker):
    # The plan has no join, and what is on the tape is searched for corrections once.
    spine.append(maker.definitions())
    spine.append(trades(maker, *TOLD))
    with tw.open(spine.path) as lake:
        plan = lake.sql("explain select * from trades where symbol = 'BTCUSDT'").to_pylist()
        assert "join" not in str(plan).lower()
        spine.append(corrections(maker, *LATER[:1]))
        plan = lake.sql("explain select * from trades where symbol = 'BTCUSDT'").to_pylist()
        assert "join" in str(plan).lower()
        assert len(lake.trades()) == len(TOLD) - 1
