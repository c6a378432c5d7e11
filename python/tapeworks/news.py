"""News as rows: what venues told of stories, in the one form that the core gives them."""

import msgspec
import numpy as np
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Blob
from tapeworks.blob_rows import BlobRows, time_columns


class _Story(msgspec.Struct):
    """The body of a blob of the tape of news."""

    id: str
    raw: msgspec.Raw
    headline: str | None = None
    summary: str | None = None
    author: str | None = None
    source: str | None = None
    url: str | None = None
    symbols: list[str] = []


_STORY = msgspec.json.Decoder(_Story)


class NewsRows(BlobRows):
    """Stories gathered from their tape.

    The context of such a blob is the marker of the story. One without a kind has no text: retention
    took its frame before the story could be copied.
    """

    SCHEMA = pa.schema(
        [
            ("symbol", pa.dictionary(pa.int32(), pa.string())),
            ("ts_event", pa.timestamp("us", "UTC")),
            ("ts_event_ns", pa.int16()),
            ("ts_recv", pa.timestamp("us", "UTC")),
            ("ts_recv_ns", pa.int16()),
            ("ts_updated", pa.timestamp("us", "UTC")),
            ("ts_updated_ns", pa.int16()),
            ("id", pa.string()),
            ("symbols", pa.list_(pa.string())),
            ("headline", pa.string()),
            ("summary", pa.string()),
            ("author", pa.string()),
            ("source", pa.string()),
            ("url", pa.string()),
            ("raw", pa.string()),
            ("raw_offset", pa.uint64()),
            ("sequence", pa.uint64()),
            ("flags", pa.uint8()),
            ("tape_offset", pa.uint64()),
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self._marker = np.dtype(_core.dtype_descr("news"))

    def _row(self, blob: Blob) -> tuple[int, dict[str, object]]:
        marker = np.frombuffer(blob.context, dtype=self._marker, count=1)[0]
        made = int(marker["ts_event"])
        row: dict[str, object] = {
            **time_columns("ts_event", made),
            **time_columns("ts_recv", blob.ts_recv),
            **time_columns("ts_updated", int(marker["ts_start"])),
            "raw_offset": int(marker["first"]),
            "sequence": int(marker["sequence"]),
            "flags": blob.flags & 0xFF,
            "tape_offset": blob.offset,
        }
        if blob.kind:
            story = _STORY.decode(blob.body)
            row |= {name: getattr(story, name) for name in _Story.__struct_fields__}
            row["headline"] = story.headline or ""
            row["raw"] = bytes(story.raw).decode()
        return made, row
