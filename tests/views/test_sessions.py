"""Ranges of time, and what a recorder's notes say of them."""

import random

from tapeworks.views.sessions import (
    RECORDER,
    Mark,
    Note,
    Range,
    Stream,
    intersect,
    read_sessions,
    subtract,
    union,
)

TRADES = Stream("BTCUSDT", "trade", "btcusdt@trade")
DEPTH = Stream("BTCUSDT", "depth", "btcusdt@depth")


def points(ranges: list[Range]) -> set[int]:
    return {point for start, end in ranges for point in range(start, end)}


def some_ranges(chance: random.Random) -> list[Range]:
    edges = sorted(chance.sample(range(60), 2 * chance.randint(0, 8)))
    return union(zip(edges[::2], edges[1::2], strict=True))


def test_ranges_are_sets_of_instants():
    # Against sets of points, for ranges that touch, nest, or are none at all.
    chance = random.Random(7)
    for _ in range(2_000):
        left, right = some_ranges(chance), some_ranges(chance)
        pairs = [
            (union([*right, *left]), points(left) | points(right)),
            (intersect(left, right), points(left) & points(right)),
            (subtract(left, right), points(left) - points(right)),
        ]
        for found, expected in pairs:
            assert points(found) == expected
            assert found == sorted(found)
            assert all(start < end for start, end in found)


def walk(*entries: tuple[str, ...] | tuple[object, ...], newest: int | None = None):
    """Reads (code, connection, line, ts[, ts_before]), (stream, line, state, ts), and of a delay
    ("delay", least, most, ts, state), in order."""
    marks, notes = [], []
    for offset, entry in enumerate(entries):
        if isinstance(entry[0], Stream):
            notes.append(Note(offset, *entry))
        else:
            state = entry[4] if entry[0] == "delay" else 0
            entry = entry[:4] if entry[0] == "delay" else entry
            marks.append(Mark(offset, *entry, *[None] * (5 - len(entry)), state))
    return read_sessions(marks, notes, newest)


BEGIN = (("connected", RECORDER, RECORDER, 0), ("subscribed", RECORDER, RECORDER, 0))


def test_a_connection_that_was_never_answered_carries_nothing():
    # Open for ten seconds, and no word of the venue to the subscription: nothing was recorded.
    found = walk(*BEGIN, ("connected", 0, 5, 10), ("disconnected", 0, 5, 20), newest=30)
    assert found.ranges == []
    assert found.carried == found.silent == found.refused == {}


def test_a_stream_is_carried_while_its_line_is_up():
    # Two lines; that of the trades is down from 30 to 50. The book is refused from 60 on.
    found = walk(
        *BEGIN,
        (TRADES, 5, "subscribed", 10),
        ("subscribed", 0, 5, 10),
        (DEPTH, 6, "subscribed", 12),
        ("subscribed", 1, 6, 12),
        (TRADES, 5, "spoke", 13),
        (DEPTH, 6, "spoke", 14),
        ("disconnected", 0, 5, 30),
        ("connected", 0, 5, 45),
        ("subscribed", 0, 5, 50),
        (DEPTH, 6, "refused", 60),
        ("end_of_session", 0, 0, 80),
    )
    assert found.ranges == [(10, 80)]
    assert found.carried == {TRADES: [(10, 30), (50, 80)], DEPTH: [(12, 60)]}
    assert found.refused == {DEPTH: [(60, 80)]}
    assert found.unlisted == []
    assert not found.is_open


def test_each_recorder_begins_with_nothing():
    # What the first one subscribed and heard says nothing of the second, which is killed as well.
    found = walk(
        *BEGIN,
        (TRADES, 5, "subscribed", 10),
        ("subscribed", 0, 5, 10),
        (TRADES, 5, "spoke", 11),
        ("connected", RECORDER, RECORDER, 100, 40),
        ("subscribed", RECORDER, RECORDER, 100),
        (TRADES, 5, "subscribed", 110),
        ("subscribed", 0, 5, 110),
        ("connected", RECORDER, RECORDER, 200, 150),
        ("connected", 0, 5, 210),
        newest=220,
    )
    assert found.carried == {TRADES: [(10, 40)]}
    assert found.silent == {TRADES: [(110, 150)]}
    # The last one does not note what it subscribes.
    assert found.ranges == [(10, 40), (110, 150), (210, 221)]
    assert found.unlisted == [(210, 221)]
    assert found.is_open


def test_a_recording_of_one_instant_is_a_time_as_well():
    # All frames of an import may be of one time.
    start = (("connected", RECORDER, RECORDER, 5), ("connected", 0, 0, 5))
    found = walk(*start, ("end_of_session", RECORDER, RECORDER, 5), newest=5)
    assert (found.ranges, found.unlisted) == ([(5, 6)], [(5, 6)])


def test_what_was_recorded_of_a_late_source_is_told_by_the_venues_time():
    # Events come 90 to 92 late, as few told at first and more later. Then a recorder of which
    # nothing is known yet, and one whose events are not late any more.
    found = walk(
        *BEGIN,
        (TRADES, 5, "subscribed", 100),
        ("subscribed", 0, 5, 100),
        (TRADES, 5, "spoke", 101),
        ("delay", 0, 95, 103, 1),
        ("delay", 90, 92, 120, 0),
        ("end_of_session", 0, 0, 300),
    )
    assert found.ranges == [(10, 208)]
    assert found.carried == {TRADES: [(10, 208)]}
    assert (found.least, found.most, found.is_late) == (90, 92, True)
    begin = ("connected", RECORDER, RECORDER, 0), ("connected", 0, 5, 100)
    first = (*begin, ("delay", 90, 92, 120, 0), ("end_of_session", 0, 0, 300))
    again = ("connected", RECORDER, RECORDER, 400), ("connected", 0, 5, 400)
    # Its beginning is that of the receipt, its end that of the delay before.
    found = walk(*first, *again, newest=600)
    assert found.ranges == found.unlisted == [(10, 208), (400, 509)]
    assert (found.least, found.most, found.is_open) == (0, 92, True)
    found = walk(*first, *again, ("delay", 0, 0, 410, 0), newest=600)
    assert (found.ranges, found.most) == ([(10, 208), (400, 601)], 0)
