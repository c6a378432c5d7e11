"""Long work where nobody watches a terminal."""

from time import sleep

import pytest

from tapeworks.cli import progress
from tapeworks.cli.progress import LongProgress


def test_long_work_tells_a_log_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.01)
    told = ""
    with LongProgress() as shown:
        task = shown.add_task("importing", total=200, told="7 frames")
        shown.update(task, completed=50)
        while "\n" not in told:
            sleep(0.005)
            told += capsys.readouterr().err
        shown.remove_task(task)
        shown.add_task("deriving and storing", total=None)
        while "deriving" not in told:
            sleep(0.005)
            told += capsys.readouterr().err
    assert told.startswith("importing: 0 s, 25 %, 7 frames\n")
    assert "deriving and storing: 0 s\n" in told + capsys.readouterr().err
    sleep(0.03)
    assert not capsys.readouterr().err
