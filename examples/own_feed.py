"""A feed of one's own, for the invented venue of `harbor/venue.py`: trades and whole books.

Run it: .venv/bin/python examples/own_feed.py [FOLDER] records the venue with `tape up`, whose
settings name it by `kind = "own_feed:HarborFeed"`. Its contract: tapeworks/feeds/python.py.
"""

import json
import runpy
from collections.abc import Sequence
from pathlib import Path

from tapeworks.feeds.base import Control, ControlKind, Line, Request
from tapeworks.feeds.python import Frame, PythonFeed, RecordBuilder


class HarborFeed(PythonFeed):
    """One connection carries all rooms: `trades.SYMBOL` and `book.SYMBOL`."""

    def lines(self) -> Sequence[Line]:
        kinds = self.config.channels or ("trades", "book")
        rooms = [f"{kind}.{symbol}" for symbol in self.config.symbols for kind in kinds]
        return [Line(f"{self.source}/0", self.config.ws_url, tuple(rooms))]

    def subscriptions(self, streams: Sequence[str]) -> "Joining":
        return Joining(streams)

    def control(self, payload: bytes) -> Control:
        try:
            message = json.loads(payload)
            if "room" in message:
                return Control(ControlKind.DATA, streams=(message["room"],))
            if "ping" in message:
                return Control(ControlKind.DATA, reply=b'{"pong":%d}' % message["ping"])
            return Control(ControlKind.LISTING, streams=tuple(message["joined"]))
        except (ValueError, TypeError, KeyError) as error:
            return Control(ControlKind.UNKNOWN, message=str(error))

    def symbol(self, stream: str) -> str:
        return stream.partition(".")[2]

    def channel(self, stream: str) -> str:
        return {"trades": "trade", "book": "depth"}[stream.partition(".")[0]]

    def books(self) -> Sequence[str]:
        return self.config.symbols

    def snapshot_message(self, symbol: str) -> bytes:
        return json.dumps({"do": "whole", "room": f"book.{symbol}"}).encode()

    def opening_requests(self) -> Sequence[Request]:
        return [Request(0, "/instruments")]

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        # Texts go into the builder as they are: no number here is ever a float.
        message = json.loads(frame.body)
        if frame.kind == "rest":
            for one in message:
                out.define(one["name"], tick_size=one["step"], lot_size=one["lot"], currency="USD")
        elif "room" in message:
            kind, _, symbol = message["room"].partition(".")
            at = {"ts_event": message["us"] * 1000, "sequence": message["no"]}
            if kind == "trades":
                side = message["taker"]
                out.trade(symbol, message["price"], message["amount"], side=side, **at)
            elif "after" in message:
                sides = message["bids"], message["asks"]
                out.depth(symbol, *sides, previous=message["after"], **at)
            else:
                out.snapshot(symbol, message["bids"], message["asks"], in_stream=True, **at)


class Joining:
    """Subscribes with one message; one answer lists what was joined."""

    def __init__(self, rooms: Sequence[str]) -> None:
        self._rooms, self._sent, self.done, self.failed = rooms, False, False, list[str]()

    def next(self) -> bytes | None:
        sent, self._sent = self._sent, True
        return None if sent else json.dumps({"do": "join", "rooms": list(self._rooms)}).encode()

    def receive(self, control: Control) -> None:
        self.done, self.failed = True, [r for r in self._rooms if r not in control.streams]


if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).parent / "harbor" / "venue.py"), run_name="__main__")
