"""What is said beside an answer: no answer that may lack something looks whole."""

import pytest

import tapeworks as tw
from conftest import START, SpineFolder
from tapeworks.views.asked import asked_in
from tapeworks.views.query import Engine
from tapeworks.views.times import format_time

S = 10**9
WITHIN = START + S, START + 5 * S
GAP = "1 gap touches"


@pytest.fixture
def lake(spine, maker):
    """Trades of two symbols, of which ETHUSDT has a gap from the first second to the second."""
    spine.append(maker.definitions())
    end = spine.append(maker.trades(100))
    gap = maker.rows("marker", 1, instrument=2, code=3, ts_event=START + 2 * S)
    gap["channel"], gap["cause"], gap["ts_start"], gap["count"], gap["state"] = 1, 1, START, 1, 2
    gap["ts_start"], gap["ts_recv"] = START + S, START + 2 * S
    spine.append(gap, "market-data.gaps", covers=end)
    return tw.open(spine.path)


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from trades",
        "select count(*) from trades where symbol <> 'BTCUSDT'",
        "select count(*) filter (where symbol = 'BTCUSDT'), count(*) from trades",
        "select 1 from trades where ts_event < '2020-01-01' union all select 1 from trades",
        "select count(*) from trades where not (ts_event < '2099-01-01')",
        "select count(*) from trades where venue <> 'binance-spot'",
        "select count(*) from trades where ts_event >= '2030-01-01' or symbol like 'ETH%'",
        "select 1 from trades a, trades b where a.symbol = 'BTCUSDT'",
        "select 1 from trades where symbol not in ('BTCUSDT')",
        "with t as (from trades) select 1 from t where symbol = 'BTCUSDT'",
        "select (select count(*) from trades) from trades where symbol = 'BTCUSDT'",
        "pivot trades on symbol using count(*)",
        "summarize trades",
        "select 1 from trades t(symbol) where symbol = 'BTCUSDT'",
        "select count(*) from query_table('trades')",
        "from query('select * from trades')",
    ],
)
def test_only_what_is_surely_narrowed_hides_a_gap(lake, sql):
    assert any(GAP in told for told in lake.sql(sql).notices()), sql


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("select 1 from trades where symbol = 'BTCUSDT' and price > 1", None),
        ("select 1 from trades t where t.symbol in ('BTCUSDT')", None),
        ("select 1 from trades where symbol = ?", ["BTCUSDT"]),
        ("select 1 from trades where symbol = $name", {"name": "BTCUSDT"}),
        ("select 1 from trades where ts_event < '2020-01-01'", None),
        (
            "select 1 from trades a, trades b where a.symbol = 'BTCUSDT' and b.symbol = 'BTCUSDT'",
            None,
        ),
        ("select 1 from quotes", None),
        ("select 1 from gaps", None),
        ("describe trades", None),
        ("explain select * from trades", None),
        ("select 1", None),
    ],
)
def test_a_gap_of_something_else_is_not_told(lake, sql, params):
    assert not any("gap touches" in told for told in lake.sql(sql, params).notices()), sql


def test_an_answer_that_is_shown_tells_of_its_gaps(lake):
    # In text and in a notebook; of some of its columns too; and no error where it is closed.
    for answer in (
        lake.trades("ETHUSDT"),
        lake.trades("ETHUSDT")[["price"]],
        lake.asof("trades", "quotes", "ETHUSDT"),
        lake.sql("select count(*) from trades where symbol = 'ETHUSDT'"),
    ):
        assert GAP in repr(answer).replace("\n", " ")
        assert GAP in answer._repr_html_()
    answer = lake.trades("BTCUSDT", *WITHIN)
    assert answer.notices() == []
    assert "gap" not in repr(answer)
    lake.close()
    assert "not known: the data folder was closed" in repr(answer).replace("\n", " ")


def test_names_and_times_of_which_nothing_was_recorded_are_told(lake):
    # Without a word, no rows would mean that nothing happened.
    def told(where):
        return " ".join(lake.sql(f"select count(*) from trades where {where}").notices())

    assert "'DOGEUSDT' was never recorded" in told("symbol = 'DOGEUSDT'")
    assert "'btcusdt' is 'BTCUSDT'" in told("symbol = 'btcusdt'")
    assert "'binance-spt' is no source: there are binance-spot" in told("venue = 'binance-spt'")
    assert "not recorded: 2020-01-01" in told("ts_event between '2020-01-01' and '2020-01-02'")
    first, last = map(format_time, WITHIN)
    within = f"ts_recv between '{first}' and '{last}'"
    assert told(f"symbol = 'BTCUSDT' and venue = 'binance-spot' and {within}") == ""
    assert GAP in told(f"symbol = 'ETHUSDT' and venue = 'binance-spot' and {within}")


def test_a_symbol_of_several_instruments_is_told_where_they_are_taken_together(spine, maker):
    # Its mean would be the price of no market.
    other = SpineFolder(spine.path, "binance-usdm")
    for each in (spine, other):
        each.append(maker.definitions())
        each.append(maker.trades(10))
    other.close()
    lake = tw.open(spine.path)

    def is_told(sql):
        return any("taken together" in told for told in lake.sql(sql).notices())

    assert is_told("select avg(price) from trades where symbol = 'BTCUSDT'")
    assert is_told("select symbol, avg(price) from trades group by symbol")
    assert not is_told("select venue, avg(price) from trades where symbol = 'BTCUSDT' group by 1")
    assert not is_told("select * from trades where symbol = 'BTCUSDT'")
    assert not is_told("select 1 from trades where symbol = 'BTCUSDT' and venue = 'binance-spot'")
    assert not is_told("select count(*) from trades")


def test_bounds_of_time_are_read_from_sql(spine):
    # Literals beside columns of time, in ns; else nothing.
    day, hour, whole = 1_795_132_800 * S, 3_600 * S, 86_400 * S
    engine = Engine(spine.path)
    for sql, first, last in (
        ("ts_event >= '2026-11-20' and ts_event < '2026-11-21'", day, day + whole),
        (
            "t.ts_recv between timestamp '2026-11-20 01:00' and '2026-11-20 02:00'",
            day + hour,
            day + 2 * hour + 1,
        ),
        ("'2026-11-20'::timestamptz < ts_event", day, None),
        ("date = '2026-11-20'", day, day + whole),
        ("ts_event::date <= '2026-11-20'", None, day + whole),
        ("ts_event >= '2026-11-20 13:00'::date", day, None),
        ("ts_event > now()", None, None),
        ("ts_event > 'now'", None, None),
        ("symbol = '2026-11-20'", None, None),
        ("ts_event >= '2026-11-20' or size > 1", None, None),
    ):
        [asked] = asked_in(engine, f"select 1 from trades t where {sql}", None)
        assert (asked.first, asked.last) == (first, last), sql
    # A bar stands for the time behind its own.
    sql = "select 1 from bars_1h where ts_event <= '2026-11-20 01:00'"
    assert [one.last for one in asked_in(engine, sql, None)] == [day + 2 * hour]
    sql = "select 1 from bars where ts_event <= '2026-11-20 01:00'"
    assert [one.last for one in asked_in(engine, sql, None)] == [None]


@pytest.mark.slow
def test_a_loop_over_days_goes_on_where_nothing_was_recorded(lake):
    # No rows and a word of it, from every question; what was never recorded at all is an error.
    for start, end in (("2001-01-01", "2001-01-02"), ("2031-01-01", None), (None, "2001-01-01")):
        for answer in (
            lake.trades("BTCUSDT", start, end),
            lake.quotes("BTCUSDT", start, end),
            lake.snapshots("BTCUSDT", start, end),
            lake.rows("bars", "BTCUSDT", start, end),
            lake.bars("BTCUSDT", start, end, interval="7s"),
            lake.bars("BTCUSDT", start, end, ticks=2),
        ):
            assert len(answer) == 0
            told = "not yet known" if start == "2031-01-01" else "not recorded"
            assert told in repr(answer).replace("\n", " ")
            assert not answer.coverage().is_complete
        assert list(lake.replay("BTCUSDT", start, end, kinds="trades")) == []
    for question in (lake.trades, lake.bars, lake.replay, lake.coverage):
        with pytest.raises(tw.QueryError, match="never recorded"):
            question("DOGEUSDT", "2001-01-01")
        with pytest.raises(tw.QueryError, match="start before end"):
            question("BTCUSDT", "2001-01-02", "2001-01-01")


def test_notices_never_fail_an_answer(lake, spine):
    # Somebody put a file where the tapes were.
    answer, tapes = lake.trades("BTCUSDT"), spine.path / "tape"
    tapes.rename(spine.path / "moved")
    tapes.write_text("")
    assert len(answer.notices()) == 1
    assert "what is missing is not known: " in repr(answer)
