"""What the tests of simulators build from: a simulator in a process of its own."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tapeworks.simulators import Simulator, start_simulator

Start = Callable[..., Simulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts simulators with given arguments; ends them with the test."""
    with contextlib.ExitStack() as stack:

        def start_one(*arguments: object, **more: object) -> Simulator:
            texts = [str(argument) for argument in arguments]
            log = tmp_path / "simulator.log"
            return stack.enter_context(start_simulator(*texts, log=log, **more))

        yield start_one
        # What the server complained about is the test's business.
        log = tmp_path / "simulator.log"
        assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()
