"""A feed of one's own, for the invented venue of `harbor/venue.py`: no number is ever a float.

Run it: .venv/bin/python examples/harbor/venue.py [FOLDER] records the venue with `tape up`, whose
settings name it by `kind = "own_feed:HarborFeed"`. Its contract: tapeworks/feeds/python.py.
"""

import json
from collections.abc import Sequence

from tapeworks.feeds.base import Control, ControlKind, Line, Request
from tapeworks.feeds.python import Frame, PythonFeed, RecordBuilder, SubscribeOnce


class HarborFeed(PythonFeed):
    """One connection carries all rooms: `trades.SYMBOL` and `book.SYMBOL`."""

    def lines(self) -> Sequence[Line]:
        kinds = self.config.channels or ("trades", "book")
        rooms = [f"{kind}.{symbol}" for symbol in self.config.symbols for kind in kinds]
        return [Line(f"{self.source}/0", self.config.ws_url, tuple(rooms))]

    def subscriptions(self, streams: Sequence[str]) -> SubscribeOnce:
        return SubscribeOnce(json.dumps({"do": "join", "rooms": streams}).encode(), streams)

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

    def channel(self, stream: str) -> str:
        return {"trades": "trade", "book": "depth"}[stream.partition(".")[0]]

    def snapshot_message(self, symbol: str) -> bytes:
        return json.dumps({"do": "whole", "room": f"book.{symbol}"}).encode()

    def opening_requests(self) -> Sequence[Request]:
        return [Request(0, "/instruments")]

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        message = json.loads(frame.body)
        if frame.kind == "rest":
            for one in message:
                out.define(one["name"], tick_size=one["step"], lot_size=one["lot"], currency="USD")
        elif "room" in message:
            kind, _, symbol = message["room"].partition(".")
            at = {"ts_event": message["us"] * 1000, "sequence": message["no"]}
            if kind == "trades":
                out.trade(symbol, message["price"], message["amount"], side=message["taker"], **at)
            elif "after" in message:
                out.depth(symbol, message["bids"], message["asks"], previous=message["after"], **at)
            else:
                out.snapshot(symbol, message["bids"], message["asks"], in_stream=True, **at)
