"""What was published and is not in the lake any more: it is not replaced by less.

The lake may lose what a table holds: files that were removed from the local disk, and a rebuild of
what the tape still has. A published file has all rows of its table and day between two offsets, and
rows never change; so it may go if the lake holds as many rows there.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tapeworks import lake
from tapeworks.errors import LakeError
from tapeworks.jobs.iceberg.hours import BATCH_ROWS, hours_of
from tapeworks.lake import Table, column_of
from tapeworks.published import PublishedFile

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """What stays of a day, as the lake lost some of its rows."""

    published: frozenset[PublishedFile] = frozenset()
    """Files of the table that stay."""
    held_back: frozenset[PublishedFile] = frozenset()
    """Files of the lake that cannot be published beside them: some rows would be there twice."""
    lost: int = 0
    """Rows of the table that the lake has not."""
    waiting: int = 0
    """Rows of the lake that are held back and not in the table."""


def keep_lost(
    gone: Collection[PublishedFile],
    rows: Mapping[PublishedFile, int],
    there: Mapping[PublishedFile, Path],
    lacking: Collection[PublishedFile],
    table: Table,
    *,
    by_hour: bool,
) -> Kept:
    """Returns which of the files that are `gone` from the lake stay in the table.

    `rows` are those of each published file, `there` the files of the lake, of which `lacking` are
    not in the table.

    Raises:
        LakeError: a file of the lake cannot be read.
        FileNotFoundError: it was merged away.
    """
    files = sorted(gone, key=lambda one: (one.first, one.hour))
    held = {
        one: _count(path, files, table, by_hour=by_hour)
        for one, path in there.items()
        if any(_overlap(one, other) for other in files)
    }
    sums = sum((found for found, _ in held.values()), np.zeros(len(files), np.int64))
    missing = [max(0, rows[one] - int(held)) for one, held in zip(files, sums, strict=True)]
    kept = {one for one, count in zip(files, missing, strict=True) if count}
    while True:
        back = {one for one in lacking if any(_overlap(one, other) for other in kept)}
        more = {one for one in files if any(_overlap(one, other) for other in back)} - kept
        if not more:
            break
        kept |= more
    is_kept = np.array([one in kept for one in files], bool)
    waiting = sum(held[one][1] - int(held[one][0][is_kept].sum()) for one in back)
    return Kept(frozenset(kept), frozenset(back), sum(missing), waiting)


def _overlap(one: PublishedFile, other: PublishedFile) -> bool:
    return one.first <= other.last and other.first <= one.last


def _count(
    path: Path, files: list[PublishedFile], table: Table, *, by_hour: bool
) -> tuple[Counts, int]:
    """Returns how many rows a file of the lake has in the range of each of `files`, and in all."""
    first = np.array([one.first for one in files])
    last = np.array([one.last for one in files])
    hours = np.array([int(one.hour or -1) for one in files])
    time = column_of(table, "ts_event")
    found, rows = np.zeros(len(files), np.int64), 0
    try:
        with pq.ParquetFile(path) as opened:
            columns = ["tape_offset", time] if by_hour else ["tape_offset"]
            for batch in opened.iter_batches(BATCH_ROWS, columns=columns):
                rows += batch.num_rows
                offsets = batch.column("tape_offset").to_numpy()
                if not by_hour:
                    found += _between(offsets, first, last)
                    continue
                of = hours_of(batch.column(time))
                for hour in np.unique(of):
                    found += np.where(hours == hour, _between(offsets[of == hour], first, last), 0)
    except FileNotFoundError:
        raise
    except lake.PARQUET_ERRORS as error:
        raise LakeError(f"{path} is damaged: {error}: see `tape lake verify`") from error
    return found, rows


def _between(offsets: npt.NDArray[np.int64], first: Counts, last: Counts) -> Counts:
    """Returns how many of `offsets` are within each range, both ends included."""
    ordered = np.sort(offsets)
    found: Counts = np.searchsorted(ordered, last, "right") - np.searchsorted(ordered, first)
    return found
