"""Stored numbers: Python takes their names from the core, and repeats none."""

import pytest

from tapeworks import _core


@pytest.mark.parametrize(
    ("of", "name", "number"),
    [
        ("feed", "binance-usdm", 2),
        ("feed", "binance-coinm", 7),
        ("kind", "tick", 11),
        ("kind", "subscription", 12),
        ("subscription_state", "spoke", 3),
        ("marker_code", "subscribed", 14),
        ("side", "ask", 2),
        ("channel", "partial_depth", 5),
        ("marker_code", "checkpoint_end", 12),
        ("gap_cause", "retention", 6),
        ("gap_state", "unrecoverable", 4),
        ("book_state", "empty", 0),
        ("blob_kind", "rest", 3),
        ("decode_reason", "raised", 13),
        ("tape_kind", "blobs", 2),
        ("touch", "crossed", 4),
    ],
)
def test_a_stored_number_never_changes(of: str, name: str, number: int):
    # They are on tapes that must be readable for good.
    assert _core.numbers(of)[name] == number


def test_an_unknown_list_names_those_that_exist():
    # A typo is told with what would be right.
    with pytest.raises(ValueError, match=r"gap_cause.*got \"cause\""):
        _core.numbers("cause")
