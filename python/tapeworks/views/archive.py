"""Records as the tape held them, read back from the lake after retention took them.

The lake holds every field of a record, or what it follows from: a row becomes the same bytes again.
Records come by offset, as on the tape; memory is bounded by one window of offsets, whatever the
range. Row groups that their statistics rule out are not read.
"""

import bisect
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core, lake
from tapeworks._core import NONE, Records, numbers
from tapeworks.errors import LakeError, QueryError
from tapeworks.lake import LakeFile, Table
from tapeworks.time_columns import REST, is_split_time
from tapeworks.views.tail import SourceTail

ATTEMPTS = 5
GROUPS_HELD = 256
# Loaded when the lake is read for it: who asks the tape alone need not wait.
PARQUET, COMPUTE = "pyarrow.parquet", "pyarrow.compute"
COUNT_UNKNOWN = 0xFFFF_FFFF
GAP = numbers("marker_code")["gap"]

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Wanted:
    """What is asked of an archive; none means all. `end` is exclusive, and of `ts_recv`."""

    symbols: Sequence[str] | None = None
    start: int | None = None
    end: int | None = None


class _Groups:
    """The row groups of one file: what their statistics say of each."""

    def __init__(self, file: LakeFile) -> None:
        try:
            self.metadata = importlib.import_module(PARQUET).read_metadata(file.path)
        except FileNotFoundError:
            raise
        except lake.PARQUET_ERRORS as error:
            raise LakeError(f"{file.path} is damaged: {error}; see `tape lake verify`") from error
        columns = range(self.metadata.num_columns)
        places = {self.metadata.schema.column(at).path: at for at in columns}
        groups = [self.metadata.row_group(at) for at in range(self.metadata.num_row_groups)]
        self._bounds = {
            name: [
                _bounds(group.column(places[name]).statistics) if name in places else None
                for group in groups
            ]
            for name in ("symbol", "tape_offset")
        }
        schema = self.metadata.schema.to_arrow_schema()
        for name in ("ts_event", "ts_recv"):
            self._bounds[name] = [
                _time_bounds(group.column(places[name]).statistics, schema.field(name).type)
                if name in places
                else None
                for group in groups
            ]

    def choose(self, wanted: Wanted, first: int, end: int) -> list[int]:
        """Returns the row groups that may hold what is wanted of offsets `first` to `end`."""
        offsets, times = self._bounds["tape_offset"], self._bounds["ts_recv"]
        last = None if wanted.end is None else wanted.end - 1
        return [
            at
            for at in range(self.metadata.num_row_groups)
            if _touches(offsets[at], first, end - 1)
            and _touches(times[at], wanted.start, last)
            and self._may_hold(at, wanted.symbols)
        ]

    def latest(self, name: str) -> int | None:
        """Returns the greatest value of a column; none if that is not known."""
        found = [bounds[1] for bounds in self._bounds[name] if bounds is not None]
        return max(found, default=None)

    def earliest(self, name: str) -> int | None:
        """Returns the least value of a column; none if that is not known."""
        found = [bounds[0] for bounds in self._bounds[name] if bounds is not None]
        return min(found, default=None)

    def _may_hold(self, at: int, symbols: Sequence[str] | None) -> bool:
        bounds = self._bounds["symbol"][at]
        if symbols is None or bounds is None:
            return True
        return any(bounds[0] <= symbol <= bounds[1] for symbol in symbols)


class Archive:
    """The records of one source in the lake, by topic and offset."""

    def __init__(self, tail: SourceTail) -> None:
        self._tail = tail
        self._groups: dict[Path, _Groups] = {}

    def read(self, tables: Sequence[Table], wanted: Wanted, first: int, end: int) -> Records:
        """Returns the records of offsets `first` to `end`, in their order."""
        for attempt in range(ATTEMPTS):
            try:
                parts = [
                    part
                    for table in tables
                    for part in self._parts(table, wanted, first, end, self.files(table))
                ]
                return Records.from_bytes(_in_order(parts), first, end)
            except FileNotFoundError as error:
                # Compaction removed a file between listing and reading it: list again.
                if attempt + 1 == ATTEMPTS:
                    raise QueryError(f"the lake cannot be read: {error}") from error
        raise AssertionError("unreachable")

    def rows(self, table: Table, file: LakeFile, wanted: Wanted) -> tuple[Numbers, Numbers]:
        """Returns the wanted records of one file and their offsets, in the order of the file."""
        parts = list(self._parts(table, wanted, file.first, file.last + 1, [file]))
        if not parts:
            return np.zeros(0, dtype=_core.dtype_descr(table.kind)), np.zeros(0, dtype=np.int64)
        records, offsets = zip(*parts, strict=True)
        return np.concatenate(records), np.concatenate(offsets)

    def files(self, table: Table) -> list[LakeFile]:
        """Returns the files of a table, by offset."""
        found, _ = self._tail.files(table)
        return sorted(found, key=lambda file: (file.first, file.last))

    def bounds(self, tables: Sequence[Table], start: int | None, end: int | None) -> "range":
        """Returns offsets outside of which nothing was received from `start` up to `end`."""
        firsts, ends = [], []
        for table in tables:
            files = self.files(table)
            # Ranges of files overlap where rows came late: receive times rise with the end of a
            # range at its one side, and with its begin at the other.
            if end is not None:
                files = files[: bisect.bisect_left(files, end, key=self._earliest)]
            if start is not None:
                files.sort(key=lambda file: (file.last, file.first))
                files = files[bisect.bisect_left(files, start, key=self._latest) :]
            if files:
                firsts.append(min(file.first for file in files))
                ends.append(max(file.last for file in files) + 1)
        return range(min(firsts, default=0), max(ends, default=0))

    def groups(self, file: LakeFile) -> _Groups:
        """Returns what is known of the row groups of `file`."""
        found = self._groups.get(file.path)
        if found is None:
            if len(self._groups) >= GROUPS_HELD:
                self._groups.clear()
            found = self._groups[file.path] = _Groups(file)
        return found

    def records(self, table: Table, rows: pa.Table) -> Numbers:
        """Returns the records that rows of a table were made of, also of an answer to SQL."""
        layout = table.kind
        out = np.zeros(rows.num_rows, dtype=_core.dtype_descr(layout))
        out["length"], out["kind"] = out.dtype.itemsize // 8, lake.kind_of(table)
        if layout == "gap":
            out["code"] = GAP
        names = _core.field_names(layout)
        fields = set(out.dtype.names or ())
        renames = {later: name for name, later in table.renames}
        for column in rows.column_names:
            field = renames.get(column, column)
            values = rows[column]
            if is_split_time(rows.schema, column):
                out[field] = _times(rows, column)
            elif field in names:
                out[field] = _codes(values, names[field])
            elif field in fields:
                out[field] = _numbers(values)
            elif f"{field}_low" in fields:
                halves = _halves(values)
                out[f"{field}_low"], out[f"{field}_high"] = halves[:, 0], halves[:, 1]
        if "symbol" not in fields:
            self._name(out, rows["symbol"])
        return out

    def _latest(self, file: LakeFile) -> int:
        latest = self.groups(file).latest("ts_recv")
        return NONE if latest is None else latest

    def _earliest(self, file: LakeFile) -> int:
        earliest = self.groups(file).earliest("ts_recv")
        return -NONE if earliest is None else earliest

    def _parts(
        self, table: Table, wanted: Wanted, first: int, end: int, files: list[LakeFile]
    ) -> Iterator[tuple[Numbers, Numbers]]:
        for file in files:
            if file.last < first or file.first >= end:
                continue
            groups = self.groups(file)
            chosen = groups.choose(wanted, first, end)
            if not chosen:
                continue
            for at in chosen:
                rows = _choose(_read_group(file, groups, at), wanted, first, end)
                if rows.num_rows:
                    yield self.records(table, rows), _numbers(rows["tape_offset"])

    def _name(self, out: Numbers, symbols: pa.ChunkedArray) -> None:
        """Fills in instruments and feeds by symbol; of several of one symbol the one valid then."""
        known = self._tail.symbols().records().numpy("definition")
        definitions = np.frombuffer(known, dtype=_core.dtype_descr("definition"))
        definitions = definitions[np.argsort(definitions["valid_from"], kind="stable")]
        if len(definitions):
            out["feed"] = definitions["feed"][0]
        encoded = symbols.combine_chunks()
        if not pa.types.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for code in np.unique(codes[codes >= 0]):
            symbol = encoded.dictionary[int(code)].as_py().encode()
            rows = codes == code
            for at, definition in enumerate(definitions[definitions["symbol"] == symbol]):
                valid = rows if at == 0 else rows & (out["ts_event"] >= definition["valid_from"])
                out["instrument"][valid] = definition["instrument"]
                out["feed"][valid] = definition["feed"]


def _read_group(file: LakeFile, groups: _Groups, at: int) -> pa.Table:
    """Reads a row group; every page is compared with its checksum.

    The checksum covers no head of a page: codes that a damaged one leads astray are an error too.
    """
    parquet = importlib.import_module(PARQUET)
    options = {"metadata": groups.metadata, "page_checksum_verification": True}
    try:
        with parquet.ParquetFile(file.path, **options) as opened:
            rows = opened.read_row_group(at, use_threads=False)
            for column in rows.columns:
                if pa.types.is_dictionary(column.type):
                    column.validate(full=True)
            return rows
    except FileNotFoundError:
        raise
    except lake.PARQUET_ERRORS as error:
        raise LakeError(f"{file.path} is damaged: {error}; see `tape lake verify`") from error


def _bounds(statistics: Any) -> tuple[Any, Any] | None:
    if statistics is None or not statistics.has_min_max:
        return None
    low, high = statistics.min_raw, statistics.max_raw
    return (low.decode(), high.decode()) if isinstance(low, bytes) else (low, high)


def _time_bounds(statistics: Any, kind: pa.DataType) -> tuple[int, int] | None:
    """Returns the bounds of a time in ns; the nanoseconds of a microsecond may be any."""
    bounds = _bounds(statistics)
    if bounds is None or kind.unit == "ns":
        return bounds
    return bounds[0] * 1_000, bounds[1] * 1_000 + 999


def _touches(bounds: tuple[Any, Any] | None, low: int | None, high: int | None) -> bool:
    if bounds is None:
        return True
    return (high is None or bounds[0] <= high) and (low is None or bounds[1] >= low)


def _choose(rows: pa.Table, wanted: Wanted, first: int, end: int) -> pa.Table:
    offsets = _numbers(rows["tape_offset"])
    keep = (offsets >= first) & (offsets < end)
    if wanted.start is not None or wanted.end is not None:
        received = _times(rows, "ts_recv" if "ts_recv" in rows.column_names else "ts_detected")
        keep &= received >= (-NONE if wanted.start is None else wanted.start)
        keep &= received < (NONE if wanted.end is None else wanted.end)
    if wanted.symbols is not None:
        compute, names = importlib.import_module(COMPUTE), rows["symbol"]
        found = compute.is_in(
            names.cast(pa.string()), value_set=pa.array(wanted.symbols, pa.string())
        )
        # Records of no instrument concern all.
        keep &= compute.or_(found, names.is_null()).to_numpy()
    return rows if keep.all() else rows.filter(pa.array(keep))


def _times(rows: pa.Table, name: str) -> Numbers:
    """Returns a time of each row in ns, as the record holds it."""
    values = _numbers(rows[name])
    if not is_split_time(rows.schema, name):
        return values
    whole = values * 1_000 + np.asarray(rows[name + REST].fill_null(0))
    # Times far outside of what fits are absent ones.
    return np.where(rows[name].is_null().to_numpy(), NONE, whole)


def _numbers(column: pa.ChunkedArray) -> Numbers:
    """Returns the values of a column as the record holds them; nulls as it writes them."""
    kind = column.type
    if pa.types.is_decimal(kind):
        values = _halves(column)[:, 0].astype(np.int64)
        absent = column.is_null().to_numpy()
        return np.where(absent, NONE, values) if absent.any() else values
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.int64()).fill_null(NONE))
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return np.array([(text or "").encode() for text in column.to_pylist()], dtype=np.bytes_)
    if pa.types.is_floating(kind):
        return np.asarray(column.fill_null(np.nan) if column.null_count else column)
    return np.asarray(column.fill_null(COUNT_UNKNOWN) if column.null_count else column)


def _halves(column: pa.ChunkedArray) -> Numbers:
    """Returns the low and high 64 bits of decimals."""
    values = column.combine_chunks()
    words = np.frombuffer(values.buffers()[1], dtype="<u8").reshape(-1, 2)
    return words[values.offset : values.offset + len(values)]


def _codes(column: pa.ChunkedArray, names: list[str]) -> Numbers:
    """Returns the numbers that stand for the names in a column; 0 for nulls."""
    compute = importlib.import_module(COMPUTE)
    found = compute.index_in(column.cast(pa.string()), value_set=pa.array(names))
    return np.asarray(found.fill_null(0))


def _in_order(parts: list[tuple[Numbers, Numbers]]) -> bytes:
    """Puts records of several layouts back to back by offset."""
    if not parts:
        return b""
    offsets = np.concatenate([offsets for _, offsets in parts])
    widths = np.concatenate([np.full(len(o), r.dtype.itemsize // 64) for r, o in parts])
    order = np.argsort(offsets, kind="stable")
    starts = np.empty(len(order), dtype=np.int64)
    starts[order] = np.cumsum(widths[order]) - widths[order]
    out = np.empty((int(widths.sum()), 8), dtype="<u8")
    row = 0
    for records, _ in parts:
        blocks = records.view("<u8").reshape(len(records), -1, 8)
        at = starts[row : row + len(records)]
        for block in range(blocks.shape[1]):
            out[at + block] = blocks[:, block]
        row += len(records)
    return out.tobytes()
