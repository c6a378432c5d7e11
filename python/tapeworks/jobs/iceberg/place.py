"""Whose a place in the warehouse is: it holds one table, and one catalog knows that table.

The hint of a place names the metadata that counts there. Where it names what this catalog does not
know, another catalog published to the place, or this one was lost or restored from an older copy:
to write there would hide the table that is there, and upkeep would delete its files.
"""

from pyiceberg.table import Table as IcebergTable

from tapeworks.errors import ConfigError
from tapeworks.published import HINT, METADATA_SUFFIX, Store

FIRST = "00000-"
"""Begins the name of the metadata that a table is made with, and that holds no rows."""
ADVICE = (
    "another catalog published there, or this one was lost. Give both one catalog (`--catalog`), "
    "choose another warehouse (`--warehouse`), or register that metadata in this catalog: "
    'docs/stores/iceberg.md, "One warehouse, one catalog"'
)


def check_free(store: Store, folder: str) -> None:
    """Refuses to make a table in a folder of `store` that holds one already.

    Metadata without rows, which a process that was killed made, is no table.

    Raises:
        ConfigError: there is one.
    """
    found = _hinted(store, folder) or _newest(store, folder)
    if found:
        raise ConfigError(
            f"{store.address}/{folder}: expected no table, as this catalog knows none of this "
            f"name, got metadata/{found}: {ADVICE}"
        )


def is_own(store: Store, table: IcebergTable) -> bool:
    """Whether the hint of the place of `table` names metadata of it."""
    folder = store.path_of(table.location())
    return _hinted(store, folder) in _known(table)


def write_hint(store: Store, table: IcebergTable) -> None:
    """Says which metadata counts, for readers without a catalog, if that is not said yet.

    Raises:
        ConfigError: it names metadata of another table.
    """
    folder = store.path_of(table.location())
    said = check_own(store, table)
    name = table.metadata_location.rpartition("/")[2]
    if said != name:
        hint = name.removesuffix(METADATA_SUFFIX).encode()
        store.write(f"{folder}/metadata/{HINT}", [hint])


def check_own(store: Store, table: IcebergTable) -> str:
    """Returns the metadata that the hint names, which is of `table`; empty if there is none.

    Raises:
        ConfigError: it is of another table, or newer than this catalog is.
    """
    folder = store.path_of(table.location())
    said = _hinted(store, folder)
    if said and said not in _known(table):
        # Another process may have committed since the table was read.
        table.refresh()
    # What is deleted already, as the oldest metadata is, is nobody's.
    is_there = said and store.size(f"{folder}/metadata/{said}") is not None
    if is_there and said not in _known(table):
        raise ConfigError(
            f"{store.address}/{folder}: expected metadata that this catalog knows, got "
            f"metadata/{said}: {ADVICE}"
        )
    return said


def _known(table: IcebergTable) -> set[str]:
    """Returns the names of the metadata that the table has and had."""
    log = [one.metadata_file for one in table.metadata.metadata_log]
    return {path.rpartition("/")[2] for path in (table.metadata_location, *log)}


def _hinted(store: Store, folder: str) -> str:
    hint = store.read(f"{folder}/metadata/{HINT}")
    return "" if hint is None else hint.decode().strip() + METADATA_SUFFIX


def _newest(store: Store, folder: str) -> str:
    """Returns the newest metadata with rows; empty if there is none."""
    files = [path.rpartition("/")[2] for path, _ in store.files(f"{folder}/metadata")]
    found = [one for one in files if one.endswith(METADATA_SUFFIX) and not one.startswith(FIRST)]
    return max(found, default="")
