"""The state of the pipeline, looked at while everything changes."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tapeworks._core import numbers
from tapeworks.register import Register
from tapeworks.views.status import Status, folder_bytes


def test_a_tape_that_is_being_made_is_seen_with_the_next_look(tmp_path: Path):
    # Its writer makes the folder first: a look in between must show the rest, not fail.
    folder = tmp_path / "tape" / "binance-spot" / "market-data.raw"
    folder.mkdir(parents=True)
    look = Status(tmp_path)
    [source] = look.sample().sources
    assert source.tapes == []
    other = tmp_path / "tape" / "binance-usdm"
    other.mkdir()
    assert len(look.sample().sources) == 1
    (other / "market-data.raw").mkdir()
    assert [source.name for source in look.sample().sources] == ["binance-spot", "binance-usdm"]


def test_rate_of_a_tape_that_began_since_the_last_look(spine: Any, maker: Any):
    # Its first items count: it would be told to stand still. At the first look nothing is known.
    spine.append(maker.definitions())
    look = Status(spine.path)
    assert look.sample().sources[0].tapes[0].per_s == 0
    spine.append(maker.trades(50), "market-data.bars")
    rates = {tape.topic: tape.per_s for tape in look.sample().sources[0].tapes}
    assert rates["market-data.bars"] > 0
    assert rates["market-data.normalized"] == 0


def test_bytes_of_a_folder_count_what_is_there(tmp_path: Path):
    # Files that go while they are counted (here: a link to nothing) do not count.
    (tmp_path / "a").write_bytes(bytes(10_000))
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    assert 8_192 <= folder_bytes(tmp_path) <= 20_480
    assert folder_bytes(tmp_path / "nothing") == 0


def test_trouble_that_nobody_foresaw_names_its_type(tmp_path: Path):
    # The words alone, such as `'restarts'`, would say nothing.
    with Register(tmp_path) as register:
        register.write([{"name": "recorder-a", "restarts": "many"}])
        [trouble] = Status(tmp_path).sample().troubles
    assert trouble.startswith("workers: ValueError: invalid literal"), trouble


def test_lake_that_is_switched_off_is_told_from_one_that_is_empty(tmp_path: Path):
    # Of what runs: a supervisor with all but the lake. One recorder alone says nothing of it.
    def is_off(*names: str) -> bool:
        register.write([{"name": name, "state": "running"} for name in names])
        return Status(tmp_path).sample().is_lake_off

    with Register(tmp_path) as register:
        assert is_off("recorder-a", "derive-a", "sink-redis")
        assert not is_off("recorder-a", "derive-a", "sink-redis", "sink-parquet")
        assert not is_off("recorder-a")
    assert not Status(tmp_path).sample().is_lake_off


STRAY = [
    "tape/.DS_Store",
    "tape/notes.txt",
    "tape/binance-spot/.DS_Store",
    "tape/binance-spot/market-data.raw/.DS_Store",
    "lake/.DS_Store",
    "lake/trades/.DS_Store",
    "lake/_commits/binance-spot/.DS_Store",
    "state/.DS_Store",
    "state/binance-spot/.DS_Store",
    "state/binance-spot/losses/.DS_Store",
    "run/.DS_Store",
    "log/.DS_Store",
]


@pytest.mark.parametrize("where", STRAY)
def test_stray_files_anywhere_do_not_stop_a_look(spine: Any, maker: Any, where: str):
    # What a desktop, an editor or a person leaves behind.
    spine.append(maker.definitions())
    path = spine.path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\xffanything")
    state = Status(spine.path).sample()
    [source] = state.sources
    assert source.name == "binance-spot"
    assert [tape.topic for tape in source.tapes] == ["market-data.normalized"]
    assert state.troubles == source.troubles == []


def test_status_of_a_clock_that_was_put_back_is_not_of_now(tmp_path: Path):
    # Its recorder died under a clock an hour ahead: it would be told to run for an hour.
    path = tmp_path / "state" / "binance-spot" / "recorder.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"frames": 1}')
    (tmp_path / "tape" / "binance-spot" / "market-data.raw").mkdir(parents=True)
    assert Status(tmp_path).sample().sources[0].recorder is not None
    os.utime(path, (time.time() + 3_600,) * 2)
    assert Status(tmp_path).sample().sources[0].recorder is None


BROKEN = {
    "state/binance-spot/recorder.json": [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"null"],
    "state/binance-spot/derive.json": [b"{", b"[]", b'{"market-data.book": "many"}'],
    "run/1.0/supervisor.json": [b"{"],
    "lake/_commits/binance-spot/market-data.normalized.json": [b"{", b"\xff"],
    "lake/_commits/binance-spot/symbols.records": [b"\0" * 7, b"\xff" * 64],
    "tape/binance-spot/market-data.gaps/00000000000000000000.seg": [b"x" * 100],
}


@pytest.mark.parametrize(
    ("where", "content"), [(path, one) for path, many in BROKEN.items() for one in many]
)
def test_damaged_files_do_not_stop_a_look(spine: Any, maker: Any, where: str, content: bytes):
    # Half-written or damaged: what can be read is shown, whatever else is not.
    spine.append(maker.definitions())
    path = spine.path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    [source] = Status(spine.path).sample().sources
    assert "market-data.normalized" in [tape.topic for tape in source.tapes]


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(spine: Any, maker: Any):
    # Links that lead in a circle cannot be read even by root.
    spine.append(maker.definitions())
    loop = spine.path / "lake"
    os.symlink("lake", loop)
    (spine.path / "tape" / "loop").symlink_to("loop")
    state = Status(spine.path).sample()
    assert [source.name for source in state.sources] == ["binance-spot"]


def test_data_folder_that_is_gone_is_a_trouble(tmp_path: Path):
    # Somebody removed it while a screen looks.
    state = Status(tmp_path / "gone").sample()
    assert state.sources == []
    assert "disk" in state.troubles[0]


def test_gaps_of_before_are_told_from_new_ones(spine: Any, maker: Any):
    # A gap that is told again is no other one.
    code, cause = numbers("marker_code")["gap"], numbers("gap_cause")["sequence"]

    def lose(first: int, state: str) -> None:
        gap = maker.rows("marker", 1, code=code, cause=cause, channel=1, instrument=1, count=7)
        gap["first"], gap["state"] = first, numbers("gap_state")[state]
        spine.append(gap, "market-data.gaps")

    lose(1, "open")
    look = Status(spine.path)
    look.mark()
    lose(1, "closed")
    lose(9, "closed")
    [source] = look.sample().sources
    assert source.gaps == {"sequence closed": 2}
    assert source.new_gaps == 1


def test_a_book_whose_line_is_down_is_not_verified(spine: Any, maker: Any):
    # Its tape says what it was last; since then nobody knows.
    spine.append(maker.definitions())
    codes, channels = numbers("marker_code"), numbers("channel")
    state = maker.rows("marker", 1, instrument=1, code=codes["book_state"], channel=4)
    state["state"] = numbers("book_state")["continuous"]
    spine.append(state, "market-data.book")
    look = Status(spine.path)
    assert look.sample().sources[0].books == {"BTCUSDT": "continuous"}
    gap = maker.rows("marker", 1, instrument=1, code=codes["gap"], channel=channels["depth"])
    gap["cause"], gap["count"] = numbers("gap_cause")["disconnect"], 2**32 - 1
    for told, book in (("open", "line down"), ("closed", "continuous")):
        gap["state"] = numbers("gap_state")[told]
        spine.append(gap, "market-data.gaps")
        assert look.sample().sources[0].books == {"BTCUSDT": book}
