"""Windows of trades by the venue's time: what is in them, when they are final, what changes."""

from collections import defaultdict

import numpy as np
import pytest

from conftest import START
from tapeworks import _core
from tapeworks._core import Processor, Records
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError
from tapeworks.settings import resolve_config

METRIC, TRADE, MARKER = (
    np.dtype(_core.dtype_descr(kind)) for kind in ("metric", "trade", "marker")
)
MS = 10**6
FIRST = START - START % (60_000 * MS)
LATE = 8


def trades(*rows, flags=1):
    """Makes trades of (ms, price, size), received in this order a millisecond apart."""
    made = np.zeros(len(rows), TRADE)
    made["length"], made["kind"] = TRADE.itemsize // 8, _core.kind_of("trade")
    made["feed"], made["instrument"], made["flags"], made["channel"] = 1, 1, flags, 1
    made["side"] = 1
    for row, (ms, price, size) in zip(made, rows, strict=True):
        row["ts_event"] = row["ts_recv"] = FIRST + round(ms * MS)
        row["price"], row["size"] = price * 10**9, size * 10**8
    return made


def gap(start_ms, end_ms, recv_ms=None):
    """Makes a gap in trades; one that is told late names a later receipt."""
    made = np.zeros(1, MARKER)
    made["length"], made["kind"] = MARKER.itemsize // 8, _core.kind_of("marker")
    made["instrument"], made["channel"] = 1, _core.numbers("channel")["trade"]
    made["code"] = _core.numbers("marker_code")["gap"]
    made["cause"] = _core.numbers("gap_cause")["disconnect"]
    made["state"] = _core.numbers("gap_state")["closed"]
    made["ts_start"] = _core.NONE if start_ms is None else FIRST + start_ms * MS
    made["ts_event"] = FIRST + end_ms * MS
    made["ts_recv"] = FIRST + (end_ms if recv_ms is None else recv_ms) * MS
    return made


def run_parts(parts, windows, **settings):
    """As `run`, of records of several kinds, and without what is not covered."""
    processor = Processor("metrics", {"sets": "", "trade_windows": windows, **settings})
    data = b"".join(part.tobytes() for part in parts)
    return np.frombuffer(processor.process(Records.from_bytes(data)), METRIC)


def run(rows, windows, sizes=None, **settings):
    chosen = {"sets": "", "trade_windows": windows, "partial": 1, **settings}
    processor, out = Processor("metrics", chosen), b""
    for at in range(0, len(rows), sizes or len(rows)):
        part = rows[at : at + (sizes or len(rows))]
        out += bytes(processor.process(Records.from_bytes(part.tobytes())))
    return np.frombuffer(out, METRIC)


def told(rows, name):
    """Returns end in ms, value, number of trades and whether it is a correction, of each row."""
    found = rows[rows["metric"] == name.encode()]
    return [
        (
            (int(row["ts_event"]) - FIRST) / MS,
            None if np.isnan(row["value"]) else float(row["value"]),
            int(row["count"]),
            bool(row["flags"] & LATE),
        )
        for row in found
    ]


def test_vwap_of_each_ten_milliseconds_is_that_of_its_trades():
    # 2,000 trades a third of a millisecond apart on average: each window against plain Python.
    chance = np.random.default_rng(1)
    ms = np.cumsum(chance.exponential(0.33, 2_000))
    columns = zip(ms, chance.integers(90, 110, 2_000), chance.integers(1, 9, 2_000), strict=True)
    rows = trades(*((float(a), int(b), int(c)) for a, b, c in columns), (10_000, 1, 1))
    wanted = defaultdict(list)
    for row in rows[:-1]:
        wanted[(int(row["ts_event"]) - FIRST) // (10 * MS)].append(row)
    found = told(run(rows, "tumbling 10ms"), "tumbling_10ms_vwap")
    assert len(found) == len(wanted)
    for (end, value, count, _), (number, part) in zip(found, sorted(wanted.items()), strict=True):
        turnover = sum(int(row["price"]) * int(row["size"]) for row in part)
        size = sum(int(row["size"]) for row in part)
        assert (end, count) == (10 * (number + 1), len(part))
        assert value == pytest.approx(turnover / size / 1e9, rel=1e-12)


def test_trade_at_the_end_of_a_window_is_in_the_next_one():
    rows = trades((0, 10, 1), (9.999999, 12, 1), (10, 20, 1), (30, 1, 1))
    made = run(rows, "tumbling 10ms,sliding 20ms 10ms")
    assert told(made, "tumbling_10ms_close") == [(10, 12, 2, False), (20, 20, 1, False)]
    assert told(made, "sliding_20ms_10ms_trades") == [
        (10, 2, 2, False),
        (20, 3, 3, False),
        (30, 1, 1, False),
    ]


def test_late_trade_corrects_what_was_final_and_a_later_one_is_counted():
    # At 100 ms the first window is over. Allowed lateness is 50 ms: the one of 3 ms is too late.
    rows = trades((1, 10, 1), (12, 10, 1), (40, 11, 1), (2, 16, 2), (100, 9, 1), (3, 99, 1))
    made = run(rows, "tumbling 10ms", window_lateness_ms=50)
    assert told(made, "tumbling_10ms_vwap") == [
        (10, 10, 1, False),
        (20, 10, 1, False),
        (10, 14, 3 - 1, True),
        (50, 11, 1, False),
    ]
    assert told(made, "late_trades") == [(3, 1, 1, False)]


def test_trades_that_the_venue_sent_late_or_again_are_late_alike():
    # Flagged as out of order or from history: other metrics pass them over, windows take them in.
    rows = np.concatenate(
        [
            trades((1, 10, 1), (25, 10, 1)),
            trades((2, 13, 2), flags=1 | 8),
            trades((3, 14, 1), flags=1 | 4),
        ]
    )
    made = run(rows, "tumbling 10ms")
    assert told(made, "tumbling_10ms_close") == [
        (10, 10, 1, False),
        (10, 13, 2, True),
        (10, 14, 3, True),
    ]


def test_what_is_out_of_order_says_nothing_of_the_time():
    # Of trades four a second, one is stamped 50 s ahead: all windows are as without it.
    plain = trades(*((250 * one, 100 + one % 3, 1) for one in range(480)))
    stray = trades((70_050, 100, 1), flags=1 | 8)
    windows = "tumbling 1s,sliding 1s 500ms,session 300ms,count 4"
    for at in (0, 81):
        stray["ts_recv"] = plain["ts_recv"][at]
        made = run(np.concatenate([plain[:at], stray, plain[at:]]), windows)
        is_late = made["metric"] == b"late_trades"
        assert made[~is_late].tobytes() == run(plain, windows).tobytes()
        assert told(made, "late_trades") == [(70_050, 1, 1, False)]


def test_history_says_nothing_of_the_time_behind_what_came_live():
    # It is in the window of its own time, which has not come yet. Where all is history, it does.
    plain = trades(*((250 * one, 100, 1) for one in range(480)))
    stray = trades((70_050, 100, 1), flags=1 | 4)
    stray["ts_recv"] = plain["ts_recv"][81]
    wanted = told(run(plain, "tumbling 1s"), "tumbling_1s_trades")
    wanted[70] = (71_000, 5, 5, False)
    made = run(np.concatenate([plain[:81], stray, plain[81:]]), "tumbling 1s")
    assert told(made, "tumbling_1s_trades") == wanted
    plain["flags"] |= 4
    assert len(told(run(plain, "tumbling 1s"), "tumbling_1s_trades")) == 119


def test_delay_holds_a_window_open_for_trades_out_of_order():
    rows = trades((1, 10, 1), (12, 10, 1), (2, 20, 1), (21, 10, 1), (60, 1, 1))
    made = run(rows, "tumbling 10ms", window_delay_ms=10)
    assert told(made, "tumbling_10ms_close")[0] == (10, 20, 2, False)


def test_session_grows_until_a_pause_and_a_late_trade_joins_two():
    # Pauses of 5 ms or more end a session. What a late trade joins is one, and two are no more.
    rows = trades((1, 10, 1), (3, 11, 1), (20, 12, 1), (22, 13, 1), (60, 1, 1))
    made = run(rows, "session 5ms")
    assert told(made, "session_5ms_trades") == [(8, 2, 2, False), (27, 2, 2, False)]
    late = trades((1, 10, 1), (7, 12, 1), (30, 1, 1), (4, 11, 1), (60, 1, 1))
    made = run(late, "session 5ms")
    assert told(made, "session_5ms_trades") == [
        (6, 1, 1, False),
        (12, 1, 1, False),
        (6, None, 1, True),
        (12, 3, 3, True),
        (35, 1, 1, False),
    ]
    assert told(made, "session_5ms_open")[-2][1] == 10


def test_count_takes_trades_in_the_order_of_the_tape():
    rows = trades((1, 10, 1), (5, 11, 2), (4, 12, 3), (7, 13, 4), (8, 14, 5))
    made = run(rows, "count 2")
    assert told(made, "count_2_volume") == [(5, 3, 2, False), (7, 7, 2, False)]


@pytest.mark.parametrize("late", [False, True])
def test_window_that_the_stream_does_not_cover_is_null(late: bool):
    # It began within the first; a gap cuts the third, also where what then comes is of before.
    parts = [trades((5, 1, 1), (15, 2, 1), (22, 3, 1)), gap(None, 25)]
    parts += [trades((3, 9, 1), flags=1 | 4)] if late else []
    parts += [trades((26, 4, 1), (35, 5, 1), (50, 6, 1))]
    made = run_parts(parts, "tumbling 10ms")
    assert [row[:2] for row in told(made, "tumbling_10ms_close")] == [
        (10, None),
        (20, 2),
        (30, None),
        (30, None),
        (40, 5),
    ]
    assert len(told(made, "late_trades")) == late


def test_window_that_begins_with_the_stream_is_null():
    # Others of the time of the first event may be missing.
    made = run_parts(
        [trades((10, 1, 1), (20, 1, 1), (30, 1, 1))], "tumbling 10ms,sliding 20ms 10ms"
    )
    assert [row[1] for row in told(made, "tumbling_10ms_trades")] == [None, 1]
    assert [row[1] for row in told(made, "sliding_20ms_10ms_trades")] == [None, None]


def test_session_is_whole_with_the_pause_before_it():
    # The first may have begun before the stream, and the second within the gap.
    parts = [trades((0, 1, 1), (3, 1, 1)), gap(3, 100), trades((101, 1, 1), (103, 1, 1))]
    parts += [trades((120, 1, 1), (122, 1, 1), (140, 1, 1))]
    found = told(run_parts(parts, "session 5ms"), "session_5ms_trades")
    assert found == [(8, None, 2, False), (108, None, 2, False), (127, 2, 2, False)]
    # One that goes on behind a gap lacks what the gap took, and is told once it is over.
    parts = [trades((0, 1, 1), (10, 1, 1)), gap(10, 12), trades((13, 1, 1), (30, 1, 1))]
    found = told(run_parts(parts, "session 5ms"), "session_5ms_trades")
    assert found == [(5, None, 1, False), (15, None, 1, False), (18, None, 2, False)]
    found = told(run_parts(parts, "session 5ms", partial=1), "session_5ms_trades")
    assert found == [(5, 1, 1, False), (15, 1, 1, False), (15, None, 1, True), (18, 2, 2, False)]


@pytest.mark.parametrize("partial", [0, 1])
def test_late_trade_behind_a_gap_corrects_the_window_that_was_whole_before(partial: int):
    # A hundred trades in the first second, then a gap: what comes late is their hundred and first.
    # One of a window that the gap cuts is in none that is told, unless what came is to be shown.
    rows = trades((-1, 100, 1), *((10 * one, 100, 1) for one in range(150)))
    late = trades((500, 100, 1), (1_200, 100, 1), flags=1 | 8)
    made = run_parts([rows, gap(1_490, 1_700), late], "tumbling 1s,session 2s", partial=partial)
    found = told(made, "tumbling_1s_trades")
    assert found[1] == (1_000, 100, 100, False)
    assert found[-1] == (1_000, 101, 101, True)
    assert found[2:-1] == [(2_000, 50 if partial else None, 50, False)]
    assert len(told(made, "late_trades")) == (0 if partial else 2)


@pytest.mark.parametrize("told_s", [4, 600])
def test_gap_that_is_told_later_takes_back_what_silence_made_final(told_s: int):
    # The gap begins behind the last trade, whose window was told as whole: for as long as nothing
    # else comes, it is taken back. The one before it ended before the gap.
    other = trades((told_s * 1_000, 1, 1))
    other["instrument"] = 2
    parts = [trades((-1, 1, 1), (100, 1, 1), (1_100, 1, 1)), other]
    parts += [gap(1_150, 3_000, told_s * 1_000)]
    made = run_parts(parts, "tumbling 1s,session 500ms")
    made = made[made["instrument"] == 1]
    assert told(made, "tumbling_1s_trades") == [
        (0, None, 1, False),
        (1_000, 1, 1, False),
        (2_000, 1, 1, False),
        (2_000, None, 1, True),
    ]
    assert told(made, "session_500ms_trades")[-2:] == [
        (1_600, 1, 1, False),
        (1_600, None, 1, True),
    ]
    made = run_parts([*parts, trades((9_000, 1, 1))], "tumbling 1s", partial=1)
    assert not any(row[3] for row in told(made, "tumbling_1s_trades"))


def test_late_trade_of_a_session_that_is_over_for_good_is_late():
    # At 75 ms: of the session of 0 and 60 ms, which is forgotten, and none of its own.
    rows = trades((0, 1, 1), (60, 1, 1), (1_180, 1, 1), (75, 1, 1))
    made = run(rows, "session 100ms", window_lateness_ms=1_010)
    assert told(made, "session_100ms_trades") == [(160, 2, 2, False)]
    assert told(made, "late_trades") == [(75, 1, 1, False)]


def test_each_count_has_a_moment_of_its_own():
    # Six trades of one time, then one that is late: each row is behind the one before.
    rows = trades(
        *((5, 100 + one, 1) for one in range(6)), (3, 1, 1), (4, 2, 1), (5, 3, 1), (9, 4, 1)
    )
    found = told(run(rows, "count 2"), "count_2_open")
    assert [row[:2] for row in found] == [
        (5, 100),
        (5.000001, 102),
        (5.000002, 104),
        (5.000003, 1),
        (9, 3),
    ]
    made = run_parts([rows[:3], gap(5, 6)], "count 2")
    assert [row[:2] for row in told(made, "count_2_open")] == [(5, 100), (5.000001, None)]


def counts_of(ms, length, step):
    """Trades by end of each window of plain Python."""
    counts = defaultdict(int)
    for one in ms:
        first = (one // step + 1) * step
        for end in range(first, one + length + 1, step):
            counts[end] += 1
    return counts


def sessions_of(ms, pause):
    """Trades by end of each session."""
    ends = [*np.flatnonzero(np.diff(ms) >= pause), len(ms) - 1]
    counts = np.diff([-1, *ends])
    return {ms[end] + pause: count for end, count in zip(ends, counts.tolist(), strict=True)}


@pytest.mark.parametrize("interval_ms", [0, 1_000])
def test_what_is_told_as_whole_has_all_that_was_traded(interval_ms: int):
    # Trades with gaps, some late or told again as history; a gap is told with the trade behind it,
    # when silence has ended windows within it. The newest row of each is null or true, or lacks
    # exactly what was counted as late.
    chance = np.random.default_rng(7)
    ms, now, parts, lost = [], 0, [], None
    for _ in range(2_000):
        now += int(chance.choice([0, 1, 3, 10, 60, 900, 5_000], p=[0.2] * 4 + [0.1, 0.07, 0.03]))
        what = chance.integers(0, 30)
        if what == 0 and lost is None and ms:
            lost = ms[-1]
        elif what < 4:
            other = trades((now, 1, 1))
            other["instrument"] = 2
            parts.append(other)
        else:
            ms.append(now)
            if lost is not None and what > 6:
                continue
            if lost is not None:
                parts.append(gap(lost, now))
                if what == 5:
                    # Part of it is told again before the stream goes on.
                    ms.append(int(chance.integers(lost, now + 1)))
                    parts.append(trades((ms[-1], 1, 1), flags=1 | 4))
                lost = None
            parts.append(trades((now, 1, 1)))
            if what == 29:
                # One of the last hundred ms, of which nobody heard.
                late = now - int(chance.integers(0, 100))
                parts.append(trades((late, 1, 1), flags=1 | [4, 8][late % 2]))
                ms.append(late)
    ms.sort()
    made = run_parts(parts, "tumbling 10ms,sliding 100ms 20ms,session 25ms,session 1s",
                     interval_ms=interval_ms, grace_ms=200)  # fmt: skip
    made = made[made["instrument"] == 1]
    late = [int(ts) for ts, *_ in told(made, "late_trades")]
    for name, wanted, missed in (
        ("tumbling_10ms", counts_of(ms, 10, 10), counts_of(late, 10, 10)),
        ("sliding_100ms_20ms", counts_of(ms, 100, 20), counts_of(late, 100, 20)),
        ("session_25ms", sessions_of(ms, 25), None),
        ("session_1s", sessions_of(ms, 1_000), None),
    ):
        found = {end: value for end, value, *_ in told(made, f"{name}_trades")}
        whole = {end: value for end, value in found.items() if value is not None}
        if missed is None:
            # What was counted may have made another session of it.
            whole = {
                end: value
                for end, value in whole.items()
                if not any(-1_000 < end - one < 30_000 for one in late)
            }
        assert 10 < len(whole) < len(found)
        for end, value in whole.items():
            lacks = 0 if missed is None else missed[end]
            assert 0 <= wanted[end] - value <= lacks, (name, end)


def test_batches_and_restarts_change_nothing():
    chance = np.random.default_rng(4)
    ms = np.cumsum(chance.exponential(1.5, 300)) + chance.normal(0, 4, 300) + 50
    rows = trades(*((float(one), 100 + k % 7, 1 + k % 3) for k, one in enumerate(ms)))
    windows = "tumbling 10ms,sliding 100ms 10ms,session 5ms,count 7"
    settings = {"window_lateness_ms": 5, "window_delay_ms": 2}
    whole = run(rows, windows, **settings)
    assert len(told(whole, "late_trades")) > 3
    assert any(row[3] for row in told(whole, "session_5ms_vwap"))
    for size in (1, 7):
        assert run(rows, windows, size, **settings).tobytes() == whole.tobytes()
    chosen = {"sets": "", "trade_windows": windows, "partial": 1, **settings}
    for cut in range(0, 300, 37):
        before, after = Processor("metrics", chosen), Processor("metrics", chosen)
        first = bytes(before.process(Records.from_bytes(rows[:cut].tobytes())))
        after.restore(before.snapshot())
        rest = bytes(after.process(Records.from_bytes(rows[cut:].tobytes())))
        assert first + rest == whole.tobytes()
        assert dict(after.counters())["late_trades"] == told(whole, "late_trades")[-1][1]


def test_silence_ends_a_window_by_receipt():
    # Nothing of the instrument comes behind; another one shows that time passes.
    rows = trades((1, 10, 1))
    other = trades((3_000, 1, 1))
    other["instrument"] = 2
    made = run(np.concatenate([rows, other]), "tumbling 10ms", grace_ms=100)
    assert told(made[made["instrument"] == 1], "tumbling_10ms_close") == [(10, 10, 1, False)]


@pytest.mark.parametrize(
    "shape", ["tumbling", "tumbling 0ms", "sliding 1s 300ms", "sliding 100s 1ms", "hopping 1s",
              "session 5", "count 0", "count -3", "tumbling 2d", "tumbling 99999999s"]
)  # fmt: skip
def test_windows_that_cannot_be_are_refused_before_anything_starts(shape):
    table = Section("metrics", {"trade_windows": Value([shape], "test")})
    with pytest.raises(ConfigError, match="trade_windows: expected any of"):
        resolve_config(Section("", {"metrics": table}))


@pytest.mark.parametrize("ahead_ms", [900, 3_100, 3_600_000])
def test_a_host_whose_clock_is_ahead_of_the_venues_leaves_nothing_out(ahead_ms):
    # What silence ends, it ends as long behind the newest event as the grid says, whatever the two
    # clocks say of each other.
    rows = trades(*((40 * number, 100 + number % 7, 1) for number in range(300)))
    later = trades((90_000, 100, 1))
    later["instrument"] = 2

    def newest(*parts):
        settings = {"sets": "l1,flow", "windows_ms": [1000], "interval_ms": 1000}
        processor = Processor("metrics", {**settings, "trade_windows": "tumbling 1s"})
        made = processor.process(Records.from_bytes(b"".join(part.tobytes() for part in parts)))
        found = np.frombuffer(made, METRIC)
        found = found[found["instrument"] == 1]
        assert not (found["flags"] & LATE).any()
        assert b"late_trades" not in found["metric"]
        values = {}
        for row in found:
            state = row.copy()
            state["ts_recv"] = 0
            values[bytes(row["metric"]), int(row["ts_event"])] = state.tobytes()
        return values

    expected = newest(rows, later)
    shifted, behind = rows.copy(), later.copy()
    for part in (shifted, behind):
        part["ts_recv"] += ahead_ms * MS
    assert newest(shifted, behind) == expected
    assert max(ts for _, ts in expected) > FIRST + 12_000 * MS
