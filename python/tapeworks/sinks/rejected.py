"""Records that a store will never take: kept in a file, each once, with the reason.

    data/state/<source>/rejected/<sink>.<topic>.jsonl

One JSON object a line. A line is on the disk before the sink's place passes its record; a record
that is refused again, because the sink was killed in between, is in the file already.
"""

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks._core import Blob, Symbols, numbers
from tapeworks.durable import make_folder
from tapeworks.errors import SinkError

log = logging.getLogger("tapeworks.sinks")


class RejectedRecords:
    """The file of one sink and one tape, for up to `limit` records."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._offsets: set[int] | None = None

    @property
    def count(self) -> int:
        """The number of records in the file."""
        return len(self._known())

    def add(self, offset: int, reason: str, content: dict[str, Any]) -> None:
        """Keeps one record, durably, unless it is kept already.

        Raises:
            SinkError: there are so many that not the records are wrong, but the store is.
        """
        known = self._known()
        if offset in known:
            return
        if len(known) >= self._limit:
            raise SinkError(
                f"the store refused more than {self._limit} records, the last because: {reason}. "
                f"Compare its schema with the settings; {self.path} holds what was refused. Remove "
                "that file, or raise rejected_max, to go on"
            )
        make_folder(self.path.parent)
        line = json.dumps({"offset": offset, "reason": reason, **content}, default=str)
        with self.path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        known.add(offset)
        log.warning("%s: record at offset %d rejected: %s", self.path.stem, offset, reason)

    def _known(self) -> set[int]:
        if self._offsets is None:
            self._offsets = set()
            if self.path.exists():
                content = self.path.read_bytes()
                whole = content[: content.rfind(b"\n") + 1]
                if len(whole) < len(content):
                    # A torn write: the record is still before the sink.
                    os.truncate(self.path, len(whole))
                self._offsets = {json.loads(line)["offset"] for line in whole.splitlines()}
        return self._offsets


def content_of(item: Any, symbols: Symbols) -> dict[str, Any]:
    """Returns what is kept of an item: all of its bytes, and if it can be, its fields."""
    if isinstance(item, Blob):
        return {"context": item.context.hex(), "frame": item.body.hex()}
    content: dict[str, Any] = {"record": bytes(memoryview(item)).hex()}
    names = {number: name for name, number in numbers("kind").items()}
    for kind in item.kinds():
        content["kind"] = names.get(kind, str(kind))
        with contextlib.suppress(ValueError):
            [row] = pa.record_batch(item.arrow(content["kind"], symbols)).to_pylist()
            content["fields"] = row
    return content
