"""What an answer says of itself: recorded ranges, gaps, and how far the ledger is known."""

import numpy as np
import pytest

import tapeworks as tw
from conftest import START
from tapeworks import _core
from tapeworks.cli.screen import gaps_text
from tapeworks.jobs.repair import inspect
from tapeworks.tape import list_offsets
from tapeworks.views.base import recorded_sources
from tapeworks.views.reach import Unknown
from tapeworks.views.recorded import repaired_in
from tapeworks.views.status import Status
from tapeworks.views.times import format_time

TOPIC = "market-data.normalized"
SECOND, HOUR = 10**9, 3_600 * 10**9
CODES = _core.numbers("marker_code")
RECORDER = 0xFFFF


def note(spine, maker, code: str, ts: int, connection: int = 0, before: int = _core.NONE) -> None:
    """Appends what a recorder notes of itself and its connections."""
    marker = maker.rows("marker", 1, code=CODES[code], first=connection, ts_event=ts, ts_recv=ts)
    marker["ts_start"] = before
    spine.append(marker)


def begin(spine, maker, ts: int, before: int = _core.NONE) -> None:
    note(spine, maker, "connected", ts, RECORDER, before)
    note(spine, maker, "connected", ts)


def end(spine, maker, ts: int) -> None:
    note(spine, maker, "disconnected", ts)
    note(spine, maker, "end_of_session", ts)


def findings(coverage) -> list[tuple[str, str, str]]:
    return [(row["finding"], row["ts_from"], row["ts_to"]) for row in coverage.to_pylist()]


def text(ts: int) -> str:
    seconds, rest = divmod(ts, SECOND)
    return format_time(seconds * SECOND).removesuffix("Z") + f".{rest:09d}Z"


@pytest.fixture
def twice(spine, maker):
    """Recorded for 100 s from START on, and for 100 s an hour later; the ledger is up to date."""
    begin(spine, maker, START)
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    end(spine, maker, START + 100 * SECOND)
    later = maker.trades(1_000, 1_000)
    later["ts_event"] += HOUR - 100 * SECOND
    later["ts_recv"] += HOUR - 100 * SECOND
    begin(spine, maker, START + HOUR, START + 100 * SECOND)
    spine.append(later)
    end(spine, maker, START + HOUR + 100 * SECOND)
    spine.derive()
    return spine


@pytest.mark.parametrize("where", ["tape", "files"])
def test_time_that_was_not_recorded_is_never_complete(twice, where):
    # Before, between and after two recordings, whether the markers are on the tape or in files.
    if where != "tape":
        twice.drain()
    opened = tw.open(twice.path)
    whole = opened.trades("BTCUSDT", START - HOUR, START + 3 * HOUR).coverage()
    assert findings(whole) == [
        ("not_recorded", text(START - HOUR), text(START)),
        ("not_recorded", text(START + 100 * SECOND), text(START + HOUR)),
        ("not_recorded", text(START + HOUR + 100 * SECOND), text(START + 3 * HOUR)),
    ]
    assert not whole.is_complete
    within = opened.trades("BTCUSDT", START + SECOND, START + 50 * SECOND).coverage()
    assert within.is_complete
    # This recorder did not note what it subscribed, which the answer says.
    span = f"{format_time(START + SECOND)} to {format_time(START + 50 * SECOND)}"
    assert within.summary() == [
        f"complete from {span}: no gaps",
        f"not known by symbol: {span} (binance-spot): "
        "counts as recorded for every symbol since its first mention",
    ]
    outside = opened.coverage("BTCUSDT", START + 200 * SECOND, START + 300 * SECOND)
    assert [row["finding"] for row in outside.to_pylist()] == ["not_recorded"]
    [recorded] = whole.recorded
    assert recorded.ranges == [
        (START, START + 100 * SECOND),
        (START + HOUR, START + HOUR + 100 * SECOND),
    ]


def test_what_begins_and_ends_together_is_complete_though_not_at_one_instant(spine, maker):
    # Two sources of one command, of which one is a second later; another time it is ten.
    other = type(spine)(spine.path, "binance-usdm")
    for one, late in ((spine, 0), (other, SECOND)):
        begin(one, maker, START + late)
        one.append(maker.definitions())
        one.append(maker.trades(1_000))
        end(one, maker, START + 100 * SECOND + late)
        one.derive()
    opened = tw.open(spine.path)
    both = opened.coverage()
    assert both.is_complete
    span = f"{format_time(START + SECOND)} to {format_time(START + 100 * SECOND)}"
    assert both.summary()[0] == f"complete from {span}: no gaps"
    # Who asks for a range is told of each instant of it.
    asked = opened.coverage(None, START, START + 100 * SECOND)
    assert findings(asked) == [("not_recorded", text(START), text(START + SECOND))]
    begin(other, maker, START + 110 * SECOND, START + 101 * SECOND)
    end(other, maker, START + 120 * SECOND)
    other.derive()
    found = findings(opened.coverage())
    assert ("not_recorded", text(START + 100 * SECOND), text(START + 120 * SECOND)) in found
    other.close()


def test_gaps_that_were_not_derived_are_not_known(twice, maker):
    # A gap stands on the normalized tape; the ledger is behind it. Then it is in the ledger.
    begin(twice, maker, START + 2 * HOUR, START + HOUR + 100 * SECOND)
    more = maker.trades(100, 2_000)
    more["ts_event"] = more["ts_recv"] = START + 2 * HOUR + np.arange(100) * SECOND
    gap = maker.rows("marker", 1, instrument=1, code=3, cause=1, channel=1, count=7, state=2)
    gap["first"], gap["last"] = 100, 106
    gap["ts_start"], gap["ts_event"] = START + 2 * HOUR + SECOND, START + 2 * HOUR + 2 * SECOND
    gap["ts_recv"] = START + 2 * HOUR + 3 * SECOND
    twice.append(gap)
    twice.append(more)
    opened = tw.open(twice.path)
    span = START + 2 * HOUR, START + 2 * HOUR + 50 * SECOND
    unread = opened.trades(None, *span).coverage()
    assert findings(unread) == [("not_yet_known", text(span[0]), text(span[1]))]
    assert unread.summary()[1] == f"not yet known after {format_time(span[0])} (binance-spot)"
    earlier = opened.trades("BTCUSDT", START + HOUR, START + HOUR + 100 * SECOND).coverage()
    assert earlier.is_complete
    twice.derive()
    known = opened.trades("BTCUSDT", *span).coverage()
    assert [row["finding"] for row in known.to_pylist()] == ["gap"]
    assert known.gaps.to_pylist()[0]["missing"] == 7
    assert opened.trades("ETHUSDT", *span).coverage().is_complete


def test_without_a_ledger_nothing_is_known(spine, maker):
    # Nothing was ever derived: no range may be called complete.
    begin(spine, maker, START)
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    span = START + SECOND, START + 50 * SECOND
    coverage = tw.open(spine.path).trades("BTCUSDT", *span).coverage()
    assert findings(coverage) == [("not_yet_known", text(span[0]), text(span[1]))]


def test_a_killed_recorder_ends_where_it_received_last(spine, maker):
    # No note of its end: the next start says until when it received, the tape of the last one.
    begin(spine, maker, START)
    spine.append(maker.definitions())
    trades = maker.trades(1_000)
    spine.append(trades)
    last = int(trades["ts_recv"].max())
    begin(spine, maker, START + HOUR, last)
    spine.derive()
    opened = tw.open(spine.path)
    [recorded] = opened.coverage().recorded
    assert recorded.ranges[0] == (START, last)
    assert recorded.is_open
    between = opened.coverage("BTCUSDT", START + 200 * SECOND, START + 300 * SECOND)
    assert [row["finding"] for row in between.to_pylist()] == ["not_recorded"]
    # After the newest record it may have gone on.
    after = opened.coverage("BTCUSDT", START + 2 * HOUR, START + 3 * HOUR)
    assert [row["finding"] for row in after.to_pylist()] == ["not_yet_known"]


def test_connections_that_were_all_down_recorded_nothing(spine, maker):
    # One of two lines drops: still recorded. Both: not, until one is back.
    begin(spine, maker, START)
    note(spine, maker, "connected", START, 1)
    spine.append(maker.definitions())
    spine.append(maker.trades(3_000))
    note(spine, maker, "disconnected", START + 100 * SECOND, 0)
    note(spine, maker, "disconnected", START + 200 * SECOND, 1)
    note(spine, maker, "connected", START + 250 * SECOND, 2)
    end(spine, maker, START + 300 * SECOND)
    spine.derive()
    [recorded] = tw.open(spine.path).coverage().recorded
    assert recorded.ranges == [
        (START, START + 200 * SECOND),
        (START + 250 * SECOND, START + 300 * SECOND),
    ]


def test_without_notes_of_subscriptions_a_symbol_counts_from_its_first_mention_on(spine, maker):
    # An older recorder, or an import, of BTCUSDT; later of ETHUSDT as well: nothing says what was
    # subscribed, but of a symbol that was never mentioned nothing can be there.
    begin(spine, maker, START)
    definitions = maker.definitions(("BTCUSDT", "ETHUSDT"))
    definitions["valid_from"] = START, START + HOUR
    spine.append(definitions[:1])
    end(spine, maker, START + 100 * SECOND)
    begin(spine, maker, START + HOUR, START + 100 * SECOND)
    spine.append(definitions[1:])
    end(spine, maker, START + HOUR + 100 * SECOND)
    spine.derive()
    opened = tw.open(spine.path)
    earlier, later = (START, START + 99 * SECOND), (START + HOUR, START + HOUR + 99 * SECOND)
    assert opened.coverage("BTCUSDT", *earlier).is_complete
    [row] = opened.coverage("ETHUSDT", *earlier).to_pylist()
    assert (row["finding"], row["symbol"]) == ("not_subscribed", "ETHUSDT")
    covered = opened.coverage("ETHUSDT", *later)
    assert covered.is_complete
    [recorded] = covered.recorded
    assert recorded.unlisted == recorded.ranges


def test_without_notes_of_subscriptions_a_channel_is_known_by_its_records(spine, maker):
    # An import of trades of BTCUSDT alone: no book, and no trade of another symbol, is complete.
    begin(spine, maker, START)
    spine.append(maker.definitions(("BTCUSDT", "ETHUSDT")))
    trades = maker.trades(1_000)
    trades["instrument"] = 1
    spine.append(trades)
    end(spine, maker, START + 100 * SECOND)
    spine.derive()
    for where in ("tape", "files"):
        if where == "files":
            spine.drain()
        opened = tw.open(spine.path)
        # Also where no trade of a part of it came.
        span = START, START + 99 * SECOND
        for symbol in ("BTCUSDT", None):
            assert opened.coverage(symbol, *span, channel="trade").is_complete
            assert opened.trades(symbol, START, START + SECOND // 100).coverage().is_complete
            for channel in ("depth", "agg_trade", "kline"):
                found = opened.coverage(symbol, *span, channel=channel)
                assert [row["finding"] for row in found.to_pylist()] == ["not_known"], found
                assert verdict(found) == "not known"
                told = f"not known by symbol and channel: {symbol or 'any symbol'} {channel}: "
                assert found.summary()[1].startswith(told)
        assert not opened.coverage("ETHUSDT", *span, channel="trade").is_complete
        assert opened.coverage(None, *span).is_complete


def test_a_channel_of_an_import_is_known_from_its_first_record_to_its_last(spine, maker):
    # A capture of quotes for 200 s, and of trades from 20 s to 120 s: other trades, nobody knows.
    begin(spine, maker, START)
    spine.append(maker.definitions())
    trades = maker.trades(1_000)
    for name in ("ts_event", "ts_recv"):
        trades[name] += 20 * SECOND
    trades["instrument"] = 1
    at = START + np.arange(201) * SECOND
    quotes = maker.rows("quote", 201, instrument=1, ts_event=at, ts_recv=at)
    both = sorted([*trades, *quotes], key=lambda row: int(row["ts_recv"]))
    for row in both:
        spine.append(np.array([row]))
    end(spine, maker, START + 200 * SECOND)
    spine.derive()
    for where in ("tape", "files"):
        if where == "files":
            spine.drain()
        opened = tw.open(spine.path)
        for symbol in ("BTCUSDT", None):
            assert opened.coverage(symbol, channel="quote").is_complete
            heard = START + 20 * SECOND, START + 119 * SECOND
            assert opened.coverage(symbol, *heard, channel="trade").is_complete
            # With and without a range: what is left out is all that was recorded.
            for span in ((START, START + 200 * SECOND), (None, None)):
                found = opened.coverage(symbol, *span, channel="trade")
                rows = found.to_pylist()
                assert [row["finding"] for row in rows] == ["not_known", "not_known"], found
                # Within seconds, as all that begins and ends together.
                assert text(START + 14 * SECOND) < rows[0]["ts_to"] < text(START + 20 * SECOND)
                assert text(START + 120 * SECOND) < rows[1]["ts_from"] < text(START + 126 * SECOND)
                assert verdict(found) == "not complete"
            after = opened.coverage(
                symbol, START + 150 * SECOND, START + 180 * SECOND, channel="trade"
            )
            assert verdict(after) == "not known"


def test_tapes_without_notes_of_a_recorder_hold_what_their_records_say(spine, maker):
    # Tapes of another origin: outside of the first and the last record nothing is claimed.
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    spine.derive()
    opened = tw.open(spine.path)
    coverage = opened.trades("BTCUSDT", START - HOUR, START + 99 * SECOND).coverage()
    assert [row["finding"] for row in coverage.to_pylist()] == ["not_recorded"]
    after = opened.coverage("BTCUSDT", START + HOUR, START + 2 * HOUR)
    assert [row["finding"] for row in after.to_pylist()] == ["not_yet_known"]


def verdict(coverage) -> str:
    """The first words of what is said of a range."""
    line = coverage.summary()[0]
    return line.partition(" from ")[0].partition(" 20")[0]


def test_the_verdict_comes_first(twice, maker):
    # No gap is named as none where anything else is missing, and there is no time but that asked.
    opened = tw.open(twice.path)
    ends = START + HOUR + 100 * SECOND
    for span, told in (
        ((START + SECOND, START + 50 * SECOND), "complete"),
        ((START - HOUR, START + 50 * SECOND), "not complete"),
        ((START - 2 * HOUR, START - HOUR), "not recorded"),
        ((START + 200 * SECOND, START + 300 * SECOND), "not recorded"),
        ((ends + HOUR, ends + 2 * HOUR), "not recorded"),
        ((ends + HOUR, None), "not recorded"),
    ):
        found = opened.coverage("BTCUSDT", *span)
        assert verdict(found) == told, found
        assert any("no gaps" in line for line in found.summary()) == (told == "complete")
        assert "1970" not in repr(found)
    begin(twice, maker, START + 2 * HOUR, ends)
    twice.append(maker.trades(1))
    unread = opened.coverage("BTCUSDT", START + 2 * HOUR, START + 3 * HOUR)
    assert verdict(unread) == "not known", unread
    twice.derive()
    gap = maker.rows("marker", 1, code=3, cause=1, channel=1, instrument=1, count=7, state=2)
    gap["ts_start"], gap["ts_event"] = START + SECOND, START + 2 * SECOND
    twice.append(gap)
    twice.derive()
    assert verdict(opened.coverage("BTCUSDT", START, START + 50 * SECOND)) == "1 gap"


def test_a_folder_in_which_nothing_is_recorded_says_so(spine, maker):
    spine.append(maker.definitions())
    assert tw.open(spine.path).coverage().summary()[0] == "nothing is recorded here"


def append_raw(spine, times: list[int]) -> None:
    folder = spine.tape("market-data.raw")
    folder.mkdir(parents=True)
    with _core.TapeWriter(folder, kind="blobs") as writer:
        for ts in times:
            writer.append_blob(1, b"{}", ts=ts)
        writer.sync()


def test_raw_frames_that_are_in_no_table_are_not_known(spine, maker):
    # The disk was full for the normalized tape: the raw one goes on for 10 s behind it.
    begin(spine, maker, START)
    spine.append(maker.definitions(), covers=3)
    trades = maker.trades(100)
    spine.append(trades, covers=5)
    last = int(trades["ts_recv"].max())
    append_raw(spine, [START] * 5 + [last + k * SECOND for k in range(1, 11)])
    spine.derive()
    opened = tw.open(spine.path)
    for found in (opened.coverage(), opened.trades("BTCUSDT").coverage()):
        assert findings(found) == [
            ("not_yet_known", text(last + 1), text(last + 10 * SECOND + 1))
        ], found
        told = f"not yet known after {format_time(last + 1)} (binance-spot); 10 raw frames are in"
        assert found.summary()[1] == told + " no table yet"
        assert verdict(found) == "not complete"
    assert opened.coverage("BTCUSDT", START, START + SECOND).is_complete
    within = opened.coverage("BTCUSDT", last + 2 * SECOND, last + 4 * SECOND)
    assert verdict(within) == "not known"
    # The whole folder's picture says the same.
    [source] = Status(spine.path).sample().sources
    assert source.unknown == Unknown(last, last + 10 * SECOND, 10)
    assert "no gaps" not in gaps_text(source)
    assert gaps_text(source).endswith("; 10 raw frames are in no table yet")


@pytest.mark.parametrize("topic", ["bars", "ticks", "book"])
def test_what_a_derived_tape_lacks_is_not_known(spine, maker, topic):
    # The ledger is up to date; the tape of the table is behind it by 50 s.
    begin(spine, maker, START)
    spine.append(maker.definitions())
    at = START + np.arange(100) * SECOND
    spine.append(maker.rows("quote", 100, instrument=1, ts_event=at, ts_recv=at))
    middle = spine.append(maker.trades(500))
    spine.append(maker.trades(500, 500))
    end(spine, maker, START + 100 * SECOND)
    spine.derive()
    kind, columns = {
        "bars": ("bar", {"interval_ms": 1_000, "closed": 1, "channel": 1}),
        "ticks": ("tick", {}),
        "book": ("level", {"channel": 4, "flags": 1}),
    }[topic]
    rows = maker.rows(kind, 50, instrument=1, ts_event=at[:50], ts_recv=at[:50], **columns)
    spine.append(rows, f"market-data.{topic}", covers=middle)
    opened = tw.open(spine.path)
    table = {"bars": "bars_1s", "ticks": "ticks", "book": "book_levels"}[topic]
    assert opened.rows(table, "BTCUSDT", START, START + 49 * SECOND).coverage().is_complete
    later = opened.rows(table, "BTCUSDT", START, START + 90 * SECOND).coverage()
    assert [row["finding"] for row in later.to_pylist()] == ["not_yet_known"]
    assert opened.trades("BTCUSDT", START, START + 90 * SECOND).coverage().is_complete


STRAY = [
    "tape/lost+found",
    "tape/backup",
    "tape/Old_Tapes/market-data.raw",
    "tape/binance-spot/lost+found",
    "tape/binance-spot/notes",
    "tape/binance-spot/market-data.normalized/lost+found",
    "tape/binance-spot/market-data.normalized/offsets/lost+found",
    "state/lost+found",
    "state/binance-spot/lost+found",
    "state/binance-spot/losses/lost+found",
    "lake/lost+found",
    "lake/_commits/lost+found",
    "lake/trades/lost+found",
    "lake/trades/venue=binance-spot/lost+found",
    "run/lost+found",
    "log/lost+found",
]


def test_folders_that_are_not_ours_are_no_source_and_no_damage(twice):
    # Every volume that is mounted has `lost+found` in it, wherever it is mounted.
    twice.drain()
    opened = tw.open(twice.path)

    def told() -> list[object]:
        state = Status(twice.path).sample()
        sources = [(one.name, [tape.topic for tape in one.tapes]) for one in state.sources]
        tape = twice.path / "tape" / "binance-spot" / TOPIC
        return [
            findings(opened.coverage()),
            opened.trades("BTCUSDT").to_arrow().num_rows,
            opened.gaps().to_arrow().num_rows,
            sources,
            state.troubles,
            recorded_sources(twice.path),
            inspect(twice.path),
            [name for name, _ in list_offsets(tape)],
        ]

    before = told()
    for name in STRAY:
        (twice.path / name).mkdir(parents=True)
    assert told() == before
    assert not before[4]
    assert not before[6]


def test_a_gap_that_two_entries_call_repaired_is_one() -> None:
    # The core tells what came, and the recorder that it filled the gap, each with its own times.
    of = {"venue": "x", "symbol": "A", "channel": "trade", "cause": "sequence"}
    by_id = [{**of, "first_missing": 7, "ts_from": ts, "ts_to": "3"} for ts in ("1", "2")]
    by_time = [{**of, "first_missing": None, "ts_from": ts, "ts_to": "3"} for ts in ("1", "2")]
    assert (repaired_in(by_id), repaired_in(by_time), repaired_in(by_id + by_time)) == (1, 2, 3)
