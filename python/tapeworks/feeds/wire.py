"""What is read of frames without decoding them: the contract of a feed's words.

The decoder of the core says what a frame holds. A capture file, a frame that could not be decoded
and the proof of a simulator ask for less, and also where it can say nothing. A venue's own are in
`feeds/<venue>/wire.py`; a feed without such a file has those of `Wire`, which know nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tapeworks.registry import find_beside, load_name


class Wire:
    """How the frames of one feed look from outside. Nothing here raises, whatever the bytes."""

    channels: Mapping[str, str] = MappingProxyType({})
    """The core's name of the record channel that frames of a label fill."""

    quote_key = "sequence"
    """The column, or columns in SQL, by which two quotes of a symbol differ."""

    def __init__(self, native: str) -> None:
        self.native = native

    def event_time(self, frame: bytes) -> int | None:
        """Returns the time that the venue says in `frame`, in ns; none if it says none."""
        return None

    def stream(self, frame: bytes) -> str:
        """Returns the name of the stream that `frame` says to be of, or nothing."""
        return ""

    def streams(self, frame: bytes) -> tuple[str, ...]:
        """Returns the names of the streams that the events of `frame` are of, one for each."""
        stream = self.stream(frame)
        return (stream,) if stream else ()

    def symbol(self, frame: bytes) -> str:
        """Returns the venue symbol that `frame` is about by its stream, or nothing."""
        return ""

    def labels(self, frame: bytes) -> tuple[str, ...]:
        """Returns what `frame` calls what it holds, each once: one, or those of an array."""
        return ()

    def is_book_answer(self, frame: bytes) -> bool:
        """Says whether `frame` is the answer to a request for a book, though it stands alone."""
        return False

    def book_request(self, symbol: str) -> str:
        """Returns the path of the request for the book of `symbol`."""
        return ""


def wire_of(native: str) -> Wire:
    """Returns the words of the feed that the core calls `native`."""
    target = find_beside("feed", native, "wire", "Wire")
    wire: Wire = (load_name(target) if target else Wire)(native)
    return wire
