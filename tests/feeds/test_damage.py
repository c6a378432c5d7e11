"""What a damaged tape or note does not stop: the raw recording, and the other derivations."""

import logging
import time
from pathlib import Path

import pytest
from tests.feeds.test_ingest import raw_bodies, trade

from tapeworks._core import Ingest, TapeReader
from tapeworks.errors import TapeError
from tapeworks.processors.derive import STEPS, Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.tape import Loss, TapeConfig, note_loss, noted_losses

TRADE = 1


def recorded(data: Path, first: int, last: int) -> Ingest:
    """Returns an ingest that took trades `first` to `last`."""
    ingest = Ingest(data, "x", "binance-spot", durability_ms=0)
    for number in range(first, last + 1):
        ingest.receive(0, 1, ingest.now(), trade(number))
        ingest.flush()
    return ingest


def damage(tape: Path) -> Path:
    """Flips one bit in the last frame that the newest segment of `tape` holds."""
    path = max(tape.glob("*.seg"))
    content = bytearray(path.read_bytes())
    used = len(bytes(content).rstrip(b"\0"))
    content[used - 20] ^= 1
    path.write_bytes(content)
    return path


def test_raw_recording_goes_on_beside_a_damaged_normalized_tape(tmp_path: Path):
    # A bit flips in the normalized tape between two starts. All frames of the second are kept; its
    # status says why there are no records; nothing of the damaged tape is changed.
    recorded(tmp_path, 1, 50).close()
    path = damage(tmp_path / "tape" / "x" / "market-data.normalized")
    before = path.read_bytes()
    ingest = recorded(tmp_path, 51, 60)
    assert "market-data.normalized" in (ingest.degraded() or "")
    assert ingest.needs_snapshot() == []
    assert ingest.stats()["frames"] == 10
    ingest.sync()
    ingest.close()
    assert raw_bodies(tmp_path) == [trade(number) for number in range(1, 61)]
    assert path.read_bytes() == before
    # Once the damaged tape is out of the way, everything is normalized from the raw one.
    path.parent.rename(tmp_path / "aside")
    for state in (tmp_path / "state" / "x" / "normalize").glob("*"):
        state.unlink()
    ingest = recorded(tmp_path, 61, 61)
    assert ingest.degraded() is None
    ingest.close()
    assert trades_on(path.parent) == 61


def trades_on(tape: Path) -> int:
    """Returns how many trades a normalized tape holds."""
    reader, found = TapeReader(tape), 0
    while (batch := reader.read(1000)) is not None:
        records, at = bytes(batch), 0
        while at < len(records):
            found += records[at + 1] == TRADE
            at += records[at] * 8
    return found


def test_one_damaged_derived_tape_stops_that_one_alone(tmp_path: Path, caplog):
    # A bit flips in the ticks. Bars, books, gaps and dead letters go on; who ends it is told.
    recorded(tmp_path, 1, 50).close()
    settings = ProcessorsConfig()
    derivation = Derivation(settings, TapeConfig("every-frame"), tmp_path, "x")
    assert derivation.drain()
    derivation.close()
    damage(tmp_path / "tape" / "x" / "market-data.ticks")
    recorded(tmp_path, 51, 90).close()
    with caplog.at_level(logging.ERROR):
        derivation = Derivation(settings, TapeConfig("every-frame"), tmp_path, "x")
        assert not derivation.drain()
    assert list(derivation.failures) == ["ticks"]
    assert "ticks is stopped" in caplog.text
    assert set(derivation.lags().values()) == {0}
    # Metrics and alerts are not asked for, and the feed tells no news.
    assert len(derivation.lags()) == len(STEPS) - 4
    derivation.close()
    with pytest.raises(TapeError, match=r"market-data\.ticks"):
        derivation.raise_failure()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\xff\xfe", b"[]", b"{}", b'{"topic": "t"}', b"[" * 100_000,
     b'{"topic":"t","reader":"r","first":"1","last":2,"ts_start":1,"ts_end":2}',
     b'{"topic":"t","reader":"r","first":1,"last":1e400,"ts_start":1,"ts_end":2}',
     b'{"topic":"t","reader":"r","first":5,"last":2,"ts_start":1,"ts_end":2}'],
)  # fmt: skip
def test_note_of_a_loss_that_cannot_be_read_is_set_aside(tmp_path: Path, caplog, garbage: bytes):
    # Good notes before and after it are taken; the bad one is kept under another name, once.
    losses = [Loss("t", reader, 1, 2, 3, 4) for reader in ("a", "z")]
    for loss in losses:
        note_loss(tmp_path, "x", loss)
    (tmp_path / "state" / "x" / "losses" / "t.m.1.json").write_bytes(garbage)
    assert [loss for _, loss in noted_losses(tmp_path, "x")] == losses
    assert "set aside" in caplog.text
    caplog.clear()
    assert [loss for _, loss in noted_losses(tmp_path, "x")] == losses
    assert caplog.text == ""
    kept = tmp_path / "state" / "x" / "losses" / "t.m.1.unreadable"
    assert kept.read_bytes() == garbage


def test_receive_times_go_on_where_the_tape_ends(tmp_path: Path):
    # The tape ends an hour ahead of the host's clock: times rise from there, and are suspect.
    ingest = Ingest(tmp_path, "x", "binance-spot", durability_ms=0)
    ahead = time.time_ns() + 3_600 * 10**9
    ingest.receive(0, 1, ahead, trade(1))
    ingest.flush()
    ingest.close()
    ingest = recorded(tmp_path, 2, 20)
    assert [(suspect, moved) for _, _, suspect, moved in ingest.take_clock_steps()] == [(True, 0)]
    ingest.close()
    reader = TapeReader(tmp_path / "tape" / "x" / "market-data.raw")
    blobs = reader.read_blobs(1000)
    assert blobs is not None
    times = [blob.ts_recv for blob in blobs]
    assert times == sorted(times)
    assert times[-1] > ahead
    assert [bool(blob.flags & 64) for blob in blobs][-19:] == [True] * 19
    assert not any(blob.flags for blob in blobs[:2])


def test_capture_has_no_time_but_its_own(tmp_path: Path):
    # An import opens with the time of its first frame, not with that of the host.
    then = 1_600_000_000 * 10**9
    ingest = Ingest(tmp_path, "x", "binance-spot", ts_first=then)
    ingest.receive(0, 1, then, trade(1))
    ingest.heartbeat(then + 1)
    ingest.end_session(then + 2)
    ingest.flush()
    ingest.close()
    blobs = TapeReader(tmp_path / "tape" / "x" / "market-data.raw").read_blobs(1000)
    assert blobs is not None
    assert [blob.ts_recv - then for blob in blobs] == [0, 0, 1, 2]
