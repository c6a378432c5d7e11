"""Keeps the errors of a feed's rules away from the recorder: each is logged, counted and answered.

The rules may be a user's own code, or read what a hostile venue sent. Where a method raises, or
returns what its contract does not allow, the recorder goes on with the answer that asks for
nothing: no request, no reply, an unknown frame. Subscribing cannot go on without its conversation,
so that its connection is closed and opened again with back-off.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tapeworks.errors import FeedError, VenueError
from tapeworks.feeds.base import (
    Control,
    ControlKind,
    Feed,
    HistoryPage,
    LivenessPolicy,
    Request,
    Subscriptions,
)
from tapeworks.feeds.limits import LogSampler

RETRY_MS = 60_000

_log = logging.getLogger("tapeworks.feeds")

_UNKNOWN = Control(ControlKind.UNKNOWN, message="the feed's rules fail on it")
_NO_ANSWER = VenueError("the venue refused, and the feed cannot say why", retry_after_ms=RETRY_MS)
# Method, what it returns, and what stands for an answer that it did not give.
_ANSWERS: tuple[tuple[str, Any, Any], ...] = (
    ("control", Control, _UNKNOWN),
    ("heartbeat", bytes, b""),
    ("liveness", LivenessPolicy, LivenessPolicy()),
    ("is_trading", bool, True),
    ("symbol", str, ""),
    ("channel", str, "none"),
    ("definitions_request", Request | None, None),
    ("snapshot_request", Request | None, None),
    ("snapshot_message", bytes | None, None),
    ("history_request", Request | None, None),
    ("history_page", HistoryPage | None, None),
    ("flaw", str, ""),
    ("answered", None, None),
    ("refused", VenueError, _NO_ANSWER),
)
_LISTS: tuple[tuple[str, type], ...] = (
    ("opening_requests", Request),
    ("books", str),
    ("polls", Request),
    ("without", str),
)


class FeedErrors:
    """What the rules of one feed raised so far."""

    def __init__(self, source: str, on_error: Callable[[FeedError], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """Errors by method."""
        self.last = ""
        self._source = source
        self._on_error = on_error
        self._samplers: dict[str, LogSampler] = {}

    def note(self, method: str, error: BaseException) -> None:
        """Counts an error of `method`, and logs it unless it is one of very many."""
        self.counts[method] += 1
        self.last = f"{method}: {type(error).__name__}: {error}"[:300]
        if self._samplers.setdefault(method, LogSampler()).note():
            _log.error(
                "%s: the feed's %s() failed count=%d",
                self._source,
                method,
                self.counts[method],
                exc_info=error,
            )
        if self._on_error is not None:
            self._on_error(FeedError(f"{self._source}: the feed's {self.last}"))


class GuardedSubscriptions:
    """The conversation of a feed; what it raises closes the connection."""

    def __init__(self, talk: Subscriptions, errors: FeedErrors) -> None:
        self._talk = talk
        self._errors = errors

    @property
    def done(self) -> bool:
        """Whether nothing more is to be sent or awaited."""
        return bool(self._call("subscriptions.done", lambda: self._talk.done))

    @property
    def failed(self) -> Sequence[str]:
        """The streams that the venue refused."""
        return list(self._call("subscriptions.failed", lambda: tuple(self._talk.failed)))

    def next(self) -> bytes | None:
        """Returns the next message to send, or none while there is none."""
        message = self._call("subscriptions.next", lambda: self._talk.next())
        return None if message is None else bytes(message)

    def receive(self, control: Control) -> None:
        """Takes in the venue's answer. One that cannot be taken in is as none: time runs out."""
        try:
            self._talk.receive(control)
        except Exception as error:
            self._errors.note("subscriptions.receive", error)

    def give_up(self) -> bool:
        """Asks the feed whether the rest can go on; one that does not say so means no."""
        if (give_up := getattr(self._talk, "give_up", None)) is None:
            return False
        return bool(self._call("subscriptions.give_up", give_up))

    def _call(self, name: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:
            self._errors.note(name, error)
            raise VenueError(f"the feed's {name}() failed: {error}") from error


def guard(feed: Feed, on_error: Callable[[FeedError], None] | None = None) -> FeedErrors:
    """Makes every method of `feed` that a running session calls safe to call.

    `on_error` is told of each error, after it was counted.
    """
    errors = FeedErrors(feed.source, on_error)
    for name, kind, otherwise in _ANSWERS:
        setattr(feed, name, _guarded(getattr(feed, name), name, kind, otherwise, errors))
    for name, kind in _LISTS:
        setattr(feed, name, _guarded_list(getattr(feed, name), name, kind, errors))
    if snapshot := getattr(feed, "snapshot", None):
        setattr(feed, "snapshot", _logged(snapshot, "snapshot", errors))  # noqa: B010
    setattr(feed, "subscriptions", _guarded_talk(feed.subscriptions, errors))  # noqa: B010
    return errors


def _guarded(
    method: Callable[..., Any], name: str, kind: Any, otherwise: Any, errors: FeedErrors
) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            answer = method(*arguments, **named)
            if kind is not None and not isinstance(answer, kind):
                raise TypeError(f"expected {kind}, got {answer!r}")
        except Exception as error:
            errors.note(name, error)
            return otherwise
        return answer

    return call


def _logged(method: Callable[[], bytes], name: str, errors: FeedErrors) -> Callable[[], bytes]:
    """Returns `method`, whose caller has its own way with errors: the older state stays."""

    @functools.wraps(method)
    def call() -> bytes:
        try:
            return bytes(method())
        except Exception as error:
            errors.note(name, error)
            raise

    return call


def _guarded_list(
    method: Callable[..., Any], name: str, kind: type, errors: FeedErrors
) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        try:
            answer = tuple(method(*arguments))
            if wrong := [item for item in answer if not isinstance(item, kind)]:
                raise TypeError(f"expected items of {kind.__name__}, got {wrong[0]!r}")
        except Exception as error:
            errors.note(name, error)
            return ()
        return answer

    return call


def _guarded_talk(
    method: Callable[[Sequence[str]], Subscriptions], errors: FeedErrors
) -> Callable[[Sequence[str]], Subscriptions]:
    @functools.wraps(method)
    def call(streams: Sequence[str]) -> Subscriptions:
        try:
            return GuardedSubscriptions(method(streams), errors)
        except Exception as error:
            errors.note("subscriptions", error)
            raise VenueError(f"the feed's subscriptions() failed: {error}") from error

    return call
