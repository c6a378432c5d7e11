"""Requests to a venue: one queue by priority, under one budget; every answer to the raw tape.

A refusal that names a time stops all requests until then. An answer that is not whole is put on
the raw tape as far as it came, marked by `#cut` behind its path, and asked for again. Redirects
are refused: where requests go is a setting, and not for the venue to say. Whatever an answer, or
what is done with it, raises: that request fails, and no other. Nothing here starts a task: the
session runs `work` as one.
"""

import asyncio
import itertools
import logging
import ssl
from collections.abc import Callable, Mapping

import aiohttp
from yarl import URL

from tapeworks._core import Ingest, numbers
from tapeworks.errors import VenueError
from tapeworks.feeds.base import CUT_MARK, Clock, Feed, Request

REST_CONNECTION = 65_535
"""The connection number of answers to requests, on the raw tape."""

_KIND_REST = numbers("blob_kind")["rest"]
_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
_ATTEMPTS_MAX = 6
BODY_BYTES_MAX = 32 << 20
"""An answer that is longer is not read to its end."""
CUT_BYTES_KEPT = 1 << 20
"""This much of an answer that is not whole is kept on the raw tape."""
BAN_MS_MAX = 3 * 86_400_000
"""No refusal holds requests back for longer, whatever it says."""
QUEUED_MAX = 32_768
"""More requests never wait: enough for a snapshot of each of the most instruments of a source."""
PATH_BYTES_MAX = 65_535 - len(CUT_MARK)
"""A longer path is not asked for: it does not fit beside its answer. Venues name such, as the place
of the next page."""
_RETRY_MS = 1000
_READ_BYTES = 1 << 16
_SHOWN = 300
"""Characters of a path or a reason in what is told."""

_log = logging.getLogger("tapeworks.feeds")


class Requests:
    """The queue of requests of one feed, and the client that makes them.

    A request that is queued already is not queued twice. One that fails for a while is tried
    again up to six times; one that can never succeed is dropped, and said in the log. One that
    finds the queue full counts as failed: what needs its answer asks again, with back-off.
    """

    def __init__(
        self,
        feed: Feed,
        ingest: Ingest,
        flush: Callable[[], None],
        clock: Clock,
        context: ssl.SSLContext | None,
    ) -> None:
        self._feed = feed
        self._ingest = ingest
        self._flush = flush
        self._clock = clock
        self._context = context
        self._queue: asyncio.PriorityQueue[tuple[int, int, Request, int]] = asyncio.PriorityQueue()
        self._queued: set[str] = set()
        self._order = itertools.count()
        self._client: aiohttp.ClientSession | None = None
        self.on_answer: Callable[[Request, bytes], None] = lambda request, body: None
        """Told of each good answer, when it is on the raw tape."""
        self.on_failure: Callable[[Request, VenueError], None] = lambda request, error: None
        """Told of each request that is not tried again."""
        self.made = 0
        self.failed = 0
        self.cut = 0
        """Answers that were not whole."""
        self.last_failure = ""

    def push(self, request: Request) -> None:
        """Queues `request`, unless it is queued or under way already."""
        if not self._feed.rest_url or request.path in self._queued:
            return
        reason = ""
        if len(self._queued) >= QUEUED_MAX:
            reason = f"{QUEUED_MAX} requests wait already"
        elif len(request.path.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX:
            reason = f"its path has over {PATH_BYTES_MAX:,} bytes"
        if reason:
            self._give_up(request, VenueError(reason))
            return
        self._queued.add(request.path)
        self._queue.put_nowait((request.priority, next(self._order), request, 1))

    def waiting(self, path: str) -> bool:
        """Says whether the request for `path` is queued or under way."""
        return path in self._queued

    async def work(self) -> None:
        """Makes the queued requests, for good."""
        while True:
            _, _, request, attempt = await self._queue.get()
            try:
                body = await self.get(request)
                self._queued.discard(request.path)
                self.last_failure = ""
                self.on_answer(request, body)
            except VenueError as error:
                _log.warning(
                    "request failed path=%s attempt=%d retry_after_ms=%d: %s",
                    request.path[:_SHOWN],
                    attempt,
                    error.retry_after_ms,
                    error,
                )
                # A ban holds all requests back in the budget; other failures only this one.
                if error.retry_after_ms == 0 or attempt == _ATTEMPTS_MAX:
                    self._give_up(request, error)
                    continue
                self._note(request, error)
                await asyncio.sleep(min(1.0, error.retry_after_ms / 1000) * attempt)
                self._queue.put_nowait((request.priority, next(self._order), request, attempt + 1))
            except Exception as error:
                self._give_up(request, _not_taken(request, error))

    def _note(self, request: Request, error: VenueError) -> None:
        self.failed += 1
        self.last_failure = f"{request.path[:_SHOWN]}: {error}"[:_SHOWN]

    def _give_up(self, request: Request, error: VenueError) -> None:
        self._queued.discard(request.path)
        self._note(request, error)
        try:
            self.on_failure(request, error)
        except Exception:
            _log.exception("a failure cannot be taken in path=%s", request.path[:_SHOWN])

    async def get(self, request: Request) -> bytes:
        """Makes `request` as soon as the budget allows, and puts its answer on the raw tape.

        Raises:
            VenueError: the venue refused or could not be reached, or its answer cannot be taken in.
        """
        try:
            return await self._get(request)
        except VenueError:
            raise
        except Exception as error:
            raise _not_taken(request, error) from error

    async def _get(self, request: Request) -> bytes:
        budget = self._feed.budget
        while True:
            now, wall_s = self._clock.now(), self._clock.wall_ns() / 1e9
            delay = budget.delay(request.weight, now, wall_s)
            if delay <= 0:
                break
            await asyncio.sleep(min(delay, 5.0))
        budget.spend(request.weight, now, wall_s)
        status, headers, body, lacks = await self._exchange(request.path)
        ts_recv = self._clock.wall_ns()
        self.made += 1
        if status >= 300:
            self._refuse(status, headers, body, ts_recv)
        lacks = lacks or self._feed.flaw(request, body)
        if lacks:
            self._keep_cut(request.path, body, ts_recv)
            raise VenueError(f"the answer is cut: {lacks}", retry_after_ms=_RETRY_MS)
        shed = self._ingest.stats()["shed"]
        self._ingest.receive(REST_CONNECTION, _KIND_REST, ts_recv, body, request.path.encode())
        if self._ingest.stats()["shed"] > shed:
            reason = "the answer was shed, as the tape cannot be written"
            raise VenueError(reason, retry_after_ms=_RETRY_MS)
        self._flush()
        self._feed.answered(request, headers, body, ts_recv / 1e9)
        return body

    def _refuse(self, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> None:
        if status < 400:
            raise VenueError(
                f"the venue answered {status}, a redirect to "
                f"{headers.get('Location', 'nowhere')[:200]!r}, which is not followed",
                status=status,
                retry_after_ms=_RETRY_MS,
            )
        error = self._feed.refused(status, headers, body, ts_recv / 1e9)
        error.retry_after_ms = int(min(max(0, error.retry_after_ms), BAN_MS_MAX))
        if status in (403, 418, 429):
            self._feed.budget.ban(error.retry_after_ms / 1000, self._clock.now())
        raise error

    def _keep_cut(self, path: str, body: bytes, ts_recv: int) -> None:
        """Puts an answer that is not whole on the raw tape, where it is a dead letter."""
        self.cut += 1
        context = (path + CUT_MARK).encode()
        self._ingest.receive(REST_CONNECTION, _KIND_REST, ts_recv, body[:CUT_BYTES_KEPT], context)
        self._flush()

    async def close(self) -> None:
        """Closes the client."""
        if self._client is not None:
            await self._client.close()

    async def _exchange(self, path: str) -> tuple[int, dict[str, str], bytes, str]:
        """Returns status, headers and body of an answer, and what is wrong with the body's end."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                timeout=_TIMEOUT, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with self._client.get(
                # The path is quoted already and must stay as it is: it is the answer's context.
                URL(self._feed.rest_url + path, encoded=True),
                headers=dict(self._feed.rest_headers),
                proxy=self._feed.proxy,
                ssl=self._context if self._context is not None else True,
                allow_redirects=False,
            ) as answer:
                body, lacks = await _body(answer)
                return answer.status, dict(answer.headers), body, lacks
        except Exception as error:
            # Whatever the client raises on what a hostile venue sends must not end the recorder.
            reason = str(error) or type(error).__name__
            raise VenueError(f"no answer: {reason[:_SHOWN]}", retry_after_ms=_RETRY_MS) from error


def tls_context(feed: Feed) -> ssl.SSLContext:
    """Returns how to check certificates: the system's, or the configured authority's."""
    context = ssl.create_default_context(cafile=feed.ca_file)
    if feed.insecure:
        _log.warning("certificates are not checked source=%s", feed.source)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _not_taken(request: Request, error: Exception) -> VenueError:
    """Returns what stands for an error that is not the venue's refusal, and logs where it is from.

    It must end neither the other requests nor the streams, whoever is to blame for it.
    """
    _log.error("an answer cannot be taken in path=%s", request.path[:_SHOWN], exc_info=error)
    reason = f"its answer cannot be taken in: {type(error).__name__}: {error}"
    return VenueError(reason[:_SHOWN])


async def _body(answer: aiohttp.ClientResponse) -> tuple[bytes, str]:
    """Reads a body within its bound; also returns why it is not whole, or nothing."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in answer.content.iter_chunked(_READ_BYTES):
            size += len(part)
            if size > BODY_BYTES_MAX:
                # What comes is not read any more: the connection goes with it.
                answer.close()
                return b"".join(parts), f"over {BODY_BYTES_MAX} bytes"
            parts.append(part)
    except Exception as error:
        # As in `_exchange`: also what an unpacker raises.
        if not parts:
            raise
        return b"".join(parts), str(error)[:_SHOWN] or type(error).__name__
    return b"".join(parts), ""
