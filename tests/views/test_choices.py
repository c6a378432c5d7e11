"""Names and times that could mean several things: an error that lists them, never a mixture."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import tapeworks as tw
from conftest import START, SpineFolder
from tapeworks.errors import QueryError
from tapeworks.views.times import (
    TIME_MAX,
    TIME_MIN,
    format_time,
    parse_interval,
    parse_time,
)


def folder(path, maker, *sources, canonical=True):
    """Sources that each have trades, quotes and bars, and their symbols, in one data folder."""
    for at, (source, symbols) in enumerate(sources):
        spine = SpineFolder(path, source)
        definitions = maker.definitions(symbols)
        definitions["canonical"] = [b"BTC-USDT", b"ETH-USDT", b"SOL-USDT"][: len(symbols)]
        definitions["feed"] = FEEDS.get(source, 255)
        definitions["asset_class"] = 2 if source == "binance-usdm" else 1
        trades = maker.trades(300, at * 1_000)
        trades["instrument"] = 1 + np.arange(300) % len(symbols)
        quotes = maker.rows("quote", 10, instrument=1, ts_event=START, ts_recv=START, bid_price=5)
        bars = maker.rows("bar", 1, instrument=1, interval_ms=60_000, closed=1)
        bars["ts_event"] = trades["ts_event"].min()
        spine.append(definitions)
        spine.append(trades)
        spine.append(quotes)
        spine.append(bars, "market-data.bars")
        spine.close()
    return tw.open(path)


SPOT = ("binance-spot", ("BTCUSDT", "ETHUSDT"))
FUTURES = ("binance-usdm", ("BTCUSDT", "ETHUSDT"))
KRAKEN = ("kraken", ("XBTUSDT", "XETUSDT"))

FEEDS = {"binance-spot": 1, "binance-usdm": 2}

QUESTIONS = {
    "trades": lambda lake, symbol, **more: len(lake.trades(symbol, **more)),
    "quotes": lambda lake, symbol, **more: len(lake.quotes(symbol, **more)),
    "bars": lambda lake, symbol, **more: len(lake.bars(symbol, **more)),
    "rows": lambda lake, symbol, **more: len(lake.rows("trades", symbol, **more)),
    "asof": lambda lake, symbol, **more: len(lake.asof("trades", "quotes", symbol, **more)),
    "replay": lambda lake, symbol, **more: sum(
        len(batch) for batch in lake.replay(symbol, kinds=["trades"], **more)
    ),
}


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_symbol_of_two_sources_is_refused_with_the_choices(tmp_path, maker, asked):
    # The same symbol at two venues: one of them is named, or all are asked for.
    lake = folder(tmp_path, maker, SPOT, FUTURES)
    ask = QUESTIONS[asked]
    with pytest.raises(QueryError, match="BTCUSDT of binance-spot, BTCUSDT of binance-usdm") as no:
        ask(lake, "BTCUSDT")
    assert "source='*'" in str(no.value)
    one = ask(lake, "BTCUSDT", source="binance-usdm")
    assert one > 0
    assert ask(lake, "BTCUSDT", source="*") == 2 * one
    assert ask(lake, "BTCUSDT", product="perpetual") == one
    assert ask(lake, "btcusdt", product="Perpetual", exchange="Binance") == one
    assert ask(lake, ["BTCUSDT"], product="spot", exchange="binance") == one
    # One exchange has both.
    with pytest.raises(QueryError, match=r"source='binance-spot' \(--source\) or product='spot'"):
        ask(lake, "BTCUSDT", exchange="binance")


def test_a_book_is_of_one_instrument(tmp_path, maker):
    # None is picked, not even of all sources; what is chosen is asked for at its own source.
    lake = folder(tmp_path, maker, SPOT, FUTURES)
    choices = "BTCUSDT of binance-spot, BTCUSDT of binance-usdm: choose with"
    for more in ({}, {"source": "*"}, {"exchange": "binance"}):
        with pytest.raises(QueryError, match=choices) as no:
            lake.book("BTCUSDT", **more)
        assert "'*'" not in str(no.value)
    with pytest.raises(QueryError, match="binance-usdm has no books"):
        lake.book("BTC-USDT", product="perpetual")


def test_sources_are_chosen_by_exchange(tmp_path, maker):
    # A feed of the user's own has the exchange that its source's name begins with.
    lake = folder(tmp_path, maker, SPOT, FUTURES, ("kraken-spot", ("XBTUSDT", "XETUSDT")))
    with pytest.raises(QueryError, match=r"or exchange='binance' \(--exchange\), or take"):
        lake.trades("BTC-USDT", product="spot")
    assert set(lake.trades("BTC-USDT", exchange="kraken")["symbol"].to_pylist()) == {"XBTUSDT"}
    assert set(lake.trades(exchange="kraken")["venue"].to_pylist()) == {"kraken-spot"}
    assert set(lake.trades(product="perpetual")["venue"].to_pylist()) == {"binance-usdm"}
    assert lake.symbols(exchange="kraken") == ["XBTUSDT", "XETUSDT"]
    assert lake.instruments(product="perpetual")["venue"].to_pylist() == ["binance-usdm"] * 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"source": "binance"}, "expected a source of binance-spot, binance-usdm, or '.' for all"),
        ({"exchange": "okx"}, "expected an exchange of binance, got 'okx'"),
        ({"product": "swap"}, "expected a product of perpetual, spot, got 'swap'"),
        ({"product": "spot", "source": "binance-usdm"}, "expected a product of perpetual"),
        ({"symbols": []}, "expected one symbol or more, or None for all, got an empty list"),
        ({"symbols": 5}, "expected a symbol such as 'BTCUSDT', or several, got 5"),
        ({"symbols": [b"BTCUSDT"]}, "expected a symbol such as 'BTCUSDT', got b'BTCUSDT'"),
        ({"symbols": "SOLUSDT"}, "'SOLUSDT' was never recorded; near it are"),
    ],
)
def test_a_wrong_choice_is_told_what_there_is(tmp_path, maker, more, told):
    # Before anything is read.
    lake = folder(tmp_path, maker, SPOT, FUTURES)
    asked = {"symbols": "BTCUSDT", **more}
    for ask in (lake.trades, lake.bars, lake.replay, lake.gaps, lake.coverage):
        with pytest.raises(QueryError, match=told):
            ask(**asked)


def test_folders_of_like_names_are_not_mixed(tmp_path, maker):
    # No source can be named so any more, but folders of earlier versions may be: each keeps its
    # own rows, also those that are on the tape alone.
    names = ("my-feed", "my.feed", "my_feed", "My-feed")
    lake = folder(tmp_path, maker, *((name, ("BTCUSDT",)) for name in names))
    asked = "select venue, min(trade_id) as low, count(*) as n from trades group by venue"
    found = {row["venue"]: (row["low"], row["n"]) for row in lake.sql(asked).to_pylist()}
    assert found == {name: (at * 1_000, 300) for at, name in enumerate(names)}


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_canonical_symbol_of_two_venues_is_refused(tmp_path, maker, asked):
    # Each venue has a symbol of its own for it: with all, each source gives its own.
    lake = folder(tmp_path, maker, SPOT, KRAKEN)
    ask = QUESTIONS[asked]
    with pytest.raises(QueryError, match="BTCUSDT of binance-spot, XBTUSDT of kraken"):
        ask(lake, "BTC-USDT")
    one = ask(lake, "XBTUSDT")
    assert ask(lake, "BTC-USDT", source="kraken") == one > 0
    assert ask(lake, "BTC-USDT", source="*") == ask(lake, "BTCUSDT") + one


def test_an_answer_of_all_sources_keeps_each_ones_symbol(tmp_path, maker):
    # A symbol of one venue that another has defined as something else is not mixed in.
    swapped = ("other", ("ETHUSDT", "BTCUSDT"))
    lake = folder(tmp_path, maker, SPOT, swapped)
    table = lake.trades("BTC-USDT", source="*").to_arrow()
    pairs = set(zip(table["venue"].to_pylist(), table["symbol"].to_pylist(), strict=True))
    assert pairs == {("binance-spot", "BTCUSDT"), ("other", "ETHUSDT")}


def test_a_symbol_that_is_only_defined_is_no_choice(tmp_path, maker):
    # Venues define all that they trade: where nothing of it is recorded, nothing is meant.
    lake = folder(tmp_path, maker, SPOT)
    defines = SpineFolder(tmp_path, "binance-usdm")
    defines.append(maker.definitions(("BTCUSDT", "ETHUSDT")))
    defines.close()
    assert len(tw.open(tmp_path).trades("BTCUSDT")) == len(lake.trades("BTCUSDT")) == 150


def test_a_canonical_symbol_of_two_instruments_of_one_source_is_refused(tmp_path, maker):
    # A perpetual and a future of one venue: the venue's own names tell them apart.
    spine = SpineFolder(tmp_path, "binance-usdm")
    definitions = maker.definitions(("BTCUSDT", "BTCUSDT_261225"))
    definitions["canonical"] = b"BTC-USDT"
    definitions["asset_class"] = [2, 3]
    spine.append(definitions)
    trades = maker.trades(10)
    trades["instrument"] = 1 + np.arange(10) % 2
    spine.append(trades)
    spine.close()
    lake = tw.open(tmp_path)
    with pytest.raises(QueryError, match="ask for BTCUSDT, BTCUSDT_261225, or with product='perp"):
        lake.trades("BTC-USDT", source="*")
    found = lake.trades("BTC-USDT", product="future")
    assert len(found) == 5
    assert set(found["symbol"].to_pylist()) == {"BTCUSDT_261225"}


NINE = 1_795_183_387_123_456_789


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (np.datetime64("2026-11-20T14:03:07.123456789", "ns"), NINE),
        (np.datetime64("2026-11-20T14:03:07.123456", "us"), NINE - 789),
        (np.datetime64("2026-11-20", "D"), 1_795_132_800_000_000_000),
        (np.datetime64("2026-11", "M"), 1_793_491_200_000_000_000),
        (np.datetime64("2026", "Y"), 1_767_225_600_000_000_000),
        (np.int64(NINE), NINE),
        (np.uint64(NINE), NINE),
        (pd.Timestamp(NINE), NINE),
        (pd.Timestamp(NINE, tz="America/New_York"), NINE),
        (pd.Timestamp("2026-11-20").as_unit("s"), 1_795_132_800_000_000_000),
        (
            datetime(2026, 11, 20, 16, tzinfo=timezone(timedelta(hours=2))),
            1_795_183_200_000_000_000,
        ),
        (datetime(2026, 11, 20, tzinfo=UTC), 1_795_132_800_000_000_000),
        (pa.scalar(NINE, pa.timestamp("ns", "UTC")), NINE),
        (pa.scalar(NINE // 1_000, pa.timestamp("us")), NINE - 789),
        (pa.scalar(date(2026, 11, 20)), 1_795_132_800_000_000_000),
        (pa.scalar(NINE), NINE),
        (pd.Series([pd.Timestamp(NINE)])[0], NINE),
        (date(2026, 11, 20), 1_795_132_800_000_000_000),
        ("20261120", 1_795_132_800_000_000_000),
        ("2026-11-20T14:03:07,123456789Z", NINE),
        ("1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_every_form_of_a_time_means_the_same(written, expected):
    # NumPy, pandas, datetimes, dates, text and integers, to the nanosecond; without a zone UTC.
    assert parse_time(written) == expected


@pytest.mark.parametrize(
    ("ts", "shown"),
    [
        (NINE, "2026-11-20T14:03:07.123456789Z"),
        (NINE + 1, "2026-11-20T14:03:07.123456790Z"),
        (NINE - 789, "2026-11-20T14:03:07.123456Z"),
        (NINE - 23_456_789, "2026-11-20T14:03:07.100Z"),
        (NINE - 123_456_789, "2026-11-20T14:03:07Z"),
    ],
)
def test_a_time_has_as_many_digits_as_it_needs_by_threes(ts, shown):
    # Cut at any zero, two times beside each other would seem to be of two forms.
    assert format_time(ts) == shown


@pytest.mark.parametrize(
    "wrong",
    [
        pd.NaT,
        np.datetime64("NaT"),
        None,
        True,
        np.bool_(True),
        1.5,
        np.float64(1e18),
        "",
        "NaT",
        "now",
        "1700262000",
        "1700262000000",
        "2026-11-20T14:03:07.1234567891Z",
        10**19,
        2**63 - 1,
        -(2**64),
        np.uint64(2**64 - 1),
        np.datetime64("2500", "Y"),
        np.datetime64("3000-01-01", "s"),
        np.datetime64(2**62, "D"),
        pd.Timestamp("3000-01-01"),
        datetime(9999, 12, 31),
        datetime(1, 1, 1),
        date(1, 1, 1),
        "9999-12-31",
        "0001-01-01T00:00:00+14:00",
        timedelta(1),
        np.timedelta64(5, "s"),
        np.timedelta64(NINE, "ns"),
        time(1),
        pd.NA,
        float("nan"),
        pa.scalar(None, pa.timestamp("us")),
        pa.scalar(2**62, pa.timestamp("s")),
        pa.scalar("yesterday"),
        np.array(NINE),
        pd.Series([NINE]),
        b"2026-11-20",
        [1],
    ],
)
def test_what_is_no_time_is_refused_in_words(wrong):
    # Never an OverflowError, a wrapped year or hours of 1970.
    with pytest.raises(QueryError, match="expected"):
        parse_time(wrong)


@pytest.mark.parametrize(
    "seconds", [0, -1, 60, 1_795_889_785, 1_795_889_785_123, 1_795_889_785_123_456]
)
def test_numbers_that_are_no_nanoseconds_are_refused(tmp_path, maker, seconds):
    # Seconds, ms and us since 1970: as nanoseconds they would mean all that was ever recorded.
    lake = folder(tmp_path, maker, SPOT)
    for value in (seconds, np.int64(seconds), str(seconds)):
        with pytest.raises(QueryError, match="number of ns since the epoch, of 1990 or later"):
            parse_time(value)
    with pytest.raises(QueryError, match=f"got {seconds}"):
        lake.trades("BTCUSDT", start=seconds)
    assert len(lake.trades("BTCUSDT", start=START)) == 150


def calls_with_a_time(lake: tw.Lake) -> dict[str, Callable[..., Any]]:
    """Returns all questions that take a time, by name."""
    found = {}
    for name in dir(lake):
        call = None if name.startswith("_") else getattr(lake, name)
        if callable(call) and {"start", "at"} & inspect.signature(call).parameters.keys():
            found[name] = call
    return found


ENDS = (format_time(TIME_MIN), format_time(TIME_MAX), pd.Timestamp.min, pd.Timestamp.max)
GIVEN = {
    "table": "trades",
    "left": "trades",
    "right": "quotes",
    "symbol": "BTCUSDT",
    "symbols": "BTCUSDT",
    "names": "mid",
    "horizons": "1s",
}


@pytest.mark.slow
def test_all_questions_take_the_same_times(tmp_path, maker):
    # All that 64 bits of ns hold, at either end; what is no time is refused before anything is
    # read. An answer or a QueryError, never what Python or a library says of numbers.
    lake = folder(tmp_path, maker, SPOT)
    calls = calls_with_a_time(lake)
    assert {"trades", "bars", "book", "replay", "asof", "gaps", "follow"} <= calls.keys()
    for name, call in calls.items():
        parameters = inspect.signature(call).parameters
        given = {key: value for key, value in GIVEN.items() if key in parameters}
        places = parameters.keys() & {"start", "end", "at"}
        for place in places:
            for wrong in (pd.NaT, np.datetime64("NaT"), datetime.max, 1.5, "soon", 2**80):
                with pytest.raises(QueryError, match=r"expected a (time|number)"):
                    call(**given, **{place: wrong})
            for end in ENDS if name != "follow" else ():
                with contextlib.suppress(QueryError):
                    found = call(**given, **{place: end})
                    assert repr(list(found) if isinstance(found, Iterator) else found)


@pytest.mark.parametrize(
    "written",
    [
        "90s",
        90_000,
        np.int64(90_000),
        timedelta(seconds=90),
        np.timedelta64(90, "s"),
        np.timedelta64(90_000_000_000, "ns"),
        pd.Timedelta("90s"),
    ],
)
def test_every_form_of_an_interval_means_the_same(written):
    # NumPy counts in steps of a unit of its own.
    assert parse_interval(written) == 90_000
    assert parse_interval(np.timedelta64(2, "W")) == 14 * 86_400_000


@pytest.mark.parametrize(
    "wrong",
    [
        *(True, 0, -1, "0s", "1M", "m", 1.5, 2**40, "99999999w", None, pd.NaT),
        *(np.timedelta64(count, unit) for count, unit in ((1, "us"), (1, "M"), (-5, "s"))),
        *(np.timedelta64("NaT"), np.timedelta64(5)),
    ],
)
def test_what_is_no_interval_is_refused(wrong):
    # Bars have a length in ms of 32 bits.
    with pytest.raises(QueryError, match="expected an interval"):
        parse_interval(wrong)
