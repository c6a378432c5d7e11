"""`tape import` of order events: from files to the lake, by the command line."""

import os
import struct
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from tests.feeds.test_equity_files import DAY, LOBSTER_NAME, MESSAGES, NAME, ROWS, mold, pcap

import tapeworks as tw

START = "from tapeworks.cli import main; main()"


def tape(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_day_of_itch_is_orders_and_trades_of_the_lake(tmp_path: Path):
    # All types of messages; the file ends within one, which is a dead letter. Again: nothing new.
    (tmp_path / NAME).write_bytes(DAY + b"\0\x24A\0\1")
    shown = tape("import", "itch", NAME, cwd=tmp_path)
    assert shown.returncode == 3, shown.stderr
    assert "1 of them could not be decoded as itch" in shown.stderr
    lake = tw.open(tmp_path / "data")
    assert lake.exchange("itch") == "itch"
    rows = lake.orders("TEST").to_pylist()
    # What an order table is unreadable without is shown on 80 columns, too.
    assert {"action", "side"} <= set(repr(lake.orders("TEST")).splitlines()[1].split())
    assert [row["action"] for row in rows] == [
        *("add", "add", "execute", "cancel", "replace", "execute_at_price", "delete"),
        *("execute_hidden", "cross", "break"),
    ]
    assert (rows[4]["order_id"], rows[4]["previous_id"], rows[4]["price"]) == (
        *(1009, 1001), Decimal("9.99"),
    )  # fmt: skip
    assert (rows[1]["participant"], rows[1]["side"], rows[8]["cross"]) == ("ABCD", "ask", "closing")
    trades = lake.sql("select trade_id, size from original_trades order by trade_id").to_pylist()
    assert [row["trade_id"] for row in trades] == [50_001, 50_002, 50_003, 50_010]
    assert sum(row["size"] for row in trades) == 12_695
    # The last message breaks one of them.
    stands = [row["trade_id"] for row in lake.trades("TEST").to_pylist()]
    assert stands == [50_001, 50_002, 50_010]
    [letter] = lake.dead_letters().to_pylist()
    assert (letter["reason"], letter["frame"]) == ("truncated", b"\0\x24A\0\1")
    with pytest.raises(tw.QueryError, match="depth='orders'"):
        lake.book("TEST")
    assert lake.book("TEST", "2023-08-22T13:30:04Z", depth="orders").bids == [
        (Decimal("9.99"), 400)
    ]
    newest = lake.book("TEST", depth="orders")
    assert not newest.is_whole
    assert "messages of its day that could not be decoded: 1" in str(newest.notice)
    again = tape("import", "itch", NAME, cwd=tmp_path)
    assert "were there already: left out" in again.stderr
    assert lake.orders("TEST").to_pylist() == rows
    bars = lake.bars("TEST", interval="1m").to_pylist()
    assert [(bar["volume"], bar["count"]) for bar in bars] == [(12_345, 1)]


def test_a_message_that_is_lost_behind_all_of_a_symbol_is_told_of_its_book(tmp_path: Path):
    # The next message is of no order: nothing of the symbol itself is flagged.
    day = [
        next(message for message in MESSAGES if message[:1] == kind) for kind in (b"S", b"R", b"A")
    ]
    # The packets are of 09:30.
    opening = (34_200 * 10**9).to_bytes(6, "big")
    day = [message[:5] + opening + message[11:] for message in day]
    packets = [mold(number, [message]) for number, message in enumerate(day, 1)]
    (tmp_path / "a.pcap").write_bytes(pcap([*packets, mold(len(day) + 2, [day[0]])]))
    shown = tape("import", "itch", "a.pcap", "--date", "2023-08-22", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    book = tw.open(tmp_path / "data").book("TEST", depth="orders")
    assert (book.events, book.is_whole) == (1, False)
    assert "gaps that touch its day: 1" in str(book.notice)


def test_rows_of_lobster_say_that_they_are_of_a_window(tmp_path: Path):
    # Each is flagged as one beside which others may be missing.
    (tmp_path / LOBSTER_NAME).write_bytes(ROWS)
    shown = tape("import", "lobster", LOBSTER_NAME, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    rows = tw.open(tmp_path / "data").sql("select flags & 32 as part from orders").to_pylist()
    assert len(rows) == 7
    assert {row["part"] for row in rows} == {32}


@pytest.mark.slow
def test_each_file_stands_for_its_own_time(tmp_path: Path):
    # Two days in one command, the first of which is cut behind 09:30, the second whole.
    def at(second: int, message: bytes) -> bytes:
        message = message[:5] + (second * 10**9).to_bytes(6, "big") + message[11:]
        return len(message).to_bytes(2, "big") + message

    first = {kind: next(m for m in MESSAGES if m[:1] == kind) for kind in (b"S", b"R", b"A")}
    morning = [at(34_200 + n, first[kind]) for n, kind in enumerate((b"S", b"R", b"A"))]
    evening = at(72_000, first[b"S"][:11] + b"C")
    names = NAME, NAME.replace("0822", "0823")
    (tmp_path / names[0]).write_bytes(b"".join(morning))
    (tmp_path / names[1]).write_bytes(b"".join([*morning, evening]))
    shown = tape("import", "itch", *names, cwd=tmp_path)
    assert shown.returncode == 3, shown.stderr
    assert f"{names[0]} ends at 2023-08-22 09:30:02 in New York" in shown.stderr
    assert names[1] not in shown.stderr
    lake = tw.open(tmp_path / "data")
    for start, end, is_complete in (
        ("2023-08-22T13:30:00Z", "2023-08-22T13:30:02Z", True),
        ("2023-08-22T13:30:01Z", "2023-08-22T19:00:00Z", False),
        ("2023-08-22T19:00:00Z", "2023-08-23T15:00:00Z", False),
        ("2023-08-23T13:30:01Z", "2023-08-23T20:00:00Z", True),
    ):
        found = lake.coverage(None, start, end)
        assert found.is_complete == is_complete, (start, end, found)
    cut = lake.book("TEST", at="2023-08-22T19:00:00Z", depth="orders")
    assert not cut.is_whole
    assert "nothing was recorded from 2023-08-22T13:30:02Z on" in str(cut.notice)
    whole = lake.book("TEST", at="2023-08-23T19:00:00Z", depth="orders")
    assert "nothing was recorded" not in str(whole.notice)


def at(clock_ns: int, message: bytes) -> bytes:
    """Returns a message that happened `clock_ns` after the start of its day."""
    return message[:5] + clock_ns.to_bytes(6, "big") + message[11:]


OPEN_NS = 34_200 * 10**9


def a_day_of_adds(count: int) -> list[bytes]:
    """Returns the start of a day, a stock, and orders that are added, a microsecond apart."""
    first = {kind: next(m for m in MESSAGES if m[:1] == kind) for kind in (b"S", b"R", b"A")}
    adds = [
        first[b"A"][:11] + number.to_bytes(8, "big") + first[b"A"][19:]
        for number in range(1, count + 1)
    ]
    day = [first[b"S"], first[b"R"], *adds]
    return [at(OPEN_NS + number * 1000, message) for number, message in enumerate(day)]


def added(data: Path) -> list[int]:
    rows = tw.open(data).sql("select order_id from orders order by tape_offset").to_pylist()
    return [row["order_id"] for row in rows]


def test_packets_of_both_lines_and_out_of_order_are_each_message_once(tmp_path: Path):
    # Line B lags and has what A lost; neighbours are swapped; one stray packet lies far ahead;
    # the first datagram is of another session. No gap, and what is wrong is told.
    day = a_day_of_adds(40)
    packets = [mold(number, [message]) for number, message in enumerate(day, 1)]
    a = [one for number, one in enumerate(packets) if number not in (5, 6, 20)]
    a[10], a[11] = a[11], a[10]
    merged = [b"SESSION00B" + bytes(7) + b"\x09\0\0", *packets[:2]]
    for number, one in enumerate(a[2:], 2):
        merged += [one, *packets[number - 2 : number - 1]]
    merged += packets[-8:]
    merged.insert(30, mold(5_000_000, [at(70_000 * 10**9, day[3])]))
    (tmp_path / "ab.pcap").write_bytes(pcap(merged))
    shown = tape("import", "itch", "ab.pcap", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert added(tmp_path / "data") == list(range(1, 41))
    lake = tw.open(tmp_path / "data")
    assert [row["cause"] for row in lake.gaps().to_pylist()] in ([], ["undecoded"])
    assert {row["reason"] for row in lake.dead_letters().to_pylist()} == {"implausible_sequence"}


def test_a_time_that_cannot_be_moves_nothing_behind_it(tmp_path: Path):
    # Of a message, beyond its day and within it; the next day can still be imported.
    day = a_day_of_adds(30)
    day[8], day[9] = at(2**48 - 1, day[8]), at(86_399 * 10**9, day[9])
    blocks = b"".join(struct.pack(">H", len(one)) + one for one in day)
    (tmp_path / NAME).write_bytes(blocks)
    (tmp_path / "08232023.NASDAQ_ITCH50").write_bytes(DAY)
    shown = tape("import", "itch", NAME, "08232023.NASDAQ_ITCH50", cwd=tmp_path)
    assert shown.returncode == 3, shown.stderr
    wanted = "select ts_recv from orders where order_id between 1 and 30"
    rows = tw.open(tmp_path / "data").sql(wanted).to_pylist()
    assert len(rows) == 29
    assert {row["ts_recv"][:20] for row in rows} == {"2023-08-22T13:30:00."}


def test_a_time_of_capture_that_cannot_be_moves_nothing_behind_it(tmp_path: Path):
    packets = [mold(number, [one]) for number, one in enumerate(a_day_of_adds(30), 1)]
    raw = bytearray(pcap(packets))
    # The header of the sixth packet, whose seconds come first.
    place = 24
    for _ in range(5):
        place += 16 + int.from_bytes(raw[place + 8 : place + 12], "little")
    raw[place : place + 4] = (1_692_711_000 + 400 * 86_400).to_bytes(4, "little")
    (tmp_path / "a.pcap").write_bytes(raw)
    shown = tape("import", "itch", "a.pcap", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "whose receive time others contradict: 1" in " ".join(shown.stderr.split())
    rows = tw.open(tmp_path / "data").sql("select distinct date from orders").to_pylist()
    assert [str(row["date"]) for row in rows] == ["2023-08-22"]


@pytest.mark.slow
def test_one_message_that_cannot_be_read_is_not_all_of_its_frame(tmp_path: Path):
    # All of this day is one frame: that a message of it is a dead letter does not undo the others.
    day = a_day_of_adds(30)
    day[8] = at(2**48 - 1, day[8])
    (tmp_path / NAME).write_bytes(b"".join(struct.pack(">H", len(m)) + m for m in day))
    shown = tape("import", "itch", NAME, cwd=tmp_path)
    assert (shown.returncode, "none of them" in shown.stderr) == (3, False), shown.stderr
    assert len(added(tmp_path / "data")) == 29
