"""Metrics of one's own over windows: what they hold, and which windows are not known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import START, RecordMaker
from tapeworks._core import NONE, Records, dtype_descr, numbers
from tapeworks.config import parse
from tapeworks.errors import ConfigError
from tapeworks.pipeline import processors_of
from tapeworks.processors.window_metric import WindowMetric, WindowMetricConfig
from tapeworks.settings import resolve_config

METRIC = np.dtype(dtype_descr("metric"))
SECOND = 10**9
CHANNELS = numbers("channel")


class Volume(WindowMetric):
    name, window_ms = "volume", 1_000

    def value(self, rows: Any) -> float:
        return float(rows["size"].sum() / 1e8)


class Widest(WindowMetric):
    name, window_ms, records = "widest", 1_000, "quote"

    def value(self, rows: Any) -> float:
        return float((rows["ask_price"] - rows["bid_price"]).max() / 1e9)


def told(
    parts: list[Any], metric: type[WindowMetric] = Volume, trades: str = "auto"
) -> list[tuple[int, float, float | None]]:
    """Returns instrument, end in seconds and value of each window.

    One batch, and batches of five records with a restart before each, give the same.
    """
    rows = [row.tobytes() for part in parts for row in np.split(part, len(part))]
    config = WindowMetricConfig(trades=trades)
    whole, parted, last = bytes(metric(config).process(batch_of(rows))), b"", metric(config)
    for at in range(0, len(rows), 5):
        made = metric(config)
        made.restore(last.snapshot())
        parted += bytes(made.process(batch_of(rows[at : at + 5])))
        last = made
    assert parted == whole
    return [
        (
            int(row["instrument"]),
            (int(row["ts_event"]) - START) / SECOND,
            None if np.isnan(row["value"]) else float(row["value"]),
        )
        for row in np.frombuffer(whole, METRIC)
    ]


def batch_of(rows: list[bytes]) -> Records:
    return Records.from_bytes(b"".join(rows))


class Market:
    """Makes records at seconds after the start."""

    def __init__(self, maker: RecordMaker) -> None:
        self._maker = maker

    def record(self, kind: str, at: float, instrument: int, **more: object) -> Any:
        ts = START + round(at * SECOND)
        known = {"instrument": instrument, "ts_event": ts, "ts_recv": ts}
        return self._maker.rows(kind, 1, **(known | more))

    def trade(self, at: float, instrument: int = 1, channel: str = "trade", **more: object) -> Any:
        known = {"price": 10**11, "size": 10**8, "channel": CHANNELS[channel]}
        return self.record("trade", at, instrument, **(known | more))

    def trades(self, start: int, end: int, instrument: int = 1) -> list[Any]:
        """Makes four a second."""
        return [self.trade(at / 4, instrument) for at in range(start * 4, end * 4)]

    def marker(self, code: str, at: float, instrument: int = 0, **more: object) -> Any:
        return self.record("marker", at, instrument, code=numbers("marker_code")[code], **more)

    def gap(self, at: float, instrument: int, state: str = "closed", channel: str = "trade") -> Any:
        state_number = numbers("gap_state")[state]
        channel_number = CHANNELS[channel] if channel else 0
        return self.marker("gap", at, instrument, state=state_number, channel=channel_number)

    def status(self, at: float, status: int, instrument: int = 1) -> Any:
        return self.record("status", at, instrument, status=status)


@pytest.fixture
def market(maker: RecordMaker) -> Market:
    return Market(maker)


def test_trades_are_those_of_one_stream_and_have_price_and_size(market: Market) -> None:
    single = [market.trade(at / 4) for at in range(9)]
    twice = [
        one for at in range(9) for one in (single[at], market.trade(at / 4, channel="agg_trade"))
    ]
    odd = [
        market.trade(0.1, price=NONE),
        market.trade(0.1, size=NONE),
        market.trade(0.1, ts_event=NONE),
    ]
    expected = [(1, 1.0, None), (1, 2.0, 4.0)]
    assert told(single) == told(twice) == told([*odd, *twice]) == expected
    assert told(twice[1::2]) == []
    assert told(twice, trades="agg_trade") == expected


def test_a_window_that_something_cuts_is_null(market: Market) -> None:
    def cut(*breaks: Any, at: float = 2.6) -> list[tuple[int, float, float | None]]:
        parts = [*market.trades(0, 7), *market.trades(0, 7, 2)]
        parts.sort(key=lambda one: int(one["ts_event"][0]))
        place = next(i for i, one in enumerate(parts) if one["ts_event"][0] > START + at * SECOND)
        return told([*parts[:place], *breaks, *parts[place:]])

    def null(found: list[tuple[int, float, float | None]]) -> list[tuple[int, float]]:
        assert len(found) == 12
        assert {value for *_, value in found} <= {None, 4.0}
        # The first begins with the first event, and others of that time may be missing.
        assert [value for _, end, value in found if end == 1] == [None, None]
        return [(number, end) for number, end, value in found if value is None and end > 1]

    both = [(1, 3.0), (2, 3.0)]
    assert null(cut()) == []
    assert null(cut(market.gap(2.6, 1))) == [(1, 3.0)]
    assert null(cut(market.gap(2.6, 1, "open"))) == [(1, 3.0)]
    assert null(cut(market.gap(2.6, 0, channel=""))) == null(cut(market.gap(2.6, 0))) == both
    assert null(cut(market.gap(2.6, 0, channel="session"))) == both
    assert null(cut(market.marker("end_of_session", 2.6))) == both
    for harmless in (
        market.gap(2.6, 1, "repaired"),
        market.gap(2.6, 1, channel="depth"),
        market.gap(2.6, 1, channel="agg_trade"),
        market.marker("heartbeat", 2.6),
        market.status(2.6, 1),
    ):
        assert null(cut(harmless)) == []
    # Halted and resumed; a band, or the same said again, is neither.
    halted = [market.status(2.6, 1), market.status(2.6, 2)]
    assert null(cut(*halted)) == [(1, 3.0)]
    assert null(cut(market.status(2.6, 1), market.status(2.6, 0), market.status(2.6, 1))) == []
    # Between two windows: the trade before it is of a window that is still open, and of the instant
    # at which those behind it begin others may be missing.
    assert null(cut(market.gap(2.9, 1), at=2.9)) == [(1, 3.0), (1, 4.0)]


def test_a_window_is_known_from_its_start_on(market: Market) -> None:
    # The stream begins within a window; a gap ends within one; time stands still over a gap.
    assert told([*market.trades(0, 3)[1:], market.trade(3)]) == [
        *((1, 1.0, None), (1, 2.0, 4.0)),
        (1, 3.0, 4.0),
    ]
    parts = [*market.trades(0, 1), market.gap(2.4, 1), market.trade(2.5), *market.trades(3, 5)]
    assert told(parts) == [(1, 1.0, None), (1, 3.0, None), (1, 4.0, 4.0)]
    still = [market.trade(0), market.gap(0, 1), market.trade(0), *market.trades(1, 3)]
    assert told(still) == [(1, 1.0, None), (1, 2.0, 4.0)]


@pytest.mark.parametrize("flags", [8, 4, 4 | 8])
def test_what_is_out_of_order_or_from_history_says_nothing_of_the_time(
    market: Market, flags: int
) -> None:
    # Stamped 50 s ahead: it is late, as its window has not come. History alone goes on by itself.
    plain = market.trades(0, 60)
    expected = told(plain)
    made = told([*plain[:81], market.trade(70, flags=flags), *plain[81:]])
    made.remove((1, 70.0, 1.0))
    assert made == expected
    assert len(made) == 59
    history = [market.trade(at / 4, flags=flags) for at in range(60 * 4)]
    assert told(history) == (
        [(1, at / 4, at + 1.0) for at in range(60 * 4)] if flags & 8 else expected
    )


def test_what_retention_took_cuts_windows(market: Market) -> None:
    volume = Volume()
    before, behind = ([one.tobytes() for one in market.trades(*of)] for of in ((0, 2), (2, 5)))
    out = bytes(volume.process(batch_of(before)))
    volume.lost(100, 200)
    out += bytes(volume.process(batch_of(behind)))
    values = np.frombuffer(out, METRIC)["value"]
    assert [None if np.isnan(value) else value for value in values] == [None, None, None, 4.0]


def test_windows_of_quotes_are_cut_by_gaps_of_quotes(market: Market) -> None:
    def quote(at: float) -> Any:
        return market.record("quote", at, 1, bid_price=10**11, ask_price=102 * 10**9)

    parts = [quote(at / 4) for at in range(13)]
    trades = [*parts[:6], market.gap(1.3, 1), *parts[6:]]
    known = [(1, 1.0, None), (1, 2.0, 2.0), (1, 3.0, 2.0)]
    assert told(parts, Widest) == told(trades, Widest) == known
    quotes = [*parts[:6], market.gap(1.3, 1, channel="quote"), *parts[6:]]
    assert told(quotes, Widest) == [(1, 1.0, None), (1, 2.0, None), (1, 3.0, 2.0)]


def test_the_trades_of_the_source_are_those_of_its_own_metrics(tmp_path: Path) -> None:
    def trades(more: str) -> str:
        path = tmp_path / "tapeworks.toml"
        path.write_text(
            '[feeds.binance-spot]\nchannels = ["aggTrade"]\nsymbols = ["BTCUSDT"]\n'
            f'[processors.volume]\nkind = "{__name__}:Volume"\n{more}\n'
        )
        found = processors_of(resolve_config(parse(path, {})), "binance-spot")
        return str(found.own["volume"].trades)

    chosen = [trades(more) for more in ("", 'trades = "auto"', 'trades = "trade"')]
    assert chosen == ["agg_trade", "agg_trade", "trade"]
    with pytest.raises(ConfigError, match="trades"):
        trades('trades = "fills"')


def test_a_state_of_another_stream_is_refused(market: Market) -> None:
    state = Volume().snapshot()
    with pytest.raises(ValueError, match="expected a state of windows of 1000 ms"):
        Volume(WindowMetricConfig(trades="agg_trade")).restore(state)
    with pytest.raises(ValueError, match="expected a state"):
        Widest().restore(state)


def test_trades_of_within_a_gap_make_no_window_whole(market: Market) -> None:
    # They came behind the gap's marker; of feeds of single orders a gap is one of orders.
    for channel in ("trade", "order"):
        gap = market.gap(5, 1, channel=channel)
        gap["ts_start"] = START + SECOND // 2
        late = [market.trade(at) for at in (2, 2.5, 3.1)]
        found = told([market.trade(0.5), gap, *late, *market.trades(6, 9)])
        assert [value for *_, value in found] == [None, None, None, 4.0, 4.0]
