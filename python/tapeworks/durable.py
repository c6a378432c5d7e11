"""Files that are replaced in one step, names that survive a loss of power, and those in a folder.

A reader finds the old content or the new one, never a part: the new one is written beside the old,
and renamed over it. Where that fails, the old one stands, and nothing is left beside it.
"""

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Replaces `path` by `content` in one atomic step, which is durable with `sync`.

    Raises:
        OSError: the old content stands; only a failed sync of the folder leaves the new one.
    """
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(path.name + ".new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def names_in(folder: Path) -> list[str]:
    """Returns the names in a folder, sorted; none if there is no such folder.

    Raises:
        OSError: it is there and cannot be read. `glob` would say that it is empty.
    """
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, as names that survive a loss of power."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
