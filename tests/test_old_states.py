"""States of earlier versions are gone on from: nothing is made anew, and the records are the same.

`tests/golden/` holds what an earlier version left in the middle of a raw tape, and the whole
normalized tape that it made: trades that are missing, held, late and absurd, on two lines.
"""

import tarfile
from pathlib import Path

from tapeworks._core import Stage, TapeReader

GOLDEN = Path(__file__).with_name("golden")


def records(tape: Path) -> bytes:
    reader, found = TapeReader(tape), b""
    while (batch := reader.read(100_000)) is not None:
        found += bytes(batch)
    return found


def test_a_state_of_fewer_channels_is_gone_on_from(tmp_path: Path):
    # It is of a time with thirteen channels, and tells no number. A state that cannot be used
    # is noted, and its counts are not taken over.
    with tarfile.open(GOLDEN / "state-thirteen-channels.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    half = records(tmp_path / "half")
    stage = Stage(
        "normalize",
        tmp_path / "raw",
        tmp_path / "half",
        tmp_path / "states",
        {"feed": "binance-spot"},
        segment_bytes=65_536,
    )
    assert stage.notes == []
    assert stage.covered == 266
    counts = stage.counters()
    assert (counts["duplicates"], counts["gaps"], counts["quarantined"]) == (24, 4, 1)
    stage.run_until_idle(7)
    stage.close()
    whole = records(tmp_path / "whole")
    assert 0 < len(half) < len(whole)
    assert records(tmp_path / "half") == whole
