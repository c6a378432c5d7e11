"""Reads a damaged raw tape past its damage: all frames that are whole, and which are not.

It reads a copy. Where a frame is damaged, the next whole one is looked for, and the bytes between
are made one frame of the copy that counts as read; what it holds is given up. So one flipped bit
costs the frame that it is in, and not what follows. `docs/formats/tape.md` draws the frames.
"""

import mmap
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapeworks.errors import CorruptTapeError, TapeError
from tapeworks.tape import Blob, TapeReader

# Length, checksum, first offset, input covered, count, zero, newest ts_recv.
FRAME = struct.Struct("<IIQQIIq")
CHECKSUM_AT = 4
NO_INPUT = 2**64 - 1
LENGTH_MAX = 1 << 30
BLOBS_AT_ONCE = 4096
# A frame that was looked for further on than so many items is none.
ITEMS_LOST_MAX = 1 << 32
POLYNOMIAL = 0x82F63B78


@dataclass(frozen=True)
class Hole:
    """Offsets of a tape that cannot be read."""

    first: int
    last: int


def read_whole_frames(raw: Path, copy: Path) -> Iterator[Blob | Hole]:
    """Yields all blobs of `raw` that can be read, and the holes between them; `copy` is for use."""
    # Links cost no room; a file is copied before anything in it is changed.
    ignore = shutil.ignore_patterns("offsets", "LOCK")
    shutil.copytree(raw, copy, ignore=ignore, copy_function=os.link)
    starts = sorted(_start(path) for path in copy.glob("*.seg*"))
    position, at_once = starts[0] if starts else 0, BLOBS_AT_ONCE
    while True:
        try:
            reader = TapeReader(copy)
            reader.seek(position)
            while blobs := reader.read_blobs(at_once):
                yield from blobs
                position = blobs[-1].offset + 1
            return
        except CorruptTapeError as error:
            if at_once > 1:
                # Again one by one, up to the very frame.
                at_once = 1
                continue
            after = _bridge(Path(error.path), error.byte, position)
        except TapeError:
            after = None
        # Where no frame follows in this segment, the next segment is the next start.
        after = after or next((start for start in starts if start > position), None)
        if after is None:
            yield Hole(position, position)
            return
        yield Hole(position, after - 1)
        position, at_once = after, BLOBS_AT_ONCE


def _start(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _bridge(path: Path, byte: int, offset: int) -> int | None:
    """Makes one frame of what lies between `byte` and the next whole frame; returns its offset."""
    if path.suffix != ".seg" or not path.is_file():
        return None
    copied = path.with_suffix(".new")
    shutil.copyfile(path, copied)
    copied.replace(path)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        found = _next_frame(view, byte, offset)
        if found is None:
            return None
        at, first, ts = found
        length = at - byte - FRAME.size
        head = FRAME.pack(length, 0, offset, NO_INPUT, first - offset, 0, ts)
        view[byte : byte + FRAME.size] = head
        checksum = crc32c(view[byte:at])
        view[byte + CHECKSUM_AT : byte + CHECKSUM_AT + 4] = checksum.to_bytes(4, "little")
    return first


def _next_frame(view: mmap.mmap, byte: int, offset: int) -> tuple[int, int, int] | None:
    """Returns place, first offset and time of the next whole frame behind `byte`."""
    for at in range(byte + FRAME.size, len(view) - FRAME.size, 8):
        length, checksum, first, _, _, zero, ts = FRAME.unpack_from(view, at)
        if zero or not offset < first < offset + ITEMS_LOST_MAX or not checksum:
            continue
        end = at + FRAME.size + length
        if length % 8 or length > LENGTH_MAX or end > len(view):
            continue
        if crc32c(view[at : at + CHECKSUM_AT] + bytes(4) + view[at + 8 : end]) == checksum:
            return at, first, ts
    return None


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Returns the CRC-32C of `data`: slow, for the few frames beside a damaged one."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFF_FFFF
