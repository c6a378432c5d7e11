"""Bars in SQL, in exports and by symbol: of one length, finished, each once."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import tapeworks as tw
from conftest import START, Command
from tapeworks.errors import QueryError
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import format_interval, parse_interval


@pytest.fixture
def built(spine, maker):
    """Bars of three lengths over one minute, and one of each that is not finished."""
    spine.append(maker.definitions())
    trades = maker.trades(60)
    trades["instrument"] = 1
    spine.append(trades)
    for length, count in ((1_000, 60), (60_000, 1), (300_000, 1)):
        ts = START + np.arange(count + 1) * length * 10**6
        bars = maker.rows("bar", count + 1, instrument=1, ts_event=ts, interval_ms=length, closed=1)
        bars["volume"] = 60 // count * 10**8
        bars["closed"][-1] = 0
        spine.append(bars, "market-data.bars")
    return spine


def test_views_have_the_finished_bars_of_one_length(built):
    # `bars` has all, which add up to three times what was traded.
    lake = tw.open(built.path)
    asked = "select count(*) as n, sum(volume)::int as volume from "
    for name, count in (("bars_1s", 60), ("bars_1m", 1), ("bars_60s", 1), ("bars_5m", 1)):
        assert lake.sql(asked + name).to_pylist() == [{"n": count, "volume": 60}], name
        assert len(lake.rows(name)) == count
    assert lake.sql("select count(*) as n from bars").to_pylist() == [{"n": 65}]
    assert lake.sql("select * from bars, bars_1m").columns
    names = {row["name"] for row in lake.sql("show tables").to_pylist()}
    assert {"bars", "bars_1s", "bars_1m", "bars_5m"} <= names
    with pytest.raises(QueryError, match="no bars of 1h are built; there are 1s, 1m, 5m"):
        lake.sql("select * from bars_1h")


@pytest.mark.parametrize(
    "sql",
    [
        "select * from bars_1m",
        "select * from bars_1s, bars_1m, bars_5m",
        "select * from bars_1m, bars, bar_revisions",
    ],
)
def test_a_question_reads_the_bars_once(built, monkeypatch, sql):
    # Whatever views of them it names; so all are as of one instant, too.
    read, real = [], SourceTail.part

    def counting(tail, table, days):
        read.append(table.name)
        return real(tail, table, days)

    lake = tw.open(built.path)
    monkeypatch.setattr(SourceTail, "part", counting)
    assert len(lake.sql(sql))
    assert read == ["bars"]


def test_names_of_views_may_be_used_again(built):
    # A part of a question may be called as what a view selects from.
    lake = tw.open(built.path)
    for name in ("bars", "bar_revisions"):
        sql = f"with {name} as (select 1 as n) select count(*) as n from bars_1s, {name}"
        assert lake.sql(sql).to_pylist() == [{"n": 60}]
    days = {"start": "2001-01-01", "end": "2001-01-02"}
    assert len(lake.rows("bars_1m", **days)) == 0
    with pytest.raises(QueryError, match="no bars of 1h are built"):
        lake.rows("bars_1h", **days)


@pytest.mark.slow
def test_query_says_that_bars_are_of_several_lengths(built):
    # Who adds up all of them is told, beside the answer; who chooses is not.
    tape = Command(built.path.parent)
    for sql, is_told in (
        ("select sum(volume) from bars", True),
        ("select sum(volume) from bars where interval_ms = 60000", False),
        ("select sum(volume) from bars_1m", False),
        ("describe bars", False),
    ):
        process = tape.start("query", sql)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0
        assert ("bars of all lengths" in told) == is_told, sql
    tape.close()


@pytest.mark.slow
def test_export_writes_bars_of_one_length(built):
    # As `lake.bars` gives them: of a minute, unless another length is asked for.
    tape = Command(built.path.parent)
    for words, count in (
        ([], 1),
        (["--interval", "1s"], 60),
        (["--interval", "5m", "--symbol", "BTCUSDT"], 1),
    ):
        told = tape.told("export", "bars", "bars.csv", *words)
        assert len((tape.folder / "bars.csv").read_text().splitlines()) == 1 + count
        assert f"{count} row{'s' if count > 1 else ''} of" in told
        assert "finished bars of" in told
    tape.run("export", "bar_revisions", "bars.csv")
    assert len((tape.folder / "bars.csv").read_text().splitlines()) == 1 + 65
    # Of a length that was not built, they are made of the trades.
    words = ["export", "bars", "bars.csv", "--interval", "2s", "--symbol", "BTCUSDT"]
    assert "finished bars of 2s" in tape.told(*words)
    assert len((tape.folder / "bars.csv").read_text().splitlines()) == 1 + 1
    told = tape.refuse("export", "trades", "x.csv", "--interval", "1m", code=2)
    assert "--interval is for bars" in told
    tape.close()


def test_a_length_may_be_a_timedelta(built):
    # Of the standard library and of pandas; a number is ms, a text has a unit.
    lake = tw.open(built.path)
    for length in (timedelta(seconds=1), pd.Timedelta("1s"), "1s", 1_000):
        assert len(lake.bars("BTCUSDT", interval=length)) == 60
    assert parse_interval(timedelta(days=1)) == 86_400_000
    for wrong in (timedelta(0), timedelta(microseconds=1), pd.Timedelta(1), timedelta(days=60)):
        with pytest.raises(QueryError, match="expected an interval"):
            parse_interval(wrong)


@pytest.mark.parametrize("text", ["1ms", "250ms", "1s", "90s", "1m", "5m", "1h", "36h", "1d"])
def test_lengths_are_written_as_they_are_read(text):
    assert format_interval(parse_interval(text)) == text


@pytest.mark.parametrize("start", [60, "1m", timedelta(minutes=1)])
def test_a_length_in_the_place_of_the_start_is_told(built, start):
    # `bars("BTCUSDT", 60)` is no request for all bars since 1970.
    with pytest.raises(QueryError, match="a length of bars is named: interval='1m'"):
        tw.open(built.path).bars("BTCUSDT", start)


@pytest.mark.parametrize(("flags", "told"), [(0, False), (32, True)])
def test_a_bar_within_which_the_recording_ended_is_told(spine, maker, flags, told):
    # Left out unless asked for; one that is only not filled yet is nothing to tell.
    spine.append(maker.definitions())
    ts = START + np.arange(2) * 60 * 10**9
    bars = maker.rows("bar", 2, instrument=1, ts_event=ts, interval_ms=60_000, closed=1)
    bars["closed"][-1] = 0
    bars["flags"][-1] |= flags
    spine.append(bars, "market-data.bars")
    lake = tw.open(spine.path)
    found = lake.bars("BTCUSDT")
    assert (len(found), len(lake.bars("BTCUSDT", partial=True))) == (1, 2)
    line = "1 bar is left out, within which the recording began or ended: partial=True has all"
    assert (line in found.notices()) is told
    assert line not in lake.bars("BTCUSDT", partial=True).notices()
