"""News of Massive, which no stream carries: asked for again and again. Sans I/O.

Each poll asks for what was published since a while before the last one that was answered to its
end, as publishers tell the venue late; the core passes on each story once for as long as it is told
alike. The first poll of a recorder asks for the day before it, so that what came while none ran is
there. What counts is the venue's time: a clock of this host that is ahead must leave nothing out.
Of each ticker one request waits at most, however long the venue does not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

import msgspec

from tapeworks.feeds.base import Request
from tapeworks.feeds.checks import ALL

PATH = "/v2/reference/news"
STORIES_MAX = 1_000
"""In one answer."""
PAGES_MAX = 100
"""Of one poll; what is behind them is left to the next."""
SYMBOLS_MAX = 20
"""Up to so many symbols are asked for one by one; of more, all news are asked for."""
FIRST_S, OVERLAP_S = 86_400.0, 900.0
PRIORITY = 6
ASKED_MAX = 2
"""So often a page is asked for before its poll begins anew: the place in the answer may be gone."""
PREFIXES = {"crypto": "X:", "forex": "C:"}
"""What REST calls pairs, by market: `X:BTCUSD` is the `BTC-USD` of the stream."""


class _Story(msgspec.Struct):
    published_utc: str = ""


class _Answer(msgspec.Struct):
    next_url: str = ""
    results: list[_Story] | None = None


@dataclass
class _Poll:
    """One that is not answered to its end."""

    path: str
    """Of the page that is awaited."""
    asked_s: float
    since_s: float
    pages: int = 0
    asked: int = 1
    newest_s: float = 0.0
    """When the newest story of its answers was published."""


class NewsPolls:
    """What is to be asked for, and when."""

    def __init__(self, symbols: Sequence[str], every_s: float, product: str = "stocks") -> None:
        is_short = ALL not in symbols and len(symbols) <= SYMBOLS_MAX
        self._tickers = tuple(symbols) if is_short else ("",)
        self._prefix = PREFIXES.get(product, "")
        self._every_s = every_s
        self._overlap_s = max(OVERLAP_S, 2 * every_s)
        self._ahead_s = 0.0
        """By so much the clock of this host is ahead of the venue's."""
        self._since_s: dict[str, float] = {}
        """By ticker: from when on the next poll asks."""
        self._answered: set[str] = set()
        self._polls: dict[str, _Poll] = {}
        self._next: float | None = None
        self._following: list[Request] = []

    def due(self, now: float, wall_ns: int) -> list[Request]:
        """Returns the requests that are due, the next pages of answers among them."""
        requests, self._following = self._following, []
        if not self._every_s or (self._next is not None and now < self._next):
            return requests
        self._next = now + self._every_s
        asked_s = wall_ns / 1e9 - self._ahead_s
        for ticker in self._tickers:
            since_s = self._since_s.setdefault(ticker, asked_s - FIRST_S)
            path = self._path(ticker, since_s)
            poll = self._polls.get(ticker)
            if poll is None or (poll.path != path and poll.asked >= ASKED_MAX):
                poll = self._polls[ticker] = _Poll(path, asked_s, since_s)
            elif poll.path != path:
                poll.asked += 1
            requests.append(Request(PRIORITY, poll.path, symbol=ticker))
        return requests

    def _path(self, ticker: str, since_s: float) -> str:
        since = datetime.fromtimestamp(int(max(0.0, since_s)), UTC)
        name = ticker
        if self._prefix and ticker and not ticker.startswith(self._prefix):
            name = self._prefix + ticker.partition("@")[0].replace("-", "").replace("/", "")
        of = f"ticker={quote(name, safe='')}&" if name else ""
        times = f"published_utc.gte={since:%Y-%m-%dT%H:%M:%SZ}&order=asc&sort=published_utc"
        return f"{PATH}?{of}{times}&limit={STORIES_MAX}"

    def answered(
        self, request: Request, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> None:
        """Takes in an answer, whatever it is of: the next page is due at once."""
        poll = self._polls.get(request.symbol)
        if poll is None or poll.path != request.path:
            return
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return
        venue_s = _date_of(headers)
        if venue_s is not None:
            self._ahead_s = max(0.0, wall_s - venue_s)
        poll.newest_s = max([poll.newest_s, *map(_published_s, answer.results or ())])
        # Where requests go is a setting: of the address that the venue names, the path counts.
        place = urlsplit(answer.next_url)
        if place.path == PATH and poll.pages < PAGES_MAX:
            poll.pages, poll.asked, poll.path = poll.pages + 1, 1, f"{PATH}?{place.query}"
            self._following.append(Request(PRIORITY, poll.path, symbol=request.symbol))
            return
        del self._polls[request.symbol]
        self._since_s[request.symbol] = self._next_since(request.symbol, poll, venue_s)
        if answer.next_url:
            # There is more than a poll asks for: the next goes on behind it, oldest first.
            behind_s = max(poll.since_s, min(poll.newest_s, poll.asked_s))
            self._since_s[request.symbol] = behind_s

    def _next_since(self, ticker: str, poll: _Poll, venue_s: float | None) -> float:
        """Returns from when on the next poll asks, as this one told all that the venue had."""
        is_first = ticker not in self._answered
        self._answered.add(ticker)
        if venue_s is None:
            # Nothing tells the venue's time but its stories.
            return max(poll.since_s, min(poll.asked_s, poll.newest_s) - self._overlap_s)
        if is_first and poll.since_s > venue_s - FIRST_S + self._overlap_s:
            # The clock of this host was ahead, so that it asked for less than a day.
            return venue_s - FIRST_S
        return min(poll.asked_s, venue_s) - self._overlap_s


def _date_of(headers: Mapping[str, str]) -> float | None:
    """Returns when the venue answered, by its own clock, as far as it says so."""
    text = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def _published_s(story: _Story) -> float:
    try:
        told = datetime.fromisoformat(story.published_utc)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
