"""Dead letters as rows: frames that could not be decoded, with their bytes and why.

The core copies each such frame to its own tape. What is there outlives the raw tape; here it takes
the shape that the lake stores and views show.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Blob, Symbols

DAY_NS = 86_400_000_000_000
# What a row takes in memory beside the bytes of its frame.
ROW_BYTES = 1_024


class DeadLetterRows:
    """Dead letters gathered from their tape; used as `Rows` of the core is.

    The context of such a blob is the marker of the letter, and then the context of the frame. A
    letter without a kind has no bytes: retention took the frame before it could be copied.
    """

    SCHEMA = pa.schema(
        [
            ("symbol", pa.dictionary(pa.int32(), pa.string())),
            ("ts_event", pa.timestamp("us", "UTC")),
            ("ts_event_ns", pa.int16()),
            ("ts_recv", pa.timestamp("us", "UTC")),
            ("ts_recv_ns", pa.int16()),
            ("reason", pa.dictionary(pa.int8(), pa.string())),
            ("byte", pa.uint64()),
            ("frame", pa.binary()),
            ("context", pa.string()),
            ("frame_kind", pa.dictionary(pa.int8(), pa.string())),
            ("connection", pa.uint16()),
            ("raw_offset", pa.uint64()),
            ("sequence", pa.uint64()),
            ("flags", pa.uint8()),
            ("tape_offset", pa.uint64()),
        ]
    )
    FRAME_KINDS: ClassVar[dict[int, str]] = {
        number: name for name, number in _core.numbers("blob_kind").items()
    }
    resume = None

    def __init__(self) -> None:
        self._rows: list[dict[str, object]] = []
        self._times: list[int] = []
        self.nbytes = 0
        self._marker = np.dtype(_core.dtype_descr("dead"))
        self._reasons = _core.field_names("dead")["cause"]

    def __len__(self) -> int:
        return len(self._rows)

    def extend(self, blobs: list[Blob], from_offset: int = 0) -> int:
        """Takes the letters from `from_offset` on; returns how many it took."""
        found = [self._row(blob) for blob in blobs if blob.offset >= from_offset]
        self._rows += found
        self._times += [blob.ts_recv for blob in blobs if blob.offset >= from_offset]
        self.nbytes += sum(len(blob.body) + len(blob.context) + ROW_BYTES for blob in blobs)
        return len(found)

    def sort(self, symbols: Symbols) -> list[tuple[int, int, int]]:
        """Orders by day and time. Returns day since the epoch, first row, end row."""
        order = sorted(range(len(self._rows)), key=self._times.__getitem__)
        self._rows = [self._rows[at] for at in order]
        self._times = [self._times[at] for at in order]
        parts: list[tuple[int, int, int]] = []
        for at, ts in enumerate(self._times):
            day = ts // DAY_NS
            start = parts.pop()[1] if parts and parts[-1][0] == day else at
            parts.append((day, start, at + 1))
        return parts

    def arrow(self, symbols: Symbols, start: int, end: int) -> pa.RecordBatch:
        """Returns rows `start` to `end` as columns."""
        return pa.RecordBatch.from_pylist(self._rows[start:end], schema=self.SCHEMA)

    def clear(self) -> None:
        """Removes all rows."""
        self._rows, self._times, self.nbytes = [], [], 0

    def _row(self, blob: Blob) -> dict[str, object]:
        head, context = blob.context[: self._marker.itemsize], blob.context
        row: dict[str, object] = {"sequence": 0}
        if len(head) == self._marker.itemsize and head[1] == _core.kind_of("dead"):
            marker = np.frombuffer(head, dtype=self._marker)[0]
            context = blob.context[len(head) :]
            reason = int(marker["cause"])
            row["reason"] = self._reasons[reason] if reason < len(self._reasons) else str(reason)
            row["byte"], row["raw_offset"] = int(marker["last"]), int(marker["first"])
        kind = self.FRAME_KINDS.get(blob.kind, str(blob.kind)) if blob.kind else None
        microseconds, rest = divmod(blob.ts_recv, 1_000)
        return row | {
            "ts_event": microseconds,
            "ts_event_ns": rest,
            "ts_recv": microseconds,
            "ts_recv_ns": rest,
            "frame": blob.body if blob.kind else None,
            "context": context.decode("utf-8", "replace") or None,
            "frame_kind": kind,
            "connection": blob.connection,
            "flags": blob.flags & 0xFF,
            "tape_offset": blob.offset,
        }
