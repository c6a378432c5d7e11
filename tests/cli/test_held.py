"""What a tape holds of a capture is found in little time, and in little memory."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

import tapeworks.cli.held as held
from tapeworks._core import Ingest
from tapeworks.errors import ConfigError
from tapeworks.feeds.captures import TEXT, Captured

STARTED_NS = 1_723_161_255_000_000_000


def frames(count: int, step_ns: int, bodies: int) -> list[Captured]:
    return [
        Captured(STARTED_NS + n * step_ns, TEXT, b"", b'{"result":null,"id":%d}' % (n % bodies), 0)
        for n in range(count)
    ]


def taped(folder: Path, captured: Sequence[Captured]) -> held.Held:
    """Returns what is held of `captured`, all of which is put onto a tape."""
    ingest = Ingest(folder, "s", "binance-spot", ts_first=STARTED_NS)
    for frame in captured:
        ingest.receive(0, frame.kind, frame.ts_recv, frame.body, frame.context)
    ingest.flush()
    ingest.close()
    return held.Held(folder / "tape/s/market-data.raw", "s", captured[0].ts_recv)


@pytest.mark.parametrize("step_ns", [0, 1_000])
def test_capture_that_is_there_takes_no_memory(tmp_path: Path, step_ns: int):
    # 30,000 frames that differ, of one instant or close together, in the order of the tape.
    captured = frames(30_000, step_ns, 30_000)
    found = taped(tmp_path, captured)
    tracemalloc.start()
    try:
        assert all(found.has(frame) for frame in captured)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20, peak


@pytest.mark.slow
@pytest.mark.parametrize("step_ns", [0, 1_000])
def test_many_equal_frames_are_found_in_little_time(tmp_path: Path, step_ns: int):
    # 200,000 frames that say the same, of which the capture lacks the first: each stands for one.
    captured = frames(200_000, step_ns, 1)
    found = taped(tmp_path, captured)
    assert all(found.has(frame) for frame in captured[1:])
    # The one that is left can stand for one more of the last instant.
    assert [found.has(captured[-1]) for _ in range(2)] == [True, False]


def test_too_many_other_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The tape holds 500 frames of this time, none of which is in the capture: up to the limit they
    # are looked through.
    monkeypatch.setattr(held, "OTHERS_MAX", 400)
    found = taped(tmp_path, frames(500, 1_000, 500))
    other = Captured(STARTED_NS + 500_000, TEXT, b"", b"{}", 0)
    with pytest.raises(ConfigError, match=r"holds over 400 frames around .* --source NAME"):
        found.has(other)
    monkeypatch.setattr(held, "OTHERS_MAX", 500)
    assert not taped(tmp_path / "more", frames(500, 1_000, 500)).has(other)
