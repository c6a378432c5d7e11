"""What a mode of the hostile venue is, and the registry that each of them is in."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.hostile.venue import Socket, Venue

SocketAct = Callable[[Any, Socket], Awaitable[None]]
HandshakeAct = Callable[[Venue, asyncio.StreamWriter, bytes], Awaitable[None]]
ControlAct = Callable[[Any, Socket, dict[str, Any]], None]
AnswerAct = Callable[[Venue, str, asyncio.StreamWriter], Awaitable[bytes | bool]]


@dataclass(frozen=True)
class Mode:
    """One way to misbehave, and what a recorder owes us all the same."""

    name: str
    about: str
    socket: SocketAct | None = None
    """Called on each socket once it is subscribed."""
    handshake: HandshakeAct | None = None
    """Called instead of the upgrade of a connection."""
    control: ControlAct | None = None
    """Called instead of the answer to a control message."""
    answer: AnswerAct | None = None
    """Called instead of an answer: returns its bytes; true if it sent them and the connection is
    to be closed; false to have the right answer sent."""
    banned: bool = False
    """The recorder may not make requests for longer than a run lasts: books are not expected."""
    refused: bool = False
    """The recorder may say that it is refused, and end, if this is how the venue began."""
    dialect: str = ""
    """Of `dialects.py`, where frames are arrays of events; none: that of `wire.py`."""
    harmed: tuple[str, ...] = ()
    """Symbols whose own ids are attacked: the ledger of all others must be exact."""


MODES: dict[str, Mode] = {}
"""All modes by name."""


def _named(act: Callable[..., Any], kind: str, **more: Any) -> Callable[..., Any]:
    name = act.__name__
    assert name not in MODES, name
    about = (act.__doc__ or "").strip().splitlines()[0]
    MODES[name] = Mode(name, about, **{kind: act}, **more)
    return act


def on_socket(**more: Any) -> Callable[[SocketAct], SocketAct]:
    """Registers what is done on a subscribed socket."""
    return lambda act: _named(act, "socket", **more)


def on_handshake(**more: Any) -> Callable[[HandshakeAct], HandshakeAct]:
    """Registers what is done instead of a handshake."""
    return lambda act: _named(act, "handshake", **more)


def on_control(**more: Any) -> Callable[[ControlAct], ControlAct]:
    """Registers what is done instead of answering a control message."""
    return lambda act: _named(act, "control", **more)


def on_request(**more: Any) -> Callable[[AnswerAct], AnswerAct]:
    """Registers what is done instead of answering a request."""
    return lambda act: _named(act, "answer", **more)
