"""Books of recorded order events against the rows of books that were published with them."""

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import Decoder, OrderBook
from tapeworks.feeds.captures import CaptureOptions
from tapeworks.feeds.lobster.captures import LobsterCaptures

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LOBSTER = DATA / "lobster" / "LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
METRICS = DATA / "metrics"
ORDER = np.dtype(_core.dtype_descr("order"))
ADD, HIDDEN = _core.numbers("order_action")["add"], _core.numbers("order_action")["execute_hidden"]
PRICE, SHARE = 100_000, 100_000_000
NO_ASK, NO_BID = 9_999_999_999, -9_999_999_999

pytestmark = pytest.mark.usefixtures("real_data")


def events(path: Path, symbol: str = "") -> np.ndarray:
    """Returns the events of a file of LOBSTER, decoded."""
    day = date(2012, 6, 21) if symbol else None
    options = CaptureOptions("lobster", symbol=symbol, day=day)
    decoder, rows = Decoder("lobster"), []
    for one in LobsterCaptures(options).read(path):
        records = decoder.receive(one.kind, one.context, one.body, one.ts_recv)
        rows.append(np.frombuffer(records.numpy("order"), ORDER))
    return np.concatenate(rows)


@dataclass
class Steps:
    """How many rows follow from the one before and the event between them."""

    checked: int = 0
    matched: int = 0
    revealed: int = 0


def follow(rows: np.ndarray, found: np.ndarray, compared: int) -> Steps:
    """Applies each event to the row before it, and compares `compared` levels of both sides.

    The level that enters at the bottom of the window where another one left is in no event.
    """
    steps, levels = Steps(), rows.shape[1] // 4
    table = rows.tolist()
    told = zip(
        found["action"].tolist(), found["side"].tolist(),
        (found["price"] // PRICE).tolist(), (found["size"] // SHARE).tolist(), strict=True,
    )  # fmt: skip
    next(told)
    for (before, after), (action, side, price, size) in zip(pairwise(table), told, strict=True):
        steps.checked += 1
        is_revealed, is_equal = False, True
        for offset, own, empty, sign in ((0, 2, NO_ASK, 1), (2, 1, NO_BID, -1)):
            book = {
                before[at]: before[at + 1]
                for at in range(offset, levels * 4, 4)
                if before[at] != empty
            }
            had = len(book)
            if side == own and action != HIDDEN:
                change = size if action == ADD else -size
                book[price] = book.get(price, 0) + change
                if book[price] <= 0:
                    del book[price]
            best = sorted(book.items(), key=lambda level: sign * level[0])[:levels]
            want = [(after[at], after[at + 1]) for at in range(offset, levels * 4, 4)]
            if len(best) < had == levels:
                is_revealed |= want[-1][0] != empty
                best.append(want[-1])
            best += [(empty, 0)] * (levels - len(best))
            is_equal &= best[:compared] == want[:compared]
        steps.revealed += is_revealed
        steps.matched += is_equal
    return steps


@pytest.mark.slow
def test_every_row_of_lobster_follows_from_its_event():
    # The whole sample: 155,934 steps, at the top 4 of its 5 levels.
    with zipfile.ZipFile(LOBSTER) as archive:
        (name,) = (name for name in archive.namelist() if "orderbook" in name)
        rows = np.loadtxt(io.BytesIO(archive.read(name)), delimiter=",", dtype=np.int64)
    steps = follow(rows, events(LOBSTER), 4)
    assert (steps.matched, steps.checked) == (155_934, 155_934)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("AAPL_L10_head", ("AAPL_2012-06-21_message_10_head", "AAPL_2012-06-21_orderbook_10_head")),
        ("AMZN_L1", ("AMZN_2012-06-21_message_1", "AMZN_2012-06-21_orderbook_1")),
    ],
)
def test_books_are_rebuilt_as_is_expected(name: str, files: tuple[str, str]):
    # All that the expected values say of the two files.
    expected = json.loads((METRICS / "expected" / "book_reconstruction.json").read_text())[name]
    messages, books = (METRICS / "lobster" / f"{file}.csv.gz" for file in files)
    found = events(messages, name.partition("_")[0])
    with gzip.open(books) as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == expected["book_sha256_i64_row_major"]
    midnight = 1_340_251_200_000_000_000
    assert found["ts_event"][[0, -1]].tolist() == [
        midnight + expected["first_ts_ns"], midnight + expected["last_ts_ns"],
    ]  # fmt: skip
    # Types of the files: 1 add, 2 cancel, 3 delete, 4 execute, 5 hidden, 6 cross.
    types = {"1": 1, "2": 3, "3": 6, "4": 4, "5": 8, "6": 9}
    counts = Counter(found["action"].tolist())
    for kind, action in types.items():
        assert counts[action] == expected["message_type_counts"][kind], kind
    steps, told = follow(rows, found, expected["levels"]), expected["transition_check"]
    assert (steps.checked, steps.matched) == (told["checked"], told["matched"])
    assert steps.revealed == told["rows_with_revealed_level"]


def published() -> Iterator[dict[str, str]]:
    with gzip.open(DATA / "itch" / "aapl_20190130_l3_093000_093024.csv.gz", "rt") as lines:
        yield from csv.DictReader(lines)


def levels_of(row: dict[str, str], side: str) -> list[tuple[int, int]]:
    levels = []
    for at in range(1, 11):
        price, size = row[f"{side}_price_{at}"], row[f"{side}_size_{at}"]
        if price:
            levels.append((round(float(price) * 10_000) * PRICE, round(float(size)) * SHARE))
    return levels


def add_message(number: int, side: str, price: int, shares: int) -> bytes:
    """Returns an order as it would have been added before the events."""
    head = b"A\0\x0e\0\0" + (34_200 * 10**9).to_bytes(6, "big") + number.to_bytes(8, "big")
    body = side.encode() + shares.to_bytes(4, "big") + b"AAPL    "
    return (36).to_bytes(2, "big") + head + body + (price // PRICE).to_bytes(4, "big")


def orders_before(rows: list[dict[str, str]]) -> list[tuple[int, str, int, int]]:
    """Returns the orders that events name and that were added before: id, side, price, shares."""
    added: set[str] = set()
    found: dict[str, list[int]] = {}
    sides: dict[str, str] = {}
    for row in rows[1:]:
        kind, named = row["message_type"], row["order_id"]
        side = "B" if row["direction"] == "1" else "S"
        if kind in "AF":
            added.add(named)
            continue
        if kind == "U":
            added.add(named)
            named, size, price = row["old_order_id"], row["old_size"], row["old_price"]
            named = str(round(float(named)))
        else:
            size, price = row["size"], row["price"]
        if named not in added:
            shares = found.setdefault(named, [round(float(price) * 10_000) * PRICE, 0])
            shares[1] += round(float(size))
            sides[named] = side
    return [(int(one), sides[one], price, shares) for one, (price, shares) in found.items()]


@pytest.mark.slow
def test_events_of_apple_rebuild_the_rows_given_with_them():
    # The book before the first event is known to ten levels: its orders, and one more of what is
    # left of each level. From there on the decoder and the book run by themselves. A level that
    # comes into sight from below, where the first row did not reach, is put in; all others, of
    # all rows, must be there.
    rows = list(published())
    decoder, book, midnight = Decoder("itch"), OrderBook(), 1_548_824_400_000_000_000
    context = f"file?name=x&midnight={midnight}&sequence="
    number, filler = 1, 1 << 60
    blocks = []
    start = {"S": dict(levels_of(rows[0], "ask")), "B": dict(levels_of(rows[0], "bid"))}
    for order_id, side, price, shares in orders_before(rows):
        blocks.append(add_message(order_id, side, price, shares))
        if price in start[side]:
            start[side][price] -= shares * SHARE
    for side, levels in start.items():
        for price, size in levels.items():
            assert size >= 0
            if size:
                filler += 1
                blocks.append(add_message(filler, side, price, size // SHARE))

    def take(body: bytes) -> None:
        nonlocal number
        received = decoder.receive(2, f"{context}{number}".encode(), body, 2**62)
        number += 1
        book.apply(received)

    for block in blocks:
        take(block)
    edge = {"ask": max(start["S"]), "bid": min(start["B"])}
    body = (DATA / "itch" / "aapl_20190130_l3_093000_093024_reencoded.itch").read_bytes()
    at, compared, revealed = 0, 0, 0
    for place, row in enumerate(rows):
        length = 2 + int.from_bytes(body[at : at + 2], "big")
        message, at = body[at : at + length], at + length
        if place == 0:
            continue
        take(message)
        for side, sign in (("ask", 1), ("bid", -1)):
            expected = levels_of(row, side)
            for price, size in expected:
                held = book.levels().size_at(side, price)
                if held < size and sign * price > sign * edge[side]:
                    filler, revealed = filler + 1, revealed + 1
                    letter = "S" if side == "ask" else "B"
                    take(add_message(filler, letter, price, (size - held) // SHARE))
            top = book.levels().top(10)[0 if side == "bid" else 1]
            assert top == expected, f"row {place}, {side}"
            compared += len(expected)
    assert at == len(body)
    assert (compared, revealed < 200) == (2 * 10 * (len(rows) - 1), True)
    assert book.doubts()[1:] == (0, 0, 0)
