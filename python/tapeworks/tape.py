"""The spine: append-only tapes, each a folder, written by one process and read by any number.

All work is done in the native module; here are its public names, and what is only convenience.
"""

from os import PathLike

from tapeworks._core import (
    Blob,
    TapeReader,
    TapeWriter,
    list_offsets,
    load_offset,
    save_offset,
    tape_hash,
    verify,
)

__all__ = [
    "Blob",
    "TapeReader",
    "TapeWriter",
    "list_offsets",
    "load_offset",
    "open_at",
    "save_offset",
    "tape_hash",
    "verify",
]


def open_at(path: str | PathLike[str], name: str) -> TapeReader:
    """Opens the tape where the reader called `name` last saved its offset, else at its start.

    Raises:
        TapeRangeError: retention took what that reader has not read yet.
    """
    return TapeReader(path, load_offset(path, name))
