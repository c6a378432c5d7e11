"""What runs aside of a worker whose main thread data waits for."""

import threading

import pytest

from tapeworks.hot_path import Aside


def test_only_one_piece_of_work_runs_aside_and_its_error_is_raised_with_the_next():
    aside, entered, left = Aside(), threading.Event(), threading.Event()

    def fail() -> None:
        entered.set()
        left.wait(10)
        raise ValueError("the disk")

    assert aside.begin(fail)
    assert entered.wait(10)
    assert not aside.begin(entered.clear)
    left.set()
    aside.close()
    assert entered.is_set()
    with pytest.raises(ValueError, match="the disk"):
        aside.begin(entered.clear)
