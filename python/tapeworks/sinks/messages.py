"""What stores of messages have in common: records as protobuf messages, and places as text."""

import contextlib
import json

from tapeworks._core import EncodedMessages, ProtobufEncoder, Records, undefined
from tapeworks.errors import SinkRejected
from tapeworks.sinks.store import StorePartition
from tapeworks.tape import Place


class MessageEncoders:
    """Encodes the records of any source as `tapeworks.v1.MarketData`.

    With `frame`, every message starts with it: the header of a schema registry.
    """

    def __init__(self, frame: bytes | None = None) -> None:
        self._frame = frame
        self._encoders: dict[str, ProtobufEncoder] = {}

    def encode(self, partition: StorePartition, batch: Records) -> EncodedMessages:
        """Returns the messages of the records of `batch` that the settings choose.

        Raises:
            SinkUnavailable: an instrument has no definition yet.
            SinkRejected: there is no message for a record of that kind.
        """
        encoder = self._encoders.get(partition.source)
        if encoder is None:
            encoder = ProtobufEncoder(partition.source, self._frame)
            encoder.load(partition.symbols)
            self._encoders[partition.source] = encoder
        kinds = partition.kinds or None
        with contextlib.suppress(ValueError):
            return encoder.encode(batch, kinds, partition.instruments)
        # A derived tape can be ahead of the definitions that the encoder, or the sink, has seen.
        encoder.load(partition.symbols)
        try:
            return encoder.encode(batch, kinds, partition.instruments)
        except ValueError as error:
            if undefined(batch, partition.symbols) is None:
                raise SinkRejected(str(error)) from error
            partition.require_symbols(str(error))
        encoder.load(partition.symbols)
        return encoder.encode(batch, kinds, partition.instruments)


def place_text(place: Place | None) -> bytes:
    """Returns the text of a place; nothing for none."""
    if place is None:
        return b""
    known = {"offset": place.offset, "tape": place.tape, "fingerprint": place.fingerprint}
    return json.dumps(known).encode()


def read_place(text: bytes | None) -> Place | None:
    """Returns the place that `place_text` wrote; none for nothing."""
    return Place(**json.loads(text)) if text else None
