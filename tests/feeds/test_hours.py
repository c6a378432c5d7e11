"""Trading hours: sessions, holidays, early closes, breaks and extended hours, to the second."""

import sys
from datetime import UTC, datetime

import pytest

from tapeworks.errors import ConfigError
from tapeworks.feeds.hours import ExchangeHours


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("calendar", "extended", "times"),
    [
        (
            "XNYS",
            0,
            {
                # A Wednesday, Thanksgiving, the short day behind it, a Saturday; summer time.
                "2026-11-25T14:29:59": False,
                "2026-11-25T14:30:00": True,
                "2026-11-25T20:59:59": True,
                "2026-11-25T21:00:00": False,
                "2026-11-26T16:00:00": False,
                "2026-11-27T17:59:59": True,
                "2026-11-27T18:00:00": False,
                "2026-11-28T16:00:00": False,
                "2026-07-01T13:30:00": True,
            },
        ),
        (
            "XNYS",
            4 * 3600,
            {
                "2026-11-25T10:30:00": True,
                "2026-11-26T00:59:59": True,
                "2026-11-26T01:00:00": False,
                "2026-11-27T21:59:59": True,
            },
        ),
        # A break at noon.
        ("XHKG", 0, {"2026-11-25T03:59:59": True, "2026-11-25T04:30:00": False}),
        ("24/7", 0, {"2026-11-28T00:00:00": True, "2026-11-29T23:59:59": True}),
    ],
)
def test_the_market_is_open_in_its_sessions(calendar: str, extended: int, times: dict[str, bool]):
    # Times are UTC; those outside of the range that is loaded at first load theirs.
    hours = ExchangeHours(calendar, extended, extended)
    assert {time: hours.is_open(ns(time)) for time in times} == times


def test_what_cannot_be_known_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch):
    # No such exchange, hours that cannot be, and a library that is not there.
    with pytest.raises(ConfigError, match="such as XNYS, got 'NOPE'"):
        ExchangeHours("NOPE")
    with pytest.raises(ConfigError, match="before_s: expected 0 to 43200, got -1"):
        ExchangeHours("XNYS", -1)
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(ConfigError, match="pip install"):
        ExchangeHours("XNYS")
