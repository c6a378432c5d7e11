"""What is asked before the first connection: the definitions of what is recorded.

A venue refuses the whole request for one symbol that it does not know. Which one, halves of the
list tell; the others are recorded.
"""

import asyncio
import logging
from collections.abc import Sequence

from tapeworks.errors import VenueError
from tapeworks.feeds.base import Feed, Request
from tapeworks.feeds.rest import Requests

OPENING_S = 15.0
"""One request may take so long."""
OPENING_S_MAX = 60.0
"""All of them together: nothing is recorded before."""
REFUSED = 400

_log = logging.getLogger("tapeworks.feeds")


async def open_feed(feed: Feed, requests: Requests) -> list[str]:
    """Makes the feed's opening requests; returns the symbols that the venue does not know.

    What `OPENING_S_MAX` does not suffice for is queued, and recording begins.

    Raises:
        VenueError: it refuses all of them, or does not say which.
    """
    dropped: list[str] = []
    deadline = asyncio.get_running_loop().time() + OPENING_S_MAX
    for request in feed.opening_requests() if feed.rest_url else ():
        try:
            await _get(requests, request, deadline)
        except TimeoutError:
            requests.push(request)
        except VenueError as error:
            if error.status != REFUSED:
                _log.warning("opening request failed path=%s: %s", request.path, error)
                requests.push(request)
                continue
            unknown = await _unknown(feed, requests, request.symbols, deadline)
            names = ", ".join(unknown) or ", ".join(request.symbols) or "all symbols"
            if not unknown or len(unknown) == len(request.symbols):
                raise VenueError(
                    f"{feed.source}: {error}; check the symbols, which are {names}",
                    status=error.status,
                ) from error
            _log.warning("%s: the venue knows no %s; the others are recorded", feed.source, names)
            dropped += unknown
    return dropped


async def _get(requests: Requests, request: Request, deadline: float) -> None:
    now = asyncio.get_running_loop().time()
    if now >= deadline:
        raise TimeoutError
    async with asyncio.timeout_at(min(now + OPENING_S, deadline)):
        await requests.get(request)


async def _unknown(
    feed: Feed, requests: Requests, symbols: Sequence[str], deadline: float
) -> list[str]:
    """Returns those of `symbols`, known to be refused together, that are refused alone.

    A half that was not answered in time is asked for behind it: who is not known there, the log
    tells then.
    """
    if len(symbols) <= 1:
        return list(symbols)
    found: list[str] = []
    for half in (symbols[: len(symbols) // 2], symbols[len(symbols) // 2 :]):
        request = feed.definitions_request(half)
        if request is None:
            return []
        try:
            await _get(requests, request, deadline)
        except TimeoutError:
            _log.warning("no answer in time of %d symbols: %s", len(half), request.path[:200])
            requests.push(request)
        except VenueError as error:
            if error.status != REFUSED:
                return []
            found += await _unknown(feed, requests, half, deadline)
    return found
