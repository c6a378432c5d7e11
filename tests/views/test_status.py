"""The state of the pipeline, looked at while everything changes."""

from pathlib import Path

from tapeworks.views.status import Status, folder_bytes


def test_a_tape_that_is_being_made_is_seen_with_the_next_look(tmp_path: Path):
    # Its writer makes the folder first: a look in between must show the rest, not fail.
    folder = tmp_path / "tape" / "binance-spot" / "market-data.raw"
    folder.mkdir(parents=True)
    look = Status(tmp_path)
    [source] = look.sample().sources
    assert source.tapes == []
    (tmp_path / "tape" / "binance-usdm").mkdir()
    assert [source.name for source in look.sample().sources] == ["binance-spot", "binance-usdm"]


def test_bytes_of_a_folder_count_what_is_there(tmp_path: Path):
    # Files that go while they are counted (here: a link to nothing) do not count.
    (tmp_path / "a").write_bytes(bytes(10_000))
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    assert 8_192 <= folder_bytes(tmp_path) <= 20_480
    assert folder_bytes(tmp_path / "nothing") == 0
