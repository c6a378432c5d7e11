"""Several machines over a real broker: the campaign of `scripts/machines`, short."""

import pytest
from tests.machines.campaign import run


@pytest.mark.slow
def test_readers_that_come_and_go_build_the_books_of_the_recorder(tmp_path):
    # One is killed and starts again, two are added, one is removed: hash for hash.
    verdict = run(tmp_path, seconds=4, symbols=8, rate=100, seed=3)
    assert not verdict.faults
    assert verdict.equal == verdict.instruments == 8
