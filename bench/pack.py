"""Frames of Alpaca in msgpack, of those in JSON: pack.py JSONL MSGPACK

A frame stands behind its length in four bytes. Integers and texts take as few bytes as they can,
numbers with a point are doubles, and times are timestamps of eight bytes, as Go's encoder has them.
"""

import json
import struct
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

TIMESTAMP = -1


def packed_time(text: str) -> msgspec.msgpack.Ext:
    """Returns the time as msgpack has it, to the nanosecond."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    both = int(fraction.ljust(9, "0")) << 34 | seconds
    return msgspec.msgpack.Ext(TIMESTAMP, struct.pack(">Q", both))


def main() -> None:
    encode = msgspec.msgpack.Encoder().encode
    with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
        for line in source:
            events: list[dict[str, Any]] = json.loads(line)
            for event in events:
                event["t"] = packed_time(event["t"])
            frame = encode(events)
            target.write(struct.pack("<I", len(frame)) + frame)


main()
