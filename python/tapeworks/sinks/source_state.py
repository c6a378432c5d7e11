"""What the partitions of one source in a sink share."""

from tapeworks._core import Records, Symbols
from tapeworks.sinks.base import SinkContext, WriterLock
from tapeworks.source_symbols import SourceSymbols


class SourceState:
    """What the partitions of one source share: its lock, and the symbols of its instruments."""

    def __init__(self, context: SinkContext, source: str) -> None:
        self.source = source
        folder = context.data / "state" / source
        self.lock = WriterLock(folder / "sinks" / context.name)
        self.rejected = folder / "rejected"
        self.symbols = Symbols()
        self._reader = SourceSymbols(context.data, source)
        self.version = 0
        """Rises with each definition that came."""

    def read(self) -> None:
        """Reads all definitions that there are by now; raises as `SourceSymbols.read`."""
        self.symbols = self._reader.read()
        self.version += 1

    def load(self, definitions: Records) -> None:
        """Takes in definitions as they come by."""
        self.symbols.load(definitions)
        self.version += 1
