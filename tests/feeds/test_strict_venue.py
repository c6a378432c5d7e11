"""A venue with a key, one connection and denials: what a feed says, and what the session does."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import TapeReader
from tapeworks.errors import VenueError
from tapeworks.feeds import session as recorder
from tapeworks.feeds.base import Control, ControlKind, Line
from tapeworks.feeds.python import Frame, PythonFeed, PythonFeedConfig, RecordBuilder

VENUE = Path(__file__).with_name("strict_venue.py")
MARKER = np.dtype(_core.dtype_descr("marker"))
TRADE = np.dtype(_core.dtype_descr("trade"))
GAP = _core.numbers("marker_code")["gap"]
DISCONNECT = _core.numbers("gap_cause")["disconnect"]


class Login:
    """Waits for the greeting, says the key, then subscribes."""

    def __init__(self, key: str, streams: Sequence[str]) -> None:
        self.failed: Sequence[str] = ()
        self._key, self._streams, self._step = key, streams, 0
        self._due: bytes | None = None

    @property
    def done(self) -> bool:
        return self._step == 3

    def next(self) -> bytes | None:
        message, self._due = self._due, None
        return message

    def receive(self, control: Control) -> None:
        messages = ({"key": self._key}, {"subscribe": self._streams})
        self._due = json.dumps(messages[self._step]).encode() if self._step < 2 else None
        self._step += 1


class StrictFeed(PythonFeed):
    """Arrays of trades, of a venue that denies."""

    counts_events = True
    sends_binary = True
    key = "the-key"

    def __init__(self, config: PythonFeedConfig) -> None:
        super().__init__(config)
        self.rules = replace(self.rules, overlap_s=0.0, backoff_s=0.01)

    def lines(self) -> Sequence[Line]:
        return [Line("x/0", self.config.ws, ("T.A", "T.B"), headers=(("X-Form", "arrays"),))]

    def subscriptions(self, streams: Sequence[str]) -> Login:
        return Login(self.key, streams)

    def control(self, payload: bytes) -> Control:
        [first, *_] = json.loads(payload)
        match first.get("status"):
            case None if first["ev"] == "T":
                return Control(ControlKind.DATA)
            case "auth_failed":
                return Control(ControlKind.DENIED, message="auth_failed")
            case "max_connections":
                return Control(ControlKind.DENIED, message="max_connections", retry_after_s=0.7)
            case _:
                return Control(ControlKind.ACK)

    def symbol(self, stream: str) -> str:
        return stream.partition(".")[2]

    def channel(self, stream: str) -> str:
        return "trade"

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        for event in json.loads(frame.body):
            if event["ev"] == "T":
                out.trade(event["sym"], event["p"], "1", ts_event=event["t"], sequence=event["q"])


class WrongKey(StrictFeed):
    key = "another"


class Strict:
    """The venue's process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def log(self, deny: int = 0) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log?deny={deny}") as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@pytest.fixture
def venue() -> Iterator[Strict]:
    child = subprocess.Popen(
        [sys.executable, str(VENUE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    yield Strict(int(child.stdout.readline()))
    child.stdin.close()
    child.wait(10)
    child.stdout.close()


def record(venue: Strict, data: Path, feed: str, seconds: float, rotation_s: float = 1e5) -> Any:
    """Records the venue for some seconds; returns the last status."""
    config = PythonFeedConfig(
        kind=f"{__name__}:{feed}",
        source="x",
        ws_url=f"ws://127.0.0.1:{venue.port}/stream",
        rotation_s=rotation_s,
    )

    async def main() -> Any:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        return await recorder.record(config, data, stop)

    return asyncio.run(main())


def rows(data: Path, kind: str, dtype: Any) -> Any:
    reader, found = TapeReader(data / "tape" / "x" / "market-data.normalized"), []
    while (batch := reader.read(100_000)) is not None:
        found.append(np.frombuffer(batch.numpy(kind), dtype))
    return np.concatenate(found)


def test_a_wrong_key_ends_the_recorder_and_says_why(venue: Strict, tmp_path: Path):
    # One connection, no second try: the venue counts them.
    with pytest.raises(VenueError, match="the venue denies: auth_failed"):
        record(venue, tmp_path, "WrongKey", 20)
    log = venue.log()
    assert (log["connects"], len(log["denied"]), log["wrong"]) == (1, 1, [])


def test_a_denial_for_a_while_is_waited_for(venue: Strict, tmp_path: Path):
    # Another client holds the one connection for two tries: the next one comes no sooner than the
    # feed says, and then all is recorded.
    venue.log(deny=2)
    status = record(venue, tmp_path, "StrictFeed", 4.0)
    assert status["outcome"]["verdict"] == "all"
    log = venue.log()
    first, second = log["denied"]
    assert second - first >= 0.7
    assert log["wrong"] == []


def test_a_venue_of_one_connection_is_rotated_with_a_gap(venue: Strict, tmp_path: Path):
    # Connections are replaced each half second: never two at once, each gap is in the ledger, and
    # every trade that came is stored once.
    status = record(venue, tmp_path, "StrictFeed", 3.0, rotation_s=0.5)
    log = venue.log()
    assert status["rotations"] >= 2
    assert (log["most"], log["denied"]) == (1, [])
    trades = rows(tmp_path, "trade", TRADE)
    ids = trades["sequence"][trades["instrument"] == 1]
    assert len(ids) > 50
    assert (np.diff(ids.astype(np.int64)) > 0).all()
    markers = rows(tmp_path, "marker", MARKER)
    gaps = markers[(markers["code"] == GAP) & (markers["cause"] == DISCONNECT)]
    closed = gaps[(gaps["state"] == 2) & (gaps["instrument"] == 1)]
    # The last may have been replaced at the very end.
    assert len(closed) in (status["rotations"] - 1, status["rotations"])
