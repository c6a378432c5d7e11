"""What an answer as of a time lacks, by what was known then."""

from pathlib import Path
from typing import Any

import pytest
from tests.views.test_missed_corrections import START, S, keys, minutes, record

MINUTE = 60 * S
__all__ = ["keys"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    # A trade a minute, received a microsecond later; those of 30 to 39 came from the history at 41.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
            patch.setenv(name, "any")
        folder: Path = tmp_path_factory.mktemp("then")
        return record(folder, "AAPL")


@pytest.mark.parametrize(
    ("first", "last", "as_of", "rows", "expected"),
    [
        # Before the gap was filled, and behind it: nothing of it was known at 25.
        (31, 39, 40.5, 0, {"gap"}),
        (31, 39, 45.0, 8, {"repaired"}),
        (0, 10, 25.0, 10, set()),
        # No. 5 was cancelled in the gap, of which nobody knew at 25.
        (0, 10, 45.0, 10, {"not_corrected"}),
        # What came later was not known; nor was anything before the recording began.
        (0, 10, 5.0, 5, {"not_yet_known"}),
        (0, 5, 5.0, 5, set()),
        (0, 10, -60.0, 0, {"not_yet_known"}),
        # A range that is open ends there.
        (None, None, 25.0, 25, set()),
        (0, None, 25.0, 25, set()),
    ],
)
def test_an_answer_as_of_a_time_is_certified_by_what_was_known_then(
    lake: Any, first: Any, last: Any, as_of: float, rows: int, expected: set[str]
) -> None:
    span = [None if one is None else START + one * MINUTE for one in (first, last)]
    found = lake.trades("AAPL", *span, as_of=START + int(as_of * MINUTE))
    assert len(found) == rows
    coverage = found.coverage()
    assert {row["finding"] for row in coverage.to_pylist()} == expected
    assert coverage.is_complete == (expected <= {"repaired"})
    assert bool(found.notices()) == (not coverage.is_complete)
    # All that is held now is certified as ever.
    now = lake.trades("AAPL", *minutes(41, 60))
    assert now.coverage().is_complete


def test_an_event_that_was_on_its_way_was_not_known(lake: Any) -> None:
    # That of minute 5 came a microsecond later: until then it is missing, though it had happened.
    for late, count, is_whole in ((999, 5, False), (1000, 6, True)):
        as_of = START + 5 * MINUTE + late
        found = lake.trades("AAPL", START, START + 5 * MINUTE + 1, as_of=as_of)
        assert (len(found), found.coverage().is_complete) == (count, is_whole)
