"""The conversation that logs in and subscribes a connection of Alpaca. Sans I/O."""

from collections.abc import Callable, Sequence
from typing import Any

from tapeworks.feeds.base import Control, ControlKind

NAMES_MAX = 500
"""Streams in one message."""
CONNECTED, AUTHENTICATED, SUBSCRIPTION = "connected", "authenticated", "subscription"
BAD_SYNTAX, TOO_MANY_SYMBOLS = 400, 405

Encode = Callable[[Any], bytes]


class AlpacaSubscriptions:
    """Logs in and subscribes one connection.

    The venue greets first. It accepts or refuses a message as a whole, and a refusal names no
    stream: what may be of one of its symbols, or of their number, is asked for again in halves, so
    that one symbol takes no other with it. What is not in the answer was not accepted.
    """

    def __init__(self, key: str, secret: str, streams: Sequence[str], encode: Encode) -> None:
        self._login = {"action": "auth", "key": key, "secret": secret}
        self._encode = encode
        by_channel: dict[str, list[str]] = {}
        for stream in streams:
            by_channel.setdefault(stream.partition(".")[0], []).append(stream)
        self._batches = [
            names[start : start + NAMES_MAX]
            for names in by_channel.values()
            for start in range(0, len(names), NAMES_MAX)
        ]
        self._waiting: list[str] = []
        self._failed: list[str] = []
        self._is_due = self._is_in = False

    @property
    def done(self) -> bool:
        """Whether every stream is accepted or has failed."""
        return self._is_in and not self._batches and not self._waiting

    @property
    def failed(self) -> Sequence[str]:
        """The streams that the venue refused."""
        return self._failed

    def next(self) -> bytes | None:
        """Returns the login once it was greeted, and then one subscription after the other."""
        if self._is_due:
            self._is_due = False
            return self._encode(self._login)
        if not self._is_in or self._waiting or not self._batches:
            return None
        self._waiting = self._batches.pop(0)
        return self._encode(request("subscribe", self._waiting))

    def receive(self, control: Control) -> None:
        """Takes in an answer."""
        if control.id == CONNECTED and not self._is_in:
            self._is_due = True
        elif control.id == AUTHENTICATED:
            self._is_in = True
        elif control.id == SUBSCRIPTION:
            accepted = set(control.streams)
            self._failed += [name for name in self._waiting if name not in accepted]
            self._waiting = []
        elif control.kind is ControlKind.REFUSED:
            self._refuse(control.id)

    def give_up(self) -> bool:
        """Says no: one answer is of all streams of a request."""
        return False

    def _refuse(self, code: int | str | None) -> None:
        waiting, self._waiting = self._waiting, []
        if code in (BAD_SYNTAX, TOO_MANY_SYMBOLS) and len(waiting) > 1:
            half = len(waiting) // 2
            self._batches[:0] = [waiting[:half], waiting[half:]]
            return
        self._failed += waiting
        if code == TOO_MANY_SYMBOLS and waiting:
            # Not even one more.
            channel = waiting[0].partition(".")[0]
            beyond = [names for names in self._batches if names[0].partition(".")[0] == channel]
            self._batches = [names for names in self._batches if names not in beyond]
            self._failed += [name for names in beyond for name in names]


def request(action: str, streams: Sequence[str]) -> dict[str, Any]:
    """Returns the message that asks for `streams`, which are of one channel."""
    symbols = [stream.partition(".")[2] for stream in streams]
    return {"action": action, streams[0].partition(".")[0]: symbols}
