"""Iceberg tables of the lake: their schema, how they evolve, and commits that say what they cover.

A commit adds and removes whole files in one step, and its snapshot says up to which place of which
tape each source is in the table. It holds only if nobody committed since the table was read.
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError, RESTError, TableAlreadyExistsError
from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.sorting import NullOrder, SortField, SortOrder
from pyiceberg.transforms import DayTransform, HourTransform, IdentityTransform, Transform
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)
from sqlalchemy.exc import SQLAlchemyError

from tapeworks.durable import make_folder, sync_folder
from tapeworks.errors import ConfigError
from tapeworks.jobs.iceberg.catalogs import make_catalog
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.place import check_free, check_own, write_hint
from tapeworks.lake import Table, column_of, empty_rows, plain_type
from tapeworks.published import PLACE_KEY, Coverage, Store
from tapeworks.time_columns import REST
from tapeworks.views.columns import describe
from tapeworks.views.iceberg import io_properties

VENUE = "venue"
ELEMENTS = 10_000
# Numbers that take all of 64 bits, as hashes of books do; the others of 64 bits are below 2^63.
HASHES = frozenset({("book_markers", "first"), ("book_markers", "last")})
HASH = DecimalType(20, 0)
# By this order all rows of a file stand. What names symbols itself is in the order of time alone.
ORDER = ("symbol", "{time}", "{time}" + REST, "tape_offset")
CUTS: dict[str, Transform[Any, Any]] = {"day": DayTransform(), "hour": HourTransform()}
PROPERTIES = {
    # A commit that another one came before is planned anew: what is published may be there by then.
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
    "write.parquet.compression-codec": "zstd",
}


class _SyncedFile(io.BufferedWriter):
    """A new local file that survives a loss of power once it is closed."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        super().__init__(io.FileIO(path, "wb"))

    def close(self) -> None:
        """Makes content and name durable."""
        if not self.closed:
            self.flush()
            os.fsync(self.fileno())
            super().close()
            sync_folder(self._folder)


class _DurableFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        """Opens the file for writing."""
        path = Path(self._path)
        make_folder(path.parent)
        if not overwrite and path.exists():
            raise FileExistsError(f"cannot create {path}: it is there")
        return _SyncedFile(path)


class DurableFileIO(PyArrowFileIO):
    """Reads and writes as pyiceberg does; local metadata is on the disk before it is named."""

    def new_output(self, location: str) -> PyArrowFile:
        """Returns what writes a file."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _DurableFile(location, path, self.fs_by_scheme(scheme, netloc))


def open_catalog(config: IcebergConfig, store: Store, folder: Path) -> Catalog:
    """Opens the catalog that the settings name.

    Raises:
        ConfigError: the settings are wrong, or a driver is missing.
        OSError and others of pyiceberg: it does not answer.
    """
    uri = config.catalog
    if not uri:
        make_folder(folder)
        uri = f"sqlite:///{(folder / 'catalog.db').absolute()}"
    if uri.startswith("postgresql://"):
        uri = uri.replace("postgresql://", "postgresql+psycopg://", 1)
    properties = {
        **io_properties(),
        "warehouse": store.location,
        "py-io-impl": f"{__name__}.DurableFileIO",
    }
    try:
        return make_catalog(config, uri, properties)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"catalog: {error.name} is not installed: pip install 'tapeworks[iceberg,postgres]'"
        ) from None
    except ValueError as error:
        raise ConfigError(f"catalog: {error}") from None


def open_table(
    catalog: Catalog, namespace: str, store: Store, table: Table, partition: str
) -> IcebergTable:
    """Opens the table of `table`; makes it where there is none, and adds columns that it lacks.

    Raises:
        ConfigError: its columns do not fit, it is not cut by `partition`, or its place holds a
            table of another catalog.
    """
    name = (namespace, table.name)
    try:
        found = catalog.load_table(name)
        check_own(store, found)
    except NoSuchTableError:
        found = _create(catalog, name, store, table, partition)
    _check_cut(found, partition)
    return _evolved(found, table)


def _check_cut(found: IcebergTable, partition: str) -> None:
    """Refuses a table that is cut otherwise: readers and the job go by one kind of partition."""
    cut = [str(one.transform) for one in found.spec().fields if str(one.transform) in CUTS]
    if cut != [partition]:
        raise ConfigError(
            f"{'.'.join(found.name())}: expected partitions by {partition}, as `partition` says, "
            f"got {' and '.join(cut) or 'none'}: say so in the settings, or publish to tables of "
            "their own (`namespace`)"
        )


def _create(
    catalog: Catalog, name: tuple[str, str], store: Store, table: Table, partition: str
) -> IcebergTable:
    fields = fields_of(table)
    schema = Schema(*(NestedField(at, *one) for at, one in enumerate(fields, 1)))
    ids = {one.name: one.field_id for one in schema.fields}
    time = column_of(table, "ts_event")
    spec = PartitionSpec(
        PartitionField(ids[VENUE], 1000, IdentityTransform(), VENUE),
        PartitionField(ids[time], 1001, CUTS[partition], f"{time}_{partition}"),
    )
    wanted = [one.format(time=time) for one in ORDER]
    order = SortOrder(
        *(
            SortField(ids[one], IdentityTransform(), null_order=NullOrder.NULLS_FIRST)
            for one in wanted
        )
    )
    check_free(store, "/".join(name))
    _make_namespace(catalog, name[0])
    try:
        made = catalog.create_table(
            name,
            schema,
            location=f"{store.location}/{'/'.join(name)}",
            partition_spec=spec,
            sort_order=order,
            properties=PROPERTIES,
        )
    except TableAlreadyExistsError:
        made = catalog.load_table(name)
    # From here on the place is taken.
    write_hint(store, made)
    return made


def _make_namespace(catalog: Catalog, name: str) -> None:
    try:
        catalog.create_namespace_if_not_exists(name)
    except (RESTError, SQLAlchemyError):
        # Another process may have made it at the same time.
        if not catalog.namespace_exists(name):
            raise


def is_sorted(table: Table) -> bool:
    """Whether all files of `table` stand in `ORDER`: of those whose records name their symbol
    themselves, only merged ones do."""
    dictionary = empty_rows(table).schema.field("symbol").type
    return bool(pa.types.is_dictionary(dictionary))


def _evolved(found: IcebergTable, table: Table) -> IcebergTable:
    """Adds the columns that `found` lacks, and widens those that became wider."""
    have = {one.name: one.field_type for one in found.schema().fields}
    wanted = fields_of(table)
    added = [one for one in wanted if one[0] not in have]
    wider = [
        one for one in wanted if one[0] in have and is_wider(plain(one[1]), plain(have[one[0]]))
    ]
    for name, kind, _, _ in wanted:
        if name in have and plain(kind) != plain(have[name]) and not _is_promoted(have[name], kind):
            raise ConfigError(
                f"{'.'.join(found.name())}: expected {name} to be {kind}, got {have[name]}: this "
                "version of Tapeworks needs tables of its own (`namespace`)"
            )
    if added or wider:
        with found.update_schema() as update:
            for name, kind, _, doc in added:
                update.add_column(name, kind, doc)
            for name, kind, _, _ in wider:
                update.update_column(name, kind)
    return found


def plain(kind: IcebergType) -> str:
    """Returns a type as text, whatever the id of an element is."""
    return f"list<{kind.element_type}>" if isinstance(kind, ListType) else str(kind)


def is_wider(kind: str, other: str) -> bool:
    """Whether a column of `other` may become one of `kind` by Iceberg's rules."""
    return (other, kind) in (("int", "long"), ("float", "double"))


def _is_promoted(have: IcebergType, wanted: IcebergType) -> bool:
    """Whether values of `wanted` fit into a column of `have`, or the column may be widened."""
    one, two = plain(have), plain(wanted)
    return is_wider(one, two) or is_wider(two, one)


def fields_of(table: Table) -> list[tuple[str, IcebergType, bool, str]]:
    """Returns name, type, whether it is required, and meaning of the columns of `table`.

    The catalog gives columns ids of its own; until then an element of a list has one that no
    column has.
    """
    found = [
        (one.name, _type_of(table, one, ELEMENTS + at), False, _meaning(table, one.name))
        for at, one in enumerate(empty_rows(table).schema)
    ]
    return [*found, (VENUE, StringType(), False, "the source, such as binance-spot")]


def _meaning(table: Table, column: str) -> str:
    return "nanoseconds, 0 to 999" if column.endswith(REST) else describe(table, column).meaning


def _type_of(table: Table, column: pa.Field, element_id: int) -> IcebergType:
    if (table.name, column.name) in HASHES:
        return HASH
    return iceberg_type(column.type, element_id)


def iceberg_type(kind: pa.DataType, element_id: int) -> IcebergType:
    """Returns the type of a column: integers as wide as all their values need.

    Raises:
        ConfigError: Iceberg has none.
    """
    kind = plain_type(kind)
    if pa.types.is_list(kind):
        element = iceberg_type(kind.value_type, element_id)
        return ListType(element_id=element_id, element=element, element_required=False)
    if pa.types.is_decimal(kind):
        return DecimalType(kind.precision, kind.scale)
    if pa.types.is_integer(kind):
        is_small = kind.bit_width < 32 or kind == pa.int32()
        return IntegerType() if is_small else LongType()
    if kind == pa.timestamp("us", "UTC"):
        return TimestamptzType()
    plain_types: dict[Any, IcebergType] = {
        pa.string(): StringType(),
        pa.binary(): BinaryType(),
        pa.float64(): DoubleType(),
    }
    if kind not in plain_types:
        raise ConfigError(f"expected a type that Iceberg has, got {kind}")
    return plain_types[kind]


def commit(
    table: IcebergTable,
    added: Iterable[DataFile],
    removed: Iterable[DataFile],
    covers: dict[str, Coverage],
) -> None:
    """Adds and removes files in one step, with what the table covers from then on.

    Raises:
        CommitFailedException: another commit came first: read the table again.
    """
    properties = {PLACE_KEY + source: one.to_json() for source, one in covers.items()}
    removed = list(removed)
    with table.transaction() as transaction:
        update = transaction.update_snapshot(snapshot_properties=properties)
        with update.overwrite() if removed else update.merge_append() as files:
            for one in removed:
                files.delete_data_file(one)
            for one in added:
                files.append_data_file(one)
