"""The entries of the gap ledger: each loss once, whatever is not known of it."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeworks as tw
from conftest import START, RecordMaker, SpineFolder
from tapeworks import _core
from tapeworks._core import NONE, Ingest
from tapeworks.errors import QueryError
from tapeworks.tape import DAMAGE, UNKNOWN, Loss, note_loss
from tapeworks.views.times import format_time

GAPS, NORMALIZED, BOOK = "market-data.gaps", "market-data.normalized", "market-data.book"
OWN = "market-data.of-a-user"
SECOND = 10**9
CODES, CAUSES = _core.numbers("marker_code"), _core.numbers("gap_cause")
STATES, CHANNELS = _core.numbers("gap_state"), _core.numbers("channel")
RECORDER = 0xFFFF


def gap(maker: RecordMaker, cause: str, state: str = "closed", **columns: Any) -> Any:
    """Returns one entry; columns that are not given are those of nothing."""
    known = {"channel": CHANNELS["session"], "count": 1, "ts_start": NONE, "ts_recv": START}
    numbers = {"code": CODES["gap"], "cause": CAUSES[cause], "state": STATES[state]}
    return maker.rows("marker", 1, **(numbers | known | columns))


def note(spine: SpineFolder, maker: RecordMaker, code: str, ts: int, connection: int) -> None:
    marker = maker.rows("marker", 1, code=CODES[code], first=connection, ts_event=ts, ts_recv=ts)
    marker["ts_start"] = NONE
    spine.append(marker)


@pytest.fixture
def recorded(spine, maker):
    """Recorded for 100 s from START on without a gap; the ledger is up to date."""
    note(spine, maker, "connected", START, RECORDER)
    note(spine, maker, "connected", START, 0)
    definitions = maker.definitions()
    definitions["valid_from"] = START
    spine.append(definitions)
    spine.append(maker.trades(1_000))
    note(spine, maker, "disconnected", START + 100 * SECOND, 0)
    note(spine, maker, "end_of_session", START + 100 * SECOND, 0)
    spine.derive()
    assert tw.open(spine.path).coverage("BTCUSDT").is_complete
    return spine


class Lost(NamedTuple):
    topic: str
    first: int
    last: int
    start: int | None
    end: int | None

    def touches(self, first: int, last: int) -> bool:
        return (self.end is None or self.end >= first) and (self.start is None or self.start < last)


moments = st.none() | st.integers(0, 4).map(lambda n: START + n * SECOND)
losses = st.builds(
    lambda topic, first, more, ends: Lost(topic, first, first + more, *ends),
    st.sampled_from([NORMALIZED, BOOK, OWN]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.tuples(moments, moments).filter(lambda ends: None in ends or ends[0] <= ends[1]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(losses, min_size=1, max_size=8), st.integers(-1, 5), st.integers(1, 3))
def test_two_losses_are_never_one_entry(told, at, width):
    # Losses that overlap in items and in time, of several tapes, some told twice: each that differs
    # in anything is an entry of its own, and touches every range that it could.
    maker = RecordMaker()
    with tempfile.TemporaryDirectory() as folder:
        spine = SpineFolder(Path(folder))
        for lost in told:
            ends = {"ts_start": lost.start or NONE, "ts_event": lost.end or NONE}
            items = {"first": lost.first, "last": lost.last}
            sequence = _core.topic_number(lost.topic)
            spine.append(gap(maker, DAMAGE, sequence=sequence, **items, **ends), GAPS)
        spine.tape(OWN).mkdir()
        lake = tw.open(spine.path)

        def found(*span: int) -> list[Any]:
            names = ("topic", "first_missing", "last_missing", "ts_from", "ts_to")
            rows = lake.gaps(None, *span).to_pylist()
            return sorted((tuple(row[name] for name in names) for row in rows), key=str)

        first, last = START + at * SECOND, START + (at + width) * SECOND
        assert found() == expected(set(told))
        assert found(first, last) == expected({x for x in told if x.touches(first, last)})
        spine.close()


def expected(told: set[Lost]) -> list[Any]:
    return sorted(((*lost[:3], *map(text, lost[3:])) for lost in told), key=str)


def text(ts: int | None) -> str | None:
    return None if ts is None else format_time(ts).removesuffix("Z") + ".000000000Z"


def test_an_entry_shows_its_latest_state(spine, maker):
    # An outage whose ids show what it cost; one that cost nothing; the hole, filled later: each
    # loss is one entry, and counts once.
    spine.append(maker.definitions())
    one = {"instrument": 1, "channel": CHANNELS["trade"], "ts_start": START}
    two = {"instrument": 2, "channel": CHANNELS["trade"], "ts_start": START}
    hole = {**one, "first": 6, "last": 8}
    for entry in (
        gap(maker, "disconnect", "open", **one, ts_event=START + 1),
        gap(maker, "disconnect", "open", **two, ts_event=START + 1),
    ):
        spine.append(entry, GAPS)

    def shown() -> list[tuple[str, str, str]]:
        rows = tw.open(spine.path).gaps().to_pylist()
        return sorted((row["symbol"], row["cause"], row["state"]) for row in rows)

    assert shown() == [("BTCUSDT", "disconnect", "open"), ("ETHUSDT", "disconnect", "open")]
    for entry in (
        gap(maker, "disconnect", **one, ts_event=START + SECOND, count=3),
        gap(maker, "disconnect", **two, ts_event=START + SECOND, count=0),
        gap(maker, "sequence", **hole, ts_event=START + SECOND),
    ):
        spine.append(entry, GAPS)
    assert shown() == [("BTCUSDT", "sequence", "closed")]
    spine.append(gap(maker, "sequence", "repaired", **hole, ts_event=START + 9), GAPS)
    assert shown() == [("BTCUSDT", "sequence", "repaired")]
    # What it cost came after all: it is told, and keeps nothing from being complete.
    found = tw.open(spine.path).coverage("BTCUSDT")
    assert "gap" not in found.to_arrow()["finding"].to_pylist()
    assert (len(found.gaps), len(found.ledger)) == (0, 1)


@pytest.mark.parametrize("end", [NONE, UNKNOWN, UNKNOWN + 70_000_000])
def test_a_loss_whose_end_is_not_known_touches_every_range(recorded, maker, end):
    # Also as it was written once: as the least number, shifted to the venue's clock.
    recorded.append(gap(maker, DAMAGE, first=3, last=5, ts_event=end), GAPS)
    lake = tw.open(recorded.path)
    [row] = lake.gaps(start=START + 50 * SECOND).to_pylist()
    assert (row["ts_from"], row["ts_to"]) == (None, None)
    assert not lake.coverage("BTCUSDT", START + SECOND, START + 2 * SECOND).is_complete
    assert not lake.trades("BTCUSDT", START + SECOND, START + 2 * SECOND).coverage().is_complete


def test_what_a_recorder_is_told_of_a_loss_keeps_its_unknown_times(tmp_path):
    # Through the raw tape and its normalizing: no time is made up, and the tape is named.
    with_times = Loss(BOOK, "sink", 7, 9, START, START + SECOND)
    ingest = Ingest(tmp_path, "x", "binance-spot", ts_first=START)
    for items, received, topic in (
        ((0, 99), (UNKNOWN, UNKNOWN), NORMALIZED),
        ((7, 9), (with_times.ts_start, with_times.ts_end), BOOK),
    ):
        ingest.lost(items, received, START + 5 * SECOND, DAMAGE, topic)
    ingest.flush()
    ingest.close()
    spine = SpineFolder(tmp_path, "x")
    spine.derive()
    rows = tw.open(tmp_path).gaps().to_pylist()
    assert [(row["topic"], row["ts_from"], row["ts_to"]) for row in rows] == [
        (NORMALIZED, None, None),
        (BOOK, text(START), text(START + SECOND)),
    ]


def test_what_is_noted_as_lost_is_in_the_ledger_at_once(recorded):
    # Nobody records any more: the note stays a note, and the answers have it all the same.
    loss = Loss(NORMALIZED, "sink", 10, 19, START + 10 * SECOND, START + 20 * SECOND)
    note_loss(recorded.path, recorded.source, loss)
    lake = tw.open(recorded.path)
    [row] = lake.gaps("BTCUSDT").to_pylist()
    assert (row["cause"], row["state"], row["missing"]) == ("retention", "closed", 10)
    assert (row["topic"], row["first_missing"], row["last_missing"]) == (NORMALIZED, 10, 19)
    assert row["ts_from"] == text(loss.ts_start)
    assert not lake.coverage("BTCUSDT", START, START + 90 * SECOND).is_complete
    assert lake.coverage("BTCUSDT", START + 30 * SECOND, START + 90 * SECOND).is_complete
    # Another loss that begins there is another note.
    note_loss(recorded.path, recorded.source, Loss(NORMALIZED, "sink", 10, 12, UNKNOWN, UNKNOWN))
    assert len(lake.gaps()) == 2


def test_a_note_and_its_entry_are_one(recorded, maker):
    # The recorder put it on the tape, and was killed before it removed the note.
    loss = Loss(NORMALIZED, "sink", 10, 19, START, START + SECOND, DAMAGE)
    note_loss(recorded.path, recorded.source, loss)
    ends = {"ts_start": loss.ts_start, "ts_event": loss.ts_end, "count": 10}
    sequence = _core.topic_number(loss.topic)
    recorded.append(gap(maker, DAMAGE, first=10, last=19, sequence=sequence, **ends), GAPS)
    assert len(tw.open(recorded.path).gaps()) == 1


def test_a_note_that_cannot_be_read_is_a_loss_of_unknown_extent(recorded):
    # Something was lost; what, its note does not tell any more. To read it changes nothing.
    path = note_loss(recorded.path, recorded.source, Loss(BOOK, "sink", 1, 2, START, START))
    path.write_bytes(b"{")
    lake = tw.open(recorded.path)
    assert [row["ts_to"] for row in lake.gaps().to_pylist()] == [None]
    assert not lake.coverage("BTCUSDT", START, START + SECOND).is_complete
    assert path.exists()


def test_a_range_outside_of_the_recording_is_not_complete(recorded):
    # Open or not: what is not covered is told.
    lake = tw.open(recorded.path)
    begin, end = START, START + 100 * SECOND
    after = lake.coverage("BTCUSDT", start=end + SECOND)
    assert not after.is_complete
    assert after.summary() == [
        f"not recorded from {format_time(end + SECOND)} on",
        f"not recorded: from {format_time(end + SECOND)} on (binance-spot)",
    ]
    before = lake.coverage("BTCUSDT", end=begin - SECOND)
    assert not before.is_complete
    assert before.summary()[1].startswith("not recorded: before ")
    assert not lake.coverage(start=end).is_complete
    assert not lake.coverage(end=begin).is_complete
    assert not lake.coverage("BTCUSDT", start=begin - SECOND).is_complete
    assert not lake.coverage("BTCUSDT", end=end + SECOND).is_complete
    assert lake.coverage("BTCUSDT", start=begin).is_complete
    assert lake.coverage("BTCUSDT", end=end).is_complete
    for span in ((end, begin), (begin, begin)):
        with pytest.raises(QueryError, match="expected start before end"):
            lake.coverage("BTCUSDT", *span)


@pytest.mark.parametrize("folder", ["tape", "tape/binance-spot", "lake"])
def test_a_folder_in_which_nothing_is_recorded_is_not_complete(tmp_path, folder):
    # Without sources, and with one that has no tape yet: for any range and for all of time.
    (tmp_path / folder).mkdir(parents=True)
    lake = tw.open(tmp_path)
    for span in ((None, None), (START, None), (None, START), (START, START + SECOND)):
        coverage = lake.coverage(None, *span)
        assert not coverage.is_complete
        assert len(coverage.summary()) == 2
    with pytest.raises(QueryError, match="never recorded"):
        lake.coverage("BTCUSDT")
    with pytest.raises(QueryError, match="expected a source"):
        lake.coverage(source="another")


def test_bars_are_complete_to_the_end_of_their_last_window(recorded, maker):
    # The range ends within a window, and the recording within the same one: the last bar lacks
    # what came after.
    bars = maker.rows("bar", 2, instrument=1, interval_ms=60_000, channel=CHANNELS["trade"])
    bars["ts_event"] = START + np.arange(2) * 60 * SECOND
    bars["closed"] = 1
    recorded.append(bars, "market-data.bars", covers=_core.TapeReader(recorded.tape()).end)
    lake = tw.open(recorded.path)
    whole = lake.bars("BTCUSDT", START, START + 60 * SECOND, interval="1m")
    assert len(whole) == 1
    assert whole.coverage().is_complete
    cut = lake.bars("BTCUSDT", START, START + 90 * SECOND, interval="1m")
    assert len(cut) == 2
    [row] = cut.coverage().to_pylist()
    assert (row["finding"], row["ts_from"]) == ("not_recorded", text(START + 100 * SECOND))


def test_a_ledger_with_nothing_in_it_has_the_columns_of_any_other(recorded, maker):
    # It is not asked: what it would say is known. The same columns, in their order and types.
    lake = tw.open(recorded.path)
    without = lake.coverage("BTCUSDT").to_arrow()
    recorded.append(gap(maker, "disconnect", ts_event=START + SECOND), GAPS)
    found = lake.coverage("BTCUSDT").to_arrow()
    assert (without.num_rows, found.num_rows) == (0, 1)
    assert without.schema == found.schema
