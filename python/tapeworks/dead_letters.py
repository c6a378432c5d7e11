"""Dead letters as rows: frames that could not be decoded, with their bytes and why.

The core copies each such frame to its own tape. What is there outlives the raw tape; here it takes
the shape that the lake stores and views show.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Blob
from tapeworks.blob_rows import BlobRows, time_columns


class DeadLetterRows(BlobRows):
    """Dead letters gathered from their tape.

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

    def __init__(self) -> None:
        super().__init__()
        self._marker = np.dtype(_core.dtype_descr("dead"))
        self._reasons = _core.field_names("dead")["cause"]

    def _row(self, blob: Blob) -> tuple[int, dict[str, object]]:
        head, context = blob.context[: self._marker.itemsize], blob.context
        row: dict[str, object] = {"sequence": 0}
        if len(head) == self._marker.itemsize and head[1] == _core.kind_of("dead"):
            marker = np.frombuffer(head, dtype=self._marker)[0]
            context = blob.context[len(head) :]
            reason = int(marker["cause"])
            row["reason"] = self._reasons[reason] if reason < len(self._reasons) else str(reason)
            row["byte"], row["raw_offset"] = int(marker["last"]), int(marker["first"])
        kind = self.FRAME_KINDS.get(blob.kind, str(blob.kind)) if blob.kind else None
        times = time_columns("ts_event", blob.ts_recv) | time_columns("ts_recv", blob.ts_recv)
        return blob.ts_recv, {
            **row,
            **times,
            "frame": blob.body if blob.kind else None,
            "context": context.decode("utf-8", "replace") or None,
            "frame_kind": kind,
            "connection": blob.connection,
            "flags": blob.flags & 0xFF,
            "tape_offset": blob.offset,
        }
