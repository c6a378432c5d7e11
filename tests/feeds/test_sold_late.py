"""Feeds that are sold a quarter of an hour late: when silence counts, when history is asked for."""

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.feeds.test_backfill import SECOND, Answers, pages_of
from tests.feeds.test_session_watchdog import SetClock

from tapeworks._core import Ingest
from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.alpaca.history import time_of
from tapeworks.feeds.backfill import Backfill
from tapeworks.feeds.base import EndedGap, Feed, Request, build
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.watchdog import Watchdog

LATE_S = 900.0
CALENDAR = {"symbols": ("AAPL",), "calendar": "XNYS"}
FEEDS: dict[str, Any] = {
    "live": lambda: AlpacaConfig(**CALENDAR, channels=("trades",)),
    "alpaca": lambda: AlpacaConfig(**CALENDAR, channels=("trades",), product="delayed_sip"),
    "massive": lambda: MassiveConfig(**CALENDAR, channels=("T",), endpoints="delayed"),
    "business": lambda: MassiveConfig(**CALENDAR, channels=("T",), endpoints="delayed-business"),
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASSIVE_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "any")


def judged(feed: Feed, data: Path, *times: tuple[int, int]) -> list[bool]:
    """Returns at which times of a day in New York the silence of the only stream counts."""
    clock, [line] = SetClock(), feed.lines()
    ingest = Ingest(data, feed.source, feed.native)
    watchdog = Watchdog(feed, ingest)
    connection = Connection(0, line, feed, ingest, ingest.flush, clock)
    connection.subscribed = True
    found = []
    for hour, minute in times:
        at = datetime(2026, 11, 18, hour, minute, tzinfo=ZoneInfo("America/New_York"))
        watchdog.excused.clear()
        watchdog.check([connection], clock.now(), int(at.timestamp()) * SECOND)
        found.append(not watchdog.excused)
    ingest.close()
    return found


@pytest.mark.parametrize("name", FEEDS)
def test_silence_counts_while_what_comes_is_of_the_trading_hours(name: str, tmp_path: Path) -> None:
    # From 9:30 to 16:00 in New York; what is late comes from 9:45 to 16:15.
    times = (9, 29), (9, 31), (9, 44), (9, 46), (15, 59), (16, 1), (16, 14), (16, 16)
    live = [False, True, True, True, True, False, False, False]
    late = [False, False, False, True, True, True, True, False]
    expected = live if name == "live" else late
    assert judged(build(FEEDS[name]()), tmp_path, *times) == expected


def test_a_channel_may_be_later_than_its_feed() -> None:
    # Of indicative options trades come late and quotes at once.
    options = AlpacaConfig(symbols=("AAPL240308C00172500",), product="options")
    feed = build(options)
    assert (feed.delay_of("trade"), feed.delay_of("quote")) == (LATE_S, 0.0)
    feed = build(FEEDS["alpaca"]())
    assert (feed.delay_of("trade"), feed.delay_of("none")) == (LATE_S, LATE_S)
    assert build(FEEDS["live"]()).delay_of("trade") == 0.0


class PatientAnswers(Answers):
    """A venue whose history is refused while it is not a quarter of an hour old."""

    start_ns = 0
    ages: list[float]

    def wall_ns(self) -> int:
        return self.start_ns + int(self.time * 1e9)

    def push(self, request: Request) -> None:
        self.ages.append((self.wall_ns() - request.ts_last) / 1e9)
        super().push(request)


@pytest.mark.parametrize("cause", ["silence", "disconnect"])
@pytest.mark.parametrize("name", FEEDS)
def test_the_history_is_asked_for_once_it_may_be(name: str, cause: str) -> None:
    # The end of a gap was just told; behind a silence half a minute more is asked for.
    venue = "alpaca" if name in ("live", "alpaca") else "massive"
    bodies = pages_of(venue, 10)
    end = time_of("2026-09-21T14:13:25.123000000Z")
    lacks = EndedGap("AAPL", "trade", cause, (0, 0), (end - 5 * SECOND, end))
    answers: Any = PatientAnswers(*bodies, lacks=lacks)
    feed = build(FEEDS[name]())
    answers.start_ns, answers.ages = end + int(feed.delay_of("trade") * 1e9), []
    backfill = Backfill(feed, answers, answers, answers)
    while answers.bodies and answers.time < 60.0:
        answers.time += 1.0
        backfill.step(answers.time)
    assert backfill.filled == 1
    if feed.delay_of("trade"):
        assert min(answers.ages) >= LATE_S
    # And no later than it must be.
    assert answers.time <= (3.0 if name == "live" or cause == "disconnect" else 34.0)
