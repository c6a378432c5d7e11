"""The hostile venue whose frames are arrays of events: as `venue.py`, in another dialect."""

import contextlib
from typing import Any

import msgspec
from tests.hostile.dialects import DIALECTS, Event
from tests.hostile.venue import TRADES_A_TICK, Socket, Venue
from tests.hostile.wire import frame


class ArrayVenue(Venue):
    """All state of the venue."""

    def __init__(self, mode: Any, seed: int) -> None:
        self.dialect = DIALECTS[mode.dialect]
        super().__init__(mode, seed, self.dialect.symbols)

    def greet(self, socket: Socket) -> None:
        """Says hello."""
        self.tell(socket, self.dialect.greeting())

    def read(self, payload: bytes) -> dict[str, Any]:
        """Returns what the recorder says."""
        asked: dict[str, Any] = self.dialect.read(payload)
        return asked

    def tell(self, socket: Socket, events: Any) -> None:
        """Sends events in one frame; what the encoding has no word for is not sent."""
        with contextlib.suppress(msgspec.MsgspecError, OverflowError, TypeError):
            payload, opcode = self.dialect.pack(events)
            socket.send(payload, opcode)

    def control(self, socket: Socket, asked: dict[str, Any]) -> None:
        """Answers a control message."""
        act = self.mode.control if self.attacking else None
        if act is not None:
            self.counts["attacks"] += 1
            act(self, socket, asked)
            return
        self.tell(socket, self.dialect.answer(asked, socket.streams))
        for symbol in self.symbols:
            if f"orderbooks.{symbol}" in asked_streams(asked):
                self.tell(socket, self.dialect.book(symbol, 0))
        if len(socket.streams) >= self.dialect.streams * len(self.symbols):
            socket.subscribed.set()

    def events(self, symbol: str) -> bytes:
        """Returns the frame of one tick of `symbol`."""
        self.quotes[symbol] += 1
        self.updates[symbol] += 1
        events = [self.trade_event(symbol) for _ in range(TRADES_A_TICK)]
        events.append(self.dialect.quote(symbol, self.quotes[symbol]))
        events += self.dialect.book(symbol, self.updates[symbol])
        payload, opcode = self.dialect.pack(events)
        return frame(payload, opcode)

    def trade_event(self, symbol: str, **fields: Any) -> Event:
        """Returns the next trade."""
        self.trades[symbol] += 1
        return self.dialect.trade(symbol, self.trades[symbol], **fields)


def asked_streams(asked: dict[str, Any]) -> list[str]:
    """Returns the streams that a message subscribes, where it names them by channel."""
    if asked.get("action") != "subscribe":
        return []
    lists = {channel: of for channel, of in asked.items() if isinstance(of, list)}
    return [f"{channel}.{symbol}" for channel, of in lists.items() for symbol in of]
