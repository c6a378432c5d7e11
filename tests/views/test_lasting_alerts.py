"""Rules whose condition lasts: over a restart, beside another, long after it was told."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from conftest import START
from tapeworks._core import Processor, Records, dtype_descr, numbers

ALERT = np.dtype(dtype_descr("alert"))
STATES = {number: name for name, number in numbers("alert_state").items()}
SECOND = 10**9
BTC, ETH = 1, 2
# A spread of one basis point.
NARROW = (10_000, 10_001)


def told(rule: str, parts: Iterable[Any], **settings: object) -> list[tuple[str, int, int]]:
    """Returns state, instrument and second of what a rule tells; updates left out.

    Cut in two anywhere, with the state restored, it tells the same.
    """
    rows = [row.tobytes() for part in parts for row in np.split(part, len(part))]
    whole = _told(rule, [rows], settings)
    middle = len(rows) // 2
    assert _told(rule, [rows[:middle], rows[middle:]], settings) == whole
    return [(state, *rest) for state, *rest in whole if state != "updated"]


def _told(rule: str, parts: list[list[bytes]], settings: dict[str, object]) -> list[Any]:
    made, state = [], b""
    for part in parts:
        processor = Processor("alerts", {"rules": rule, **settings})
        if state:
            processor.restore(state)
        output = processor.process(Records.from_bytes(b"".join(part)))
        made += list(np.frombuffer(memoryview(output), ALERT))
        state = processor.snapshot()
    return [
        (STATES[int(row["state"])], int(row["instrument"]), (int(row["ts_recv"]) - START) // SECOND)
        for row in made
    ]


@pytest.fixture
def market(maker: Any) -> Any:
    """Makes records at seconds after the start."""

    class Market:
        definitions = maker.definitions()

        def record(self, kind: str, at: float, instrument: int = BTC, **more: object) -> Any:
            ts = START + int(at * SECOND)
            return maker.rows(kind, 1, instrument=instrument, ts_event=ts, ts_recv=ts, **more)

        def quote(self, at: float, prices: tuple[int, int] = NARROW, instrument: int = BTC) -> Any:
            sides = {"bid_price": prices[0] * 10**9, "ask_price": prices[1] * 10**9}
            return self.record("quote", at, instrument, bid_size=10**8, ask_size=10**8, **sides)

        def quotes(self, start: int, end: int, step: int = 1) -> list[Any]:
            return [self.quote(at) for at in range(start, end, step)]

        def marker(self, code: str, at: float, instrument: int = 0, **more: object) -> Any:
            return self.record("marker", at, instrument, code=numbers("marker_code")[code], **more)

        def gap(self, at: float, start: float, state: str, channel: str, **more: object) -> Any:
            known = {
                "cause": numbers("gap_cause")["sequence"],
                "state": numbers("gap_state")[state],
                "channel": numbers("channel")[channel],
                "ts_start": START + int(start * SECOND),
            }
            return self.marker("gap", at, BTC, **(known | more))

        def order(
            self, at: float, number: int, side: int, price: float, instrument: int = BTC
        ) -> Any:
            """One that is new, of the number, in tenths of a second."""
            ids = {"order_id": int(at * 10), "sequence": number}
            price = round(price * 10**9)
            order = {"action": 1, "side": side, "price": price, "size": 10**8, **ids}
            return self.record("order", at, instrument, **order)

        def trade(self, at: float, instrument: int = BTC, **more: object) -> Any:
            said = {"price": 10_000 * 10**9, "size": 10**8, "channel": 1, "flags": 1, "side": 1}
            return self.record("trade", at, instrument, **(said | more))

        def status(self, at: float, status: int, instrument: int = BTC) -> Any:
            return self.record("status", at, instrument, status=status)

        def subscribed(self, at: float, symbol: str) -> Any:
            return self.record("subscription", at, 0, symbol=symbol.encode(), state=1)

    return Market()


STALE = "quiet\tstale\tcritical\t\t{}\tafter_ms=5000.0"


@pytest.mark.parametrize("symbols", ["ETHUSDT", ""])
def test_a_symbol_that_stays_silent_over_a_restart_is_stale(market: Any, symbols: str) -> None:
    # It spoke before; the recorder that started again subscribes it, and nothing comes.
    parts = [market.definitions, market.quote(0, instrument=ETH), *market.quotes(1, 20)]
    parts += [market.marker("end_of_session", 20), market.marker("connected", 21)]
    again = [market.subscribed(21, "ETHUSDT")]
    found = told(STALE.format(symbols), [*parts, *again, *market.quotes(22, 60)])
    assert [one for one in found if one[1] == ETH] == [
        *(("opened", ETH, 5), ("closed", ETH, 20)),
        ("opened", ETH, 26),
    ]
    # A symbol that is not recorded any more is not waited for.
    found = told(STALE.format(symbols), [*parts, *market.quotes(22, 60)])
    assert [one for one in found if one[1] == ETH] == [("opened", ETH, 5), ("closed", ETH, 20)]


HALTED, TRADES = 2, 1


@pytest.mark.parametrize("rule", ["stale", "rate"])
def test_a_halt_that_may_have_ended_unseen_keeps_no_rule_silent(market: Any, rule: str) -> None:
    # While BTCUSDT is halted nothing is owed. That ends as the venue says, with a trade behind the
    # halt, and with whatever may have lost the word of its end.
    rules = {"stale": STALE, "rate": "slow\trate\twarning\t\t{}\tbelow=0.5\twindow_ms=5000.0"}
    first = [market.definitions, *market.quotes(0, 5), market.status(5, HALTED)]
    others = [market.quote(at, instrument=ETH) for at in range(6, 60)]

    def found(*ends: Any) -> list[tuple[str, int, int]]:
        ends = sorted([*others, *ends], key=lambda part: int(part["ts_recv"][0]))
        given = told(rules[rule].format("BTCUSDT"), [*first, *ends])
        return [one for one in given if one[0] == "opened"]

    assert found() == []
    [(*_, second)] = found(market.status(20.5, TRADES))
    assert 25 <= second <= 26
    again = [("opened", BTC, second)]
    assert found(market.trade(20.5)) == again
    assert found(market.gap(20.5, 20, "closed", "trade")) == again
    assert found(market.gap(20.5, 20, "open", "session")) == again
    # Waited for from when it is subscribed again.
    ended = (market.marker("end_of_session", 20), market.subscribed(20.5, "BTCUSDT"))
    assert found(*ended) == again
    # Nothing of all that: what was traded before the halt, and came late, or is told late of it; a
    # book of which changes are lost; what was filled.
    late = market.trade(20.5)
    late["ts_event"] = START + 4 * SECOND
    assert found(late) == found(market.trade(20.5, flags=1 | 4)) == []
    assert found(market.gap(20.5, 20, "closed", "depth")) == []
    assert found(market.gap(20.5, 20, "repaired", "trade")) == []
    # A halt is told again behind a break.
    assert found(market.gap(20.5, 20, "closed", "trade"), market.status(21, HALTED)) == []


def test_a_rate_is_too_low_only_once_the_market_was_open_for_a_window(market: Any) -> None:
    # It opens a minute behind the first record; the time before held nothing, and owed nothing.
    opens = np.datetime64(START + 60 * SECOND, "ns").astype("datetime64[m]")
    hours = f"hours={str(opens)[11:16]}-23:59"
    at = (opens.astype("datetime64[ns]").astype(int) - START) // SECOND
    rule = "slow\trate\twarning\t\tBTCUSDT\tbelow=0.5\twindow_ms=10000.0\t" + hours
    others = [market.quote(second, instrument=ETH) for second in range(at + 30)]
    assert told(rule, [market.definitions, *others]) == [("opened", BTC, at + 10)]
    trades = [market.quote(second) for second in range(at, at + 30)]
    parts = sorted([*others, *trades], key=lambda part: int(part["ts_recv"][0]))
    assert told(rule, [market.definitions, *parts]) == []


def test_a_symbol_of_which_nothing_ever_came_is_stale_where_a_rule_names_it(market: Any) -> None:
    parts = [market.definitions, *market.quotes(1, 30)]
    assert told(STALE.format("ETHUSDT"), parts) == [("opened", ETH, 6)]
    assert told(STALE.format(""), parts) == []
    # Where the recorder says that it subscribed it, any rule waits.
    parts.insert(1, market.subscribed(0, "ETHUSDT"))
    assert told(STALE.format(""), parts) == [("opened", ETH, 5)]


@pytest.mark.parametrize(("count", "window_ms"), [(100, 1_000), (1, 20_000), (7, 3_000)])
def test_a_steady_rate_is_neither_too_low_nor_too_high(
    market: Any, count: int, window_ms: int
) -> None:
    # `count` records a second, evenly. A window of it holds a record more or less at most.
    window_s = window_ms / 1_000
    parts = [market.definitions, *(market.quote((at + 0.3) / count) for at in range(60 * count))]
    wanted = f"steady\trate\twarning\t\tBTCUSDT\twindow_ms={window_ms}.0\t"
    one = 1 / window_s
    assert told(f"{wanted}below={count - 1.1 * one}\tabove={count + 1.1 * one}", parts) == []
    # What lasts is told once: neither is it over while a part of the window is not over yet.
    window = math.ceil(window_s)
    for limit in (f"above={count - 1.1 * one}", f"below={count + 1.1 * one}"):
        [(state, _, second)] = told(wanted + limit, parts)
        assert state == "opened"
        assert second <= window + 1


def test_a_rate_that_falls_is_told_within_a_part_of_its_window(market: Any) -> None:
    # From 10 s on every other record is missing: at 11 s half are, and at 10.5 s a quarter is.
    ats = [at / 100 for at in range(3_000) if at < 1_000 or at >= 2_000 or at % 2]
    parts = [market.definitions, *map(market.quote, ats)]
    found = told("slow\trate\twarning\t\tBTCUSDT\tbelow=74\twindow_ms=1000.0", parts)
    assert found == [("opened", BTC, 10), ("closed", BTC, 20)]


def test_a_rate_of_nothing_is_too_low(market: Any) -> None:
    rule = "slow\trate\twarning\t\t{}\tbelow=0.5\twindow_ms=10000.0"
    parts = [market.definitions, market.subscribed(0, "ETHUSDT"), *market.quotes(1, 40)]
    assert told(rule.format("ETHUSDT"), parts) == [("opened", ETH, 10)]
    parts = [market.definitions, *market.quotes(1, 40)]
    assert [one[:2] for one in told(rule.format("ETHUSDT"), parts)] == [("opened", ETH)]


def test_an_outage_that_lasts_breaks_the_agreement_before_it_ends(market: Any) -> None:
    rule = "sla\tsla\tcritical\tsource\t\ttarget=0.999\twindow_h=24.0"
    parts = [market.definitions, *market.quotes(0, 10), market.gap(10, 10, "open", "trade")]
    lasting = [*parts, *market.quotes(11, 4 * 3600, 10)]
    # A thousandth of a day is over.
    [(state, source, second)] = told(rule, lasting)
    assert (state, source) == ("opened", 0)
    assert 96 <= second <= 120
    assert not told(
        rule, [*parts, market.gap(40, 10, "repaired", "trade"), *market.quotes(41, 900)]
    )
    # What was lost, and filled later, is not lost; what another channel lost then is.
    again = [*market.quotes(0, 10), market.gap(700, 10, "closed", "trade")]
    again += [market.gap(701, 12, "closed", "depth"), *market.quotes(702, 900)]
    first, second = (
        market.gap(1_000, at, "repaired", channel) for at, channel in ((10, "trade"), (12, "depth"))
    )
    found = told(rule, [market.definitions, *again, first, *market.quotes(1_001, 1_050)])
    assert [one[0] for one in found] == ["opened"]
    found = told(rule, [market.definitions, *again, first, second, *market.quotes(1_001, 1_050)])
    assert [one[0] for one in found] == ["opened", "closed"]
    # What goes on when the recorder stops was lost up to then.
    ended = [*parts, market.marker("end_of_session", 60), *market.quotes(61, 900)]
    assert not told(rule, ended)


def test_a_gap_of_sequences_is_lost_until_all_of_them_came(market: Any) -> None:
    # They come in runs, in any order, with the times of what came: a line lags. Five of eleven are
    # not all, though told with the gap's start; nor is what another stream, or none, is told.
    rule = "sla\tsla\tcritical\tsource\t\ttarget=0.999\twindow_h=1.0"

    def states(*repairs: tuple[float, int, int], channel: str = "trade") -> list[str]:
        parts = [market.definitions, *market.quotes(0, 10)]
        parts.append(market.gap(210, 10, "closed", "trade", first=100, last=110, count=11))
        parts += market.quotes(211, 220)
        for at, (start, first, last) in enumerate(repairs):
            parts.append(market.gap(225 + at, start, "repaired", channel, first=first, last=last))
        return [one[0] for one in told(rule, [*parts, *market.quotes(230, 500)])]

    filled = ["opened", "closed"]
    assert states((10, 100, 110)) == states((28, 100, 110)) == filled
    assert states((61, 105, 110), (28, 100, 104)) == states((20, 90, 107), (61, 106, 200)) == filled
    assert states((10, 100, 104)) == states((10, 100, 104), (61, 106, 110)) == ["opened"]
    assert states((28, 100, 110), channel="agg_trade") == ["opened"]
    # An outage lost what the gap of its sequences says, where they show that.
    for count, expected in ((0, []), (11, []), (2**32 - 1, ["opened"])):
        outage = {"cause": numbers("gap_cause")["disconnect"], "count": count}
        closed = market.gap(211, 10, "closed", "trade", **outage)
        parts = [market.definitions, *market.quotes(0, 10), closed]
        assert [one[0] for one in told(rule, [*parts, *market.quotes(220, 500)])] == expected


def test_a_gap_of_a_symbol_that_is_recorded_no_more_is_given_up(market: Any) -> None:
    # It goes on when the recorder stops. Behind the start the recorder says what it records; a
    # minute later nobody will tell how the gap of the other symbol ends.
    first = [market.definitions, *market.quotes(0, 10), market.gap(10, 9, "open", "trade")]
    first += [market.marker("end_of_session", 20), market.marker("connected", 30)]
    others = [market.quote(at, instrument=ETH) for at in range(32, 120)]
    later = market.gap(119, 118, "closed", "trade")
    later["instrument"] = ETH
    source, own = "gap\tgap\twarning\tsource\t", "gap\tgap\twarning\t\tBTCUSDT"
    told_again = [("opened", 0, 119), ("closed", 0, 119)]

    def found(rule: str, *subscribed: str) -> list[tuple[str, int, int]]:
        parts = [market.subscribed(31, symbol) for symbol in subscribed]
        return told(rule, [*first, *parts, *others, later, *market.quotes(121, 130)])

    assert found(source, "ETHUSDT") == [("opened", 0, 10), ("closed", 0, 91), *told_again]
    assert found(own, "ETHUSDT") == [("opened", BTC, 10), ("closed", BTC, 91)]
    # It is recorded again, or nobody says what is.
    for subscribed in (("ETHUSDT", "BTCUSDT"), ()):
        assert found(source, *subscribed) == [("opened", 0, 10)]
        assert found(own, *subscribed) == [("opened", BTC, 10)]


def test_what_fills_one_gap_of_very_many_does_not_fill_the_oldest(market: Any) -> None:
    # Of more than 4,096 gaps the oldest are taken together: a long one, and a short one.
    rule = "sla\tsla\tcritical\tsource\t\ttarget=0.999\twindow_h=1.0"
    long, short = (
        market.gap(at, start, "closed", "trade", first=first, last=first)
        for at, start, first in ((210, 10, 1), (211, 210.5, 2))
    )
    many = np.repeat(market.gap(212, 212, "closed", "trade"), 4_095)
    many["first"] = many["last"] = np.arange(3, 4_098)
    many["ts_start"] = many["ts_event"] - 1_000
    filled = market.gap(225, 210.5, "repaired", "trade", first=2, last=2)
    parts = [market.definitions, long, short, many, filled, *market.quotes(230, 240)]
    assert [one[0] for one in told(rule, parts)] == ["opened"]


def test_orders_of_the_day_before_cross_no_prices(market: Any) -> None:
    # The venue numbers its orders anew, and begins with an empty book, of all instruments; an
    # order of another one shows it first. A number that falls once more is another day.
    rule = "crossed\tcrossed\twarning\t\t\tfor_ms=0.0"

    order = market.order
    day = [order(1, 101, 1, 100), order(2, 102, 2, 102)]
    lower = [order(11, 7, 1, 90), order(12, 9, 2, 92)]
    assert told(rule, [market.definitions, *day, *lower]) == []
    other = order(10, 3, 1, 50, ETH)
    higher = [order(11, 300, 1, 90), order(12, 301, 2, 92)]
    assert told(rule, [market.definitions, *day, other, *higher]) == []
    # Within a day they do.
    assert [one[:2] for one in told(rule, [market.definitions, *day, *higher])] == [("opened", BTC)]


def test_what_is_left_of_orders_behind_a_gap_gives_no_best_prices(market: Any) -> None:
    # The best orders stand at the venue still; those that came since are far away. `fat_finger`
    # takes no mid of them, either.
    rules = (
        "wide\tspread\twarning\t\t\tabove_bps=50.0\tfor_ms=1000.0",
        "fat\tfat_finger\twarning\t\t",
    )
    day = [market.order(1, 101, 1, 100), market.order(2, 102, 2, 100.01)]
    far = [market.order(11, 111, 1, 90), market.order(12, 112, 2, 112)]
    more = [market.order(at, 100 + at, 1, 80) for at in range(13, 20)]
    near = [market.order(20, 120, 2, 100.01), market.order(21, 121, 1, 99.99)]

    def found(*between: Any, behind: Iterable[Any] = ()) -> list[tuple[str, int]]:
        parts = [market.definitions, *day, *between, *far, *more, *near, *behind]
        return [one[:2] for rule in rules for one in told(rule, parts)]

    def gap(channel: str, instrument: int) -> Any:
        made = market.gap(10, 9, "closed", channel)
        made["instrument"] = instrument
        return made

    def gone(at: float, number: int, flags: int) -> Any:
        # The end of an order of which nothing came.
        order = market.order(at, number, 1, 100)
        order["action"], order["order_id"], order["flags"] = 6, 7, flags
        return order

    assert found() == []
    assert found(gap("order", BTC)) == found(gap("order", 0)) == found(gap("session", 0)) == []
    assert found(gone(10, 110, 1)) == found(market.marker("end_of_session", 10)) == []
    # Another stream's gap loses no order, nor do those of another instrument.
    assert found(gap("depth", BTC)) == found(gap("order", ETH)) == []
    # The venue numbers its orders anew: all that come are known, and these are far apart.
    wide = [market.order(31, 1, 1, 90), market.order(32, 2, 2, 112), market.order(34, 3, 1, 80)]
    for lost in (gap("order", BTC), gap("order", 0), gone(10, 110, 1)):
        assert found(lost, behind=wide) == [("opened", BTC)]
    # Where the feed says that its books are not whole, they are what its events make them.
    assert found(behind=wide) == found(gone(10, 110, 1 | 32), behind=wide) == [("opened", BTC)]


def test_a_quote_that_stands_behind_a_halt_as_before_it_is_looked_at(market: Any) -> None:
    crossed = [market.quote(at, (10_001, 10_000)) for at in range(50)]
    halt = [market.status(10.5, HALTED), market.status(12.5, HALTED), market.status(20.5, TRADES)]
    parts = [market.definitions, *crossed[:11], *halt, *crossed[21:]]
    opened = [("opened", BTC, 0), ("closed", BTC, 10), ("opened", BTC, 21)]
    assert told("crossed\tcrossed\tcritical\t\t\tfor_ms=0.0", parts) == opened
    wide = [market.quote(at, (10_000, 10_001)) for at in range(50)]
    parts = [market.definitions, *wide[:11], *halt, *wide[21:]]
    found = told("wide\tspread\twarning\t\t\tabove_bps=0.5", parts)
    assert [one[0] for one in found] == ["opened", "closed", "opened"]


def test_a_gap_that_closes_leaves_the_alert_of_the_other_open(market: Any) -> None:
    rule = "lost\tgap\tcritical\t\t"
    parts = [market.definitions, *market.quotes(0, 10), market.gap(10, 10, "open", "trade")]
    parts += [market.gap(12, 12, "open", "depth"), market.gap(15, 10, "closed", "trade")]
    parts += market.quotes(16, 60)
    assert [one for one in told(rule, parts) if one[1] == BTC] == [("opened", BTC, 10)]
    parts.append(market.gap(70, 12, "closed", "depth"))
    assert told(rule, parts)[-1][:2] in (("closed", BTC), ("closed", 0))
    assert ("closed", BTC, 70) in told(rule, parts)


def test_a_metric_that_never_moved_is_far_from_its_history_once_it_does(market: Any) -> None:
    rule = "odd\tmetric\twarning\t\t\tmetric=spread_bps\tdeviations=8.0"
    constant = [market.definitions, *market.quotes(0, 200)]
    wide = [market.quote(at, (10_000, 10_500)) for at in range(200, 260)]
    settings = {"sets": "l1", "interval_ms": 1000}
    assert [one[0] for one in told(rule, [*constant, *wide], **settings)] == ["opened"]
    # Where one value in ten is twice the others, that is no news.
    mixed = [market.quote(at, (10_000, 10_001 + (at % 10 == 0))) for at in range(600)]
    assert not told(rule, [market.definitions, *mixed], **settings)


def test_a_price_through_the_market_is_told_again_later(market: Any) -> None:
    rule = "fat\tfat_finger\tcritical\t\t"

    def trade(at: float) -> Any:
        numbered = {"trade_id": int(at * 10), "sequence": int(at * 10), "count": 1, "side": 1}
        return market.record(
            "trade", at, price=20_000 * 10**9, size=10**8, channel=1, flags=1, **numbered
        )

    parts = [market.definitions, *market.quotes(0, 10), trade(10), trade(10.2)]
    parts += [*market.quotes(11, 90_000, 600), trade(90_000)]
    opened = [one for one in told(rule, parts) if one[0] == "opened"]
    # Both trades of one order are one alert.
    assert opened == [("opened", BTC, 10), ("opened", BTC, 90_000)]


def test_an_alert_of_an_instrument_that_gets_its_symbol_ends(market: Any) -> None:
    # Retention took its definition; the next session's comes, and with it the rules of its symbol.
    wide = [market.quote(at, (10_000, 10_500)) for at in range(10)]
    parts = [*wide[:5], market.definitions, *wide[5:]]
    found = told("wide\tspread\twarning\t\t\tabove_bps=5.0\tfor_ms=0.0", parts)
    assert [one[0] for one in found][:2] == ["opened", "closed"]
    assert len({one[1] for one in found}) == 1


def test_a_rule_about_a_window_of_trades_is_about_the_newest_one(market: Any) -> None:
    # A late trade corrects a window that is over: that is no news of now.
    rule = "vol\tmetric\twarning\t\t\tmetric=tumbling_1s_volume\tabove=100\tfor_ms=0"
    settings = {"sets": "l1", "trade_windows": "tumbling 1s"}

    def trade(at: float, size: int, flags: int = 1) -> Any:
        return market.record("trade", at, flags=flags, channel=1, side=1, size=size * 10**8)

    def trades(sizes: dict[float, int]) -> list[Any]:
        return [trade(at, size) for at, size in sorted(sizes.items())]

    quiet = {at + 0.1: 1 for at in range(30)}
    busy = {at + 0.2: 500 for at in range(10, 16)}
    parts = [market.definitions, *trades({**quiet, **busy})]
    expected = [("opened", BTC, 11), ("closed", BTC, 17)]
    assert told(rule, parts, **settings) == expected
    for received in (8, 13, 20):
        late = trade(5.5, 900, flags=1 | 8)
        late["ts_recv"] = START + received * SECOND
        sent = sorted([*parts[1:], late], key=lambda part: int(part["ts_recv"][0]))
        assert told(rule, [parts[0], *sent], **settings) == expected
