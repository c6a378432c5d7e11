"""What a snapshot of a published table says: its files, and what it covers of each source.

Needs pyiceberg; whoever asks loads this file by its name.
"""

from dataclasses import dataclass, field
from functools import cached_property

from pyiceberg.exceptions import RESTError
from pyiceberg.manifest import DataFile
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy.exc import SQLAlchemyError

from tapeworks.errors import LakeError
from tapeworks.object_store import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, endpoint, region
from tapeworks.published import (
    HINT,
    METADATA_SUFFIX,
    Coverage,
    PublishedFile,
    Store,
    coverage_in,
)

UNAVAILABLE = (OSError, RESTError, SQLAlchemyError)
"""What pyiceberg raises where a store or a catalog does not answer, or refuses."""


@dataclass(frozen=True)
class TableState:
    """All of one table as of one snapshot."""

    files: dict[PublishedFile, DataFile] = field(default_factory=dict)
    covers: dict[str, Coverage] = field(default_factory=dict)

    @cached_property
    def days(self) -> dict[tuple[str, str], set[PublishedFile]]:
        """The files by source and day."""
        found: dict[tuple[str, str], set[PublishedFile]] = {}
        for one in self.files:
            found.setdefault((one.source, one.day), set()).add(one)
        return found


def io_properties() -> dict[str, str]:
    """Returns what pyiceberg has to know of the object store that the environment names."""
    found = {
        "s3.region": region(),
        "s3.connect-timeout": str(CONNECT_TIMEOUT_S),
        "s3.request-timeout": str(REQUEST_TIMEOUT_S),
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    return found | ({"s3.endpoint": endpoint()} if endpoint() else {})


def open_table(store: Store, folder: str) -> Table | None:
    """Opens the table in `folder` of `store` as its hint says, without a catalog; none: no table.

    Raises:
        OSError: the store cannot be read.
    """
    hint = store.read(f"{folder}/metadata/{HINT}")
    if hint is None:
        return None
    name = hint.decode().strip() + METADATA_SUFFIX
    return StaticTable.from_metadata(
        f"{store.location}/{folder}/metadata/{name}", properties=io_properties()
    )


def state_of(table: Table) -> TableState:
    """Reads the files of the current snapshot, and what it covers.

    Raises:
        LakeError: another program wrote to the table.
        OSError: the store cannot be read.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return TableState()
    files: dict[PublishedFile, DataFile] = {}
    for manifest in snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            published = PublishedFile.parse(entry.data_file.file_path)
            if published in files:
                raise LakeError(f"{table.name()}: {entry.data_file.file_path} is there twice")
            files[published] = entry.data_file
    return TableState(files, coverage_of(table, snapshot))


def coverage_of(table: Table, snapshot: Snapshot) -> dict[str, Coverage]:
    """Returns what a snapshot covers, by source: what it says, or else the one before it."""
    at: Snapshot | None = snapshot
    while at is not None:
        summary = {} if at.summary is None else at.summary.additional_properties
        if found := coverage_in(summary):
            return found
        parent = at.parent_snapshot_id
        at = None if parent is None else table.metadata.snapshot_by_id(parent)
    raise LakeError(
        f"{'.'.join(table.name())}: no snapshot says what of which tape it holds: it is no table "
        "that Tapeworks published"
    )
