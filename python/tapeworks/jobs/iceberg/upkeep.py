"""What is done to a table so that it does not grow by its past: snapshots and files that are over.

A snapshot is forgotten after `snapshots_days`, the newest never. A file below the table that no
remaining snapshot names is deleted once it is `orphans_hours` old: what a reader or a publisher
may still be at is younger. Where the hint is not of this table, nothing is done: the files may be
those of another one.
"""

from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table as IcebergTable

from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.place import is_own
from tapeworks.published import HINT, Store


def run_upkeep(table: IcebergTable, store: Store, config: IcebergConfig) -> tuple[int, int]:
    """Forgets old snapshots and deletes orphans; returns how many of each.

    Raises:
        CommitFailedException: another process changed the table.
        OSError: the store does not answer.
    """
    now = datetime.now(UTC)
    if not is_own(store, table):
        return 0, 0
    return (
        _expire(table, now - timedelta(days=config.snapshots_days)),
        _delete_orphans(table, store, now - timedelta(hours=config.orphans_hours)),
    )


def _expire(table: IcebergTable, before: datetime) -> int:
    kept = {ref.snapshot_id for ref in table.metadata.refs.values()}
    old = [
        one.snapshot_id
        for one in table.metadata.snapshots
        if one.timestamp_ms < before.timestamp() * 1_000 and one.snapshot_id not in kept
    ]
    if old:
        table.maintenance.expire_snapshots().by_ids(old).commit()
        table.refresh()
    return len(old)


def _delete_orphans(table: IcebergTable, store: Store, before: datetime) -> int:
    folder = store.path_of(table.location())
    old = {path for path, written in store.files(folder) if written < before}
    old.discard(f"{folder}/metadata/{HINT}")
    orphans = old - _named(table, store, is_whole=False)
    if orphans:
        # Most files are named by the newest snapshot: the others are read where that is not so.
        orphans -= _named(table, store, is_whole=True)
    for path in sorted(orphans):
        store.delete(path)
    return len(orphans)


def _named(table: IcebergTable, store: Store, *, is_whole: bool) -> set[str]:
    """Returns the paths of all files that the newest snapshot names, or any that is left."""
    metadata = table.metadata
    found = {table.metadata_location, *(one.metadata_file for one in metadata.metadata_log)}
    current = table.current_snapshot()
    snapshots = metadata.snapshots if is_whole else [current] if current is not None else []
    read: set[str] = set()
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in read:
                continue
            read.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            found.update(entry.data_file.file_path for entry in entries)
    return {store.path_of(path) for path in found | read}
