"""What was lost of trades and quotes, fetched from the venue's history.

A gap whose extent is known is asked for once the history should hold it. Its answers go to the raw
tape as all do; the core passes on what did not come live, and nothing twice. The gap counts as
repaired when all pages came, the core can decode every row of them, and they reach its end, whose
event came live. Else it stays in the ledger as it was, and the log says why; the next start of the
recorder tries again.

Of what has numbers the core itself looks whether all that a gap lacks was passed on, and notes no
repair otherwise.
"""

import logging
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks import _core
from tapeworks._core import Ingest
from tapeworks.errors import DecodeError, TapeworksError, VenueError
from tapeworks.feeds.base import Clock, EndedGap, Feed, Request
from tapeworks.feeds.rest import Requests
from tapeworks.source_symbols import SourceSymbols
from tapeworks.tape import open_tape
from tapeworks.topics import GAPS

LAG_S = 2.0
"""The history of a venue is so far behind its streams."""
ATTEMPTS_MAX = 6
"""So often it is asked for what its history does not hold yet, each time after twice as long."""
PAGES_MAX = 1_000
"""Of more pages for a gap without numbers the rest is not fetched. Where there are numbers, each
page comes nearer to its end."""
BEHIND_SILENCE_NS = 30_000_000_000
"""So far behind its end a silence is asked for."""
WAITING_MAX = 1 << 15
"""More gaps do not wait; those beyond stay as they are."""

_KIND_REST = _core.numbers("blob_kind")["rest"]
CHANNELS = ("trade", "agg_trade", "quote")
OURS = ("retention", "damage")
"""Causes that are no matter of the venue."""

_log = logging.getLogger("tapeworks.feeds")


@dataclass
class _Fetch:
    """One gap on its way."""

    gap: EndedGap
    attempt: int = 1
    pages: int = 0
    reached: int = -1
    """Time of the newest row that was told, in ns."""
    flaw: str = ""
    """Why a row of its pages is a dead letter; the other pages are fetched all the same."""


class Backfill:
    """Fills the gaps of one feed, as far as its venue has the history."""

    def __init__(self, feed: Feed, ingest: Ingest, requests: Requests, clock: Clock) -> None:
        self._feed = feed
        self._ingest = ingest
        self._requests = requests
        self._clock = clock
        self._due: deque[tuple[float, _Fetch]] = deque()
        self._asked: dict[str, _Fetch] = {}
        self._is_asking = False
        self.filled = 0
        self.failed = 0
        requests.on_answer, requests.on_failure = self._answered, self._failed

    def resume(self, data: Path) -> None:
        """Takes up the gaps of the ledger that no recorder before filled, as far as it goes back.

        What cannot be read is left to whoever repairs it.
        """
        since_ns = self._clock.wall_ns() - int(self._feed.backfill_s * 1e9)
        if self._feed.backfill_s and self._feed.rest_url:
            try:
                for gap in unfilled(data, self._feed.source, since_ns):
                    self._take(gap, self._clock.now())
            except (TapeworksError, OSError) as error:
                _log.warning("gaps of the ledger are not filled: %s", error)

    def step(self, now: float) -> None:
        """Asks for the gaps that ended lately, and again for those that came to nothing."""
        for symbol, channel, cause, first, last, start, end, behind in self._ingest.take_gaps():
            gap = EndedGap(symbol, channel, cause, (first, last), (start, end), behind)
            self._take(gap, now)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Asks for the next gap, once all pages of the one before have come.

        Events without a number are counted within an answer and its further pages, which therefore
        stand on the tape without those of another gap between them.
        """
        if self._is_asking:
            return
        self._is_asking = True
        for _ in range(len(self._due)):
            if self._asked:
                break
            due, fetch = self._due.popleft()
            if due > now:
                self._due.append((due, fetch))
                continue
            request = self._feed.history_request(_asked_for(fetch.gap))
            if request is not None:
                self._ask(request, fetch)
        self._is_asking = False

    def _take(self, gap: EndedGap, now: float) -> None:
        # What has numbers may be lost between two events of one instant.
        is_extent = gap.seconds > 0 or (gap.seconds == 0 and gap.ids[1] > 0)
        is_wanted = is_extent and gap.seconds <= self._feed.backfill_s
        can_ask = self._feed.backfill_s and self._feed.rest_url
        if is_wanted and can_ask and len(self._due) + len(self._asked) < WAITING_MAX:
            self._due.append((max(now + LAG_S, self._grown_at(gap, now)), _Fetch(gap)))

    def _grown_at(self, gap: EndedGap, now: float) -> float:
        """Returns when the history of a feed that is sold late has what is asked for.

        Before that the venue may refuse it for good.
        """
        delay_s = self._feed.delay_of(gap.channel)
        if not delay_s:
            return now
        age_s = (self._clock.wall_ns() - _asked_for(gap).times[1]) / 1e9
        return now + max(0.0, delay_s - age_s) + LAG_S

    def _ask(self, request: Request, fetch: _Fetch) -> None:
        self._asked[request.path] = fetch
        self._requests.push(request)

    def _answered(self, request: Request, body: bytes) -> None:
        fetch = self._asked.pop(request.path, None)
        if fetch is not None:
            self._take_page(request, body, fetch)
            self._go_on(self._clock.now())

    def _take_page(self, request: Request, body: bytes, fetch: _Fetch) -> None:
        fetch.pages += 1
        page = self._feed.history_page(request, body)
        if page is None:
            self._give_up(fetch, "an answer of the history cannot be read")
            return
        if page.lacks:
            self._give_up(fetch, f"an answer of the history is not whole: {page.lacks}")
            return
        fetch.reached = max(fetch.reached, page.reached)
        fetch.flaw = fetch.flaw or self._flaw(request, body)
        if page.following is None:
            self._end(fetch, is_behind=page.is_behind)
        elif self._is_endless(fetch) or page.following.path == request.path:
            self._give_up(fetch, f"its history goes on behind {fetch.pages} pages")
        else:
            self._ask(page.following, fetch)

    def _is_endless(self, fetch: _Fetch) -> bool:
        return fetch.gap.ids[1] <= 0 and fetch.pages >= PAGES_MAX

    def _flaw(self, request: Request, body: bytes) -> str:
        """Returns why the core cannot decode all of an answer, or nothing."""
        if self._feed.native == "foreign":
            return ""  # Such a feed decodes by itself, once; its `history_page` is the judge.
        try:
            _core.decode(
                self._feed.native, _KIND_REST, request.path.encode(), body, self._clock.wall_ns()
            )
        except DecodeError as error:
            return str(error)
        return ""

    def _end(self, fetch: _Fetch, *, is_behind: bool) -> None:
        gap = fetch.gap
        reaches_end = fetch.reached >= gap.times[1] and not is_behind
        if reaches_end and fetch.flaw:
            self._give_up(fetch, f"an answer of the history cannot be decoded: {fetch.flaw}")
        elif reaches_end and not self._ingest.repaired(
            gap.symbol, gap.channel, gap.cause, gap.ids, gap.times, self._clock.wall_ns()
        ):
            self._give_up(fetch, "not all that it lacks is on the tape, or that is not known")
        elif reaches_end:
            self.filled += 1
            _log.info("gap filled %s pages=%d", gap, fetch.pages)
        elif fetch.attempt >= ATTEMPTS_MAX:
            self._give_up(fetch, "the venue's history ends before it does")
        else:
            # The event at its end came live, so that the history is merely behind.
            pause_s = LAG_S * 2.0**fetch.attempt
            again = _Fetch(gap, fetch.attempt + 1)
            self._due.append((self._clock.now() + pause_s, again))

    def _failed(self, request: Request, error: VenueError) -> None:
        fetch = self._asked.pop(request.path, None)
        if fetch is not None:
            self._give_up(fetch, str(error))
            self._go_on(self._clock.now())

    def _give_up(self, fetch: _Fetch, reason: str) -> None:
        self.failed += 1
        _log.warning("gap not filled %s: %s", fetch.gap, reason)


def _asked_for(gap: EndedGap) -> EndedGap:
    """Returns what is asked for to fill `gap`.

    A silence ends with the receipt of an event, which none of the history has the time of: that the
    history reaches it shows by what is behind.
    """
    if gap.cause != "silence":
        return gap
    return replace(gap, times=(gap.times[0], gap.times[1] + BEHIND_SILENCE_NS))


def unfilled(data: Path, source: str, since_ns: int) -> list[EndedGap]:
    """Returns the gaps of trades and quotes that the ledger tells of since then, and no repair.

    Raises:
        TapeworksError, OSError: the ledger or the symbols cannot be read.
    """
    reader = open_tape(data / "tape" / source / GAPS)
    if reader is None:
        return []
    reader.seek_time(since_ns)
    names, dtype = _core.field_names("gap"), np.dtype(_core.dtype_descr("gap"))
    found: dict[tuple[int, ...], tuple[str, Any]] = {}
    filled: dict[tuple[int, int], dict[int, int]] = {}
    while (batch := reader.read()) is not None:
        for row in np.frombuffer(batch.numpy("gap"), dtype):
            key = tuple(int(row[name]) for name in ("instrument", "channel", "cause", "first"))
            state = names["state"][int(row["state"])]
            found[(*key, int(row["ts_start"]))] = state, row
            runs = filled.setdefault((key[0], key[1]), {})
            if names["cause"][key[2]] == "reset":
                runs.clear()
            elif state == "repaired" and int(row["last"]) > 0:
                runs[key[3]] = max(runs.get(key[3], 0), int(row["last"]))
    lacking = [row for state, row in found.values() if state == "closed"]
    symbols = SourceSymbols(data, source).names() if lacking else {}
    gaps = []
    for row in lacking:
        channel, cause = (names[name][int(row[name])] for name in ("channel", "cause"))
        symbol = symbols.get(int(row["instrument"]), "")
        if symbol and channel in CHANNELS and cause not in OURS and row["ts_start"] < _core.NONE:
            ids, times = ("first", "last"), ("ts_start", "ts_event")
            first, last = (int(row[name]) for name in ids)
            start, end = (int(row[name]) for name in times)
            runs = filled.get((int(row["instrument"]), int(row["channel"])), {})
            numbers = first, last, int(row["sequence"])
            gap = EndedGap(symbol, channel, cause, numbers[:2], (start, end), numbers[2])
            gaps.append(replace(gap, lacks_from=_first_missing(first, last, runs)))
    return gaps


def _first_missing(first: int, last: int, filled: dict[int, int]) -> int:
    """Returns the first number that the history did not give yet, by the ledger; 0: there is none.

    `filled` has the last number of each run that it gave, by its first.
    """
    at = first if last > 0 else 0
    while at <= last and (run := filled.get(at)) is not None and run >= at:
        at = run + 1
    return at
