"""News of Massive, which no stream carries: asked for again and again. Sans I/O.

Each poll asks for what was published since a while before the last one that was answered, as
publishers tell the venue late; the core passes on each story once for as long as it is told alike.
The first poll of a recorder asks for the day before it, so that what came while none ran is there.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
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


class _Answer(msgspec.Struct):
    next_url: str = ""


class NewsPolls:
    """What is to be asked for, and when."""

    def __init__(self, symbols: Sequence[str], every_s: float) -> None:
        is_short = ALL not in symbols and len(symbols) <= SYMBOLS_MAX
        self._tickers = tuple(symbols) if is_short else ("",)
        self._every_s = every_s
        self._overlap_s = max(OVERLAP_S, 2 * every_s)
        self._asked_s = 0.0
        self._told_s: dict[str, float] = {}
        """By ticker: when the last poll began that was answered to its end."""
        self._next: float | None = None
        self._following: list[Request] = []
        self._pages = 0

    def due(self, now: float, wall_ns: int) -> list[Request]:
        """Returns the requests that are due, the next pages of answers among them."""
        requests, self._following = self._following, []
        if not self._every_s or (self._next is not None and now < self._next):
            return requests
        self._next, self._asked_s, self._pages = now + self._every_s, wall_ns / 1e9, 0
        for ticker in self._tickers:
            told_s = self._told_s.get(ticker)
            since_s = self._asked_s - FIRST_S if told_s is None else told_s - self._overlap_s
            since = datetime.fromtimestamp(int(since_s), UTC)
            of = f"ticker={quote(ticker, safe='')}&" if ticker else ""
            times = f"published_utc.gte={since:%Y-%m-%dT%H:%M:%SZ}&order=asc&sort=published_utc"
            path = f"{PATH}?{of}{times}&limit={STORIES_MAX}"
            requests.append(Request(PRIORITY, path, symbol=ticker))
        return requests

    def answered(self, request: Request, body: bytes) -> None:
        """Takes in an answer, whatever it is of: the next page is due at once."""
        if not request.path.startswith(f"{PATH}?"):
            return
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return
        # Where requests go is a setting: of the address that the venue names, the path counts.
        place = urlsplit(answer.next_url)
        if place.path == PATH and self._pages < PAGES_MAX:
            self._pages += 1
            path = f"{PATH}?{place.query}"
            self._following.append(Request(PRIORITY, path, symbol=request.symbol))
        elif not answer.next_url:
            self._told_s[request.symbol] = self._asked_s
