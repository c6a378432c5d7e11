"""The simulated NASDAQ: a day as a file, whose end the market itself knows."""

import gzip
import json
import struct
from decimal import Decimal
from pathlib import Path

import pytest
from tests.views.test_order_books import recorded

from tapeworks._core import ItchMarket
from tapeworks.errors import ConfigError
from tapeworks.feeds.captures import CaptureOptions
from tapeworks.feeds.itch.captures import ItchCaptures
from tapeworks.simulators.itch.__main__ import main
from tapeworks.simulators.itch.config import LineFaults, parse_arguments
from tapeworks.simulators.itch.market import stock_names
from tapeworks.simulators.itch.requests import SentPackets
from tapeworks.views.lake import Lake

NAME = "08222023.NASDAQ_ITCH50"
PRICE = Decimal(10_000)


def assert_books_are(lake: Lake, orders: dict[str, list[list[object]]]) -> None:
    """Compares the books of all stocks, order by order, with what the market holds."""
    for symbol, expected in orders.items():
        book = lake.book(symbol, depth="orders")
        assert book.is_whole, symbol
        found = [
            [order.order_id, side, int(order.price * PRICE), int(order.size)]
            for side in ("bid", "ask")
            for order in book.orders(side)
        ]
        assert found == expected, symbol


def test_books_made_of_a_day_are_those_of_the_market(tmp_path: Path):
    # Plain and gzipped: the same day; each order with its price, its size and its place.
    words = ["--stocks", "4", "--messages", "6000", "--seed", "7"]
    oracle = tmp_path / "oracle.json"
    path, packed = tmp_path / NAME, tmp_path / f"{NAME}.gz"
    assert main([*words, "--file", str(path), "--oracle", str(oracle)]) == 0
    assert main([*words, "--file", str(packed)]) == 0
    assert gzip.decompress(packed.read_bytes()) == path.read_bytes()
    told = json.loads(oracle.read_text())
    assert (told["messages"], sum(told["types"].values())) == (6000, 6000)
    reader = ItchCaptures(CaptureOptions("itch"))
    lake = recorded(tmp_path / "data", "itch", "itch", reader, path)
    assert sum(map(len, told["orders"].values())) > 20
    assert_books_are(lake, told["orders"])
    assert lake.gaps().to_pylist() == []


def test_requests_are_answered_as_a_server_does():
    # Whole messages from the first that is wanted, as many as fit; else nothing.
    market = ItchMarket(stock_names(2), 1, 500)
    blocks, count = market.take(500)
    messages, at = [], 0
    while at < len(blocks):
        end = at + 2 + struct.unpack_from(">H", blocks, at)[0]
        messages.append(blocks[at:end])
        at = end
    assert len(messages) == count == 500
    kept = SentPackets(b"SIM0000001", keep=400)
    kept.add(
        [
            (first, 5, b"h" * 20 + b"".join(messages[first - 1 : first + 4]))
            for first in range(1, 501, 5)
        ]
    )

    def ask(first: int, wanted: int, session: bytes = b"SIM0000001") -> tuple[int, bytes] | None:
        answer = kept.answer(struct.pack(">10sQH", session, first, wanted), 300)
        if answer is None:
            return None
        got, start, told = struct.unpack(">10sQH", answer[:20])
        assert (got, start) == (session, first)
        assert len(answer) <= 300
        return told, answer[20:]

    assert ask(203, 3) == (3, b"".join(messages[202:205]))
    whole = ask(203, 1000)
    assert whole is not None
    assert whole[1] == b"".join(messages[202 : 202 + whole[0]])
    assert whole[0] > 5
    assert ask(500, 9) == (1, messages[499])
    for first, wanted, session in [
        (100, 1, b"SIM0000001"), (501, 1, b"SIM0000001"), (0, 1, b"SIM0000001"),
        (300, 0, b"SIM0000001"), (300, 0xFFFF, b"SIM0000001"), (300, 1, b"SIM0000002"),
    ]:  # fmt: skip
        assert ask(first, wanted, session) is None, (first, wanted, session)
    assert kept.answer(b"short", 300) is None


def test_arguments_that_make_no_sense_are_refused(tmp_path: Path, capsys):
    for words, told in [
        (["--file", str(tmp_path / NAME)], "expected --messages N"),
        (["--drop", "2"], "a part of 0 to 1"),
        (["--drop", "0,0,0"], "a part of 0 to 1 for each of 2 lines"),
        (["--line", "127.0.0.1"], "expected HOST:PORT"),
        (["--session", "short"], "of 10 letters"),
        (["--stocks", "0"], "1 of --stocks"),
    ]:
        with pytest.raises(ConfigError, match=told):
            parse_arguments(words, "tape simulate itch")
    assert main(["--messages", "10", "--file", str(tmp_path / NAME)]) == 2
    assert "as a day of 50 stocks has, got 10" in capsys.readouterr().err
    given = parse_arguments(["--drop", "0.1,0", "--reorder", "0.2"], "tape simulate itch")
    assert given.faults == (LineFaults(0.1, 0.0, 0.2), LineFaults(0.0, 0.0, 0.2))
