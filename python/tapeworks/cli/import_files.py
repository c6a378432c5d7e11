"""Which files an import reads: those of the disk, and objects of S3, each fetched in its turn."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn

from tapeworks.cli.progress import LongProgress
from tapeworks.feeds.objects import ObjectStore
from tapeworks.object_store import is_object

INCOMING = "incoming"
"""The folder of objects on their way in, within the data folder."""


class Part:
    """Files of the disk that are imported together, or one object."""

    def __init__(self, names: Sequence[str], store: ObjectStore | None = None) -> None:
        self.names = names
        self._store = store

    @property
    def is_here(self) -> bool:
        """Whether nothing is to be fetched."""
        return self._store is None

    @contextlib.contextmanager
    def present(self, folder: Path) -> Iterator[list[Path]]:
        """Gives the paths of its files; a copy of an object is removed once it was imported.

        An import that ends before that leaves the copy: the next one need not fetch it again.
        """
        if self._store is None:
            yield [Path(name) for name in self.names]
            return
        [name] = self.names
        path = self._fetch(name, folder)
        yield [path]
        path.unlink()
        for parent in path.parents:
            if parent == folder.parents[1]:
                break
            try:
                parent.rmdir()
            except OSError:
                break

    def _fetch(self, name: str, folder: Path) -> Path:
        assert self._store is not None
        with LongProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        ) as progress:
            task = progress.add_task(f"fetching {name.rpartition('/')[2]}", total=None)
            return self._store.fetch(
                name, folder, lambda done, size: progress.update(task, completed=done, total=size)
            )


def parts_of(names: Sequence[str], endpoint: str) -> list[Part]:
    """Returns the parts of an import in the order of `names`; prefixes become their objects.

    Raises:
        ConfigError: an address has no object.
        FeedError: the object store is not reached, or refuses.
    """
    parts: list[Part] = []
    store: ObjectStore | None = None
    files: list[str] = []
    for name in names:
        if not is_object(name):
            files.append(name)
            continue
        if files:
            parts.append(Part(files))
            files = []
        store = store or ObjectStore(endpoint)
        parts += [Part([found], store) for found in store.names(name)]
    return [*parts, Part(files)] if files else parts
