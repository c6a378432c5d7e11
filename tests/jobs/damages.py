"""Damage that the tests of `tape repair` do to a data folder, and what is left of it then."""

import ctypes
import json
import os
import struct
from pathlib import Path
from typing import Any

from conftest import check_exact
from tapeworks._core import TapeReader
from tapeworks.errors import TapeRangeError

SOURCE = "binance-spot"
STARTED_NS = 1_723_161_255_000_000_000
# Length, checksum, first offset, input covered, count, zero, newest ts_recv.
FRAME = struct.Struct("<IIQQIIq")
HEAD_BYTES = 16_384
PR_CAPBSET_DROP = 24
# DAC_OVERRIDE, DAC_READ_SEARCH and FOWNER of capabilities(7): what makes root stand above modes.
ABOVE_MODES = (1, 2, 3)


def import_trades(command: Any, frames: int) -> None:
    """Imports trades, one a frame, one a millisecond."""
    with (command.folder / "capture.txt").open("w") as file:
        for number in range(1, frames + 1):
            ts = STARTED_NS + number * 1_000_000
            data = {"e": "trade", "E": ts // 10**6, "s": "BTCUSDT", "t": number, "p": "61837.63"}
            data |= {"q": "0.001", "T": ts // 10**6, "m": True, "M": True}
            message = {"stream": "btcusdt@trade", "data": data}
            file.write(f"{ts} {json.dumps(message, separators=(',', ':'))}\n")
    command.run("import", SOURCE, "capture.txt")


def bodies(raw: Path) -> list[bytes]:
    """The frames of the venue on a raw tape."""
    found, reader = [], TapeReader(raw)
    while True:
        try:
            blobs = reader.read_blobs()
        except TapeRangeError as error:
            reader.seek(error.first)
            continue
        if not blobs:
            return found
        found += [blob.body for blob in blobs if blob.body.startswith(b'{"stream"')]


def segments(tape: Path) -> list[Path]:
    return sorted(tape.glob("*.seg*"))


def frames_of(path: Path) -> list[int]:
    """Where the frames of a segment lie."""
    content, at, found = path.read_bytes(), HEAD_BYTES, []
    while at + FRAME.size <= len(content):
        length, checksum, *_ = FRAME.unpack_from(content, at)
        if not checksum:
            break
        found.append(at)
        at += FRAME.size + length
    return found


def flip(path: Path, at: int) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def check_all_is_good(command: Any, lost: dict[str, list[tuple[int, int]]]) -> None:
    """Fails unless all is whole, the lake is exact, and the ledger holds `lost`, once each."""
    data = command.folder / "data"
    command.run("verify")
    assert command.run("repair") == "nothing is damaged in data\n"
    check_exact(data)
    tapes = data / "tape"
    held = {
        f"{tape.parent.name}/{tape.name}": ranges
        for tape in sorted(tapes.glob("*/*"))
        if (ranges := TapeReader(tape).lost_ranges())
    }
    assert held == lost
    told = [gap for gap in command.answer("gaps", "--json") if gap["cause"] == "damage"]
    declared = sorted((gap["first_missing"], gap["last_missing"]) for gap in told)
    assert declared == sorted(one for ranges in lost.values() for one in ranges)
    assert all(gap["state"] == "closed" and gap["ts_from"] <= gap["ts_to"] for gap in told)


def obey_modes() -> None:
    """Makes this process obey the modes of files, also as root; for a child before it starts."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in ABOVE_MODES:
            assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
