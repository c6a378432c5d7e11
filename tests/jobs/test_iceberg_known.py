"""What a published history says of a period that is over, when it is told in one that is not."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.conftest import derive
from tests.jobs.test_iceberg import publish

import tapeworks as tw
from conftest import RecordMaker, SpineFolder
from tapeworks import _core
from tapeworks._core import NONE
from tapeworks.jobs.iceberg import publisher
from tapeworks.published import COMPANIONS
from tapeworks.topics import NORMALIZED
from tapeworks.views.published import Published, PublishedTail

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CODES, CAUSES = _core.numbers("marker_code"), _core.numbers("gap_cause")
STATES, CHANNELS = _core.numbers("gap_state"), _core.numbers("channel")
SECOND_NS, MINUTE_NS, HOUR_S = 10**9, 60 * 10**9, 3_600
CANCEL = 1
RECORDER = 0xFFFF
PERIODS = "hour", "day"


class Recording:
    """A trade each second from an hour before the end of a period, in parts."""

    def __init__(self, spine: SpineFolder, maker: RecordMaker, period: str) -> None:
        self.spine, self.maker, self.period = spine, maker, period
        self.over = datetime(2023, 11, 17, 14, tzinfo=UTC)
        if period == "day":
            self.over = datetime(2023, 11, 18, tzinfo=UTC)
        self.begin = int(self.over.timestamp() - HOUR_S) * SECOND_NS
        self.trades = maker.trades(2 * HOUR_S)
        self.trades["ts_event"] = self.begin + np.arange(2 * HOUR_S) * SECOND_NS
        self.trades["ts_recv"] = self.trades["ts_event"] + 1_000_000
        self.connect(self.begin, NONE)
        definitions = maker.definitions()
        for name in ("valid_from", "ts_event", "ts_recv"):
            definitions[name] = self.begin
        spine.append(definitions)

    def mark(self, code: str, ts: int, **fields: Any) -> None:
        marker = self.maker.rows("marker", 1, code=CODES[code], ts_event=ts, ts_recv=ts, **fields)
        self.spine.append(marker)

    def connect(self, ts: int, before: int) -> None:
        """Begins a recording; the one before was killed."""
        self.mark("connected", ts, first=RECORDER, ts_start=before)
        self.mark("connected", ts, first=0, ts_start=before)
        subscribed = _core.numbers("subscription_state")
        for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
            for state in ("subscribed", "spoke"):
                name = f"{symbol.lower()}@trade".encode()
                fields = {"symbol": symbol.encode(), "stream": name, "state": subscribed[state]}
                fields |= {"channel": CHANNELS["trade"], "ts_event": ts, "ts_recv": ts}
                self.spine.append(self.maker.rows("subscription", 1, **fields))

    def store(self, *last: Any) -> None:
        """Stores all, and what comes `last` for itself: a commit says when that began."""
        for part in ((), last):
            for rows in part:
                self.spine.append(rows)
            derive(self.spine.path, self.spine.source)
            for topic in ("normalized", "gaps"):
                self.spine.drain(f"market-data.{topic}")

    def publish(self, monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
        """Publishes, so many minutes after the end of the period."""
        now = self.over + timedelta(minutes=minutes)
        clock = SimpleNamespace(time=now.timestamp, monotonic=time.monotonic)
        monkeypatch.setattr(publisher, "time", clock)
        publish(self.spine.path, now=False, partition=self.period)

    @property
    def address(self) -> str:
        return str(self.spine.path / "iceberg" / "warehouse")

    def answers(self) -> list[tuple[int, list[dict[str, Any]], list[str]]]:
        """What the lake and the published history answer for the period that is over."""
        found = []
        asked = f"{self.over - timedelta(seconds=HOUR_S - 1):%FT%TZ}", f"{self.over:%FT%TZ}"
        for place in (self.spine.path, self.address):
            with tw.open(place) as lake:
                trades = lake.trades(None, *asked)
                found.append((len(trades), trades.coverage().to_pylist(), trades.notices()))
        return found


@pytest.fixture(params=PERIODS)
def recording(
    request: pytest.FixtureRequest,
    spine: SpineFolder,
    maker: RecordMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> Recording:
    monkeypatch.setenv("XDG_CACHE_HOME", str(spine.path.parent / "cache"))
    return Recording(spine, maker, request.param)


def test_a_gap_over_the_end_of_a_period_is_published_with_it(recording, monkeypatch):
    # Ten minutes before and behind the end: its row is of the period that is not over.
    lost = recording.begin + 50 * MINUTE_NS
    recording.spine.append(recording.trades[:3_001])
    found = {"cause": CAUSES["sequence"], "state": STATES["unrecoverable"], "ts_start": lost}
    found |= {"first": 3_001, "last": 4_199, "channel": CHANNELS["trade"], "instrument": 1}
    recording.mark("gap", lost + 20 * MINUTE_NS, count=400, **found)
    recording.store(recording.trades[4_200:4_500])
    recording.publish(monkeypatch, 16)
    lake, history = recording.answers()
    assert [row["finding"] for row in lake[1]] == ["gap"]
    assert history == lake


def test_that_nothing_was_recorded_up_to_the_end_of_a_period_is_published_with_it(
    recording, monkeypatch
):
    # Killed five minutes before the end. That it was, the next recording notes, five minutes after.
    killed = recording.begin + 55 * MINUTE_NS
    recording.spine.append(recording.trades[:3_301])
    recording.connect(killed + 10 * MINUTE_NS - SECOND_NS // 2, killed + 1_000_000)
    recording.store(recording.trades[3_900:4_500])
    recording.publish(monkeypatch, 16)
    lake, history = recording.answers()
    assert [row["finding"] for row in lake[1]] == ["not_recorded"]
    assert history == lake


def test_a_trade_that_is_cancelled_after_the_end_of_its_period_is_so_in_the_history(
    recording, monkeypatch
):
    recording.spine.append(recording.trades[:4_000])
    first = recording.trades[HOUR_S - 60]
    corrected = recording.maker.rows("correction", 1, instrument=first["instrument"])
    for name in ("sequence", "feed", "trade_id", "price", "size"):
        corrected[name] = first[name]
    corrected["action"] = CANCEL
    corrected["ts_event"] = corrected["ts_recv"] = recording.begin + 65 * MINUTE_NS
    recording.spine.append(corrected)
    recording.store(recording.trades[4_000:4_500])
    recording.publish(monkeypatch, 16)
    lake, history = recording.answers()
    assert lake[0] == HOUR_S - 2
    assert history == lake


def test_what_fills_a_gap_of_a_period_that_is_published_comes_with_it(recording, monkeypatch):
    # The gap is told as repaired half an hour later, in an hour that is not over; what the venue
    # had is of the one that is.
    lost = recording.begin + 30 * MINUTE_NS
    recording.spine.append(recording.trades[:1_801])
    recording.store(recording.trades[1_861:4_500])
    recording.publish(monkeypatch, 16)
    late = recording.trades[1_801:1_861].copy()
    late["ts_recv"] = recording.begin + 80 * MINUTE_NS
    recording.spine.append(late)
    found = {"cause": CAUSES["sequence"], "state": STATES["repaired"], "ts_start": lost}
    found |= {"first": 1_801, "last": 1_860, "channel": CHANNELS["trade"], "instrument": 1}
    recording.mark("gap", lost + MINUTE_NS, count=20, **found)
    recording.store(recording.trades[5_000:5_010])
    recording.publish(monkeypatch, 30)
    lake, history = recording.answers()
    assert lake[0] == HOUR_S - 1
    assert history == lake


def test_a_history_whose_gaps_have_no_companion_is_not_known(spine, maker, monkeypatch):
    # With gaps alone come the tables that say when nothing was recorded.
    monkeypatch.setenv("XDG_CACHE_HOME", str(spine.path.parent))
    recording = Recording(spine, maker, "hour")
    spine.append(recording.trades[:100])
    recording.store()
    publish(spine.path, tables=("trades", "gaps"))
    folder = spine.path / "iceberg/warehouse/tapeworks"
    for name in COMPANIONS["gaps"]:
        tail = PublishedTail(Published(recording.address), spine.source)
        assert tail.known_until(NORMALIZED) is not None
        (folder / name).rename(spine.path / name)
        tail = PublishedTail(Published(recording.address), spine.source)
        assert tail.known_until(NORMALIZED) is None
        (spine.path / name).rename(folder / name)
