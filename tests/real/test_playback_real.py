"""Recordings of the venue played back over a real WebSocket into `tape record`, flat out.

What the lake then holds is compared with the recorded lines, read by Python's own json and decimal,
and with what the venue itself said of its book and its bars.
"""

import csv
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import tapeworks as tw
from tapeworks.errors import QueryError
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.tape import TapeReader
from tapeworks.views.lake import Lake
from tapeworks.views.times import parse_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PLAYED_S_MAX, STORED_S_MAX = 60.0, 20.0
TEXT = 1
PASSED_MAX = 3
Best = tuple[Decimal, Decimal, Decimal, Decimal]


@dataclass(frozen=True)
class Case:
    """One recording, and how to record it again."""

    files: tuple[str, ...]
    product: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    both: int
    """Update ids that book and quotes both carry, by an independent program."""
    speed_ms: int = 100
    time_unit: str = ""
    """As the venue is asked; the recordings are in milliseconds whatever is asked."""

    @property
    def source(self) -> str:
        """The name of the source."""
        return f"binance-{self.product}"


HFTBACKTEST = ("trade", "bookTicker", "depth")
CRYPTOFEED = ("aggTrade", "bookTicker", "depth", "kline_1m")
CASES = {
    "spot": Case(
        ("hftbacktest/spot_btcusdt_20240808.gz", "hftbacktest/spot_btcusdt_20240809.gz"),
        "spot",
        ("BTCUSDT",),
        HFTBACKTEST,
        1072,
        time_unit="millisecond",
    ),
    "usdm": Case(
        ("hftbacktest/usdm_btcusdt_20240808.gz",), "usdm", ("BTCUSDT",), HFTBACKTEST, 629, 0
    ),
    "spot-four-symbols": Case(
        (
            "cryptofeed/BINANCE.ws.1.0.gz",
            "cryptofeed/BINANCE.http.0.0.gz",
            "cryptofeed/BINANCE.0.gz",
        ),
        "spot",
        ("NKNUSDT", "BLZETH", "LRCBTC"),
        CRYPTOFEED,
        26,
    ),
    "usdm-four-symbols": Case(
        (
            "cryptofeed/BINANCE_FUTURES.ws.1.0.gz",
            "cryptofeed/BINANCE_FUTURES.http.0.0.gz",
            "cryptofeed/BINANCE_FUTURES.0.gz",
        ),
        "usdm",
        ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"),
        CRYPTOFEED,
        50,
    ),
}
# Opening times in ms of the five-minute windows that the spot recording holds whole.
WINDOWS = (1_723_161_300_000, 1_723_161_600_000)


@dataclass
class Capture:
    """What a recording holds."""

    frames: int = 0
    trades: dict[str, list[tuple[int, Decimal, Decimal, str]]] = field(default_factory=dict)
    quotes: dict[str, dict[int, Best]] = field(default_factory=dict)
    updates: dict[str, list[int]] = field(default_factory=dict)

    def take(self, stream: str, data: Any) -> None:
        """Takes in one frame."""
        self.frames += 1
        symbol, _, channel = stream.upper().partition("@")
        if channel in ("TRADE", "AGGTRADE"):
            number = data["t"] if channel == "TRADE" else data["a"]
            side = "sell" if data["m"] else "buy"
            row = (number, Decimal(data["p"]), Decimal(data["q"]), side)
            self.trades.setdefault(symbol, []).append(row)
        elif channel == "BOOKTICKER":
            best = tuple(Decimal(data[key]) for key in "bBaA")
            self.quotes.setdefault(symbol, {})[data["u"]] = best
        elif channel.startswith("DEPTH"):
            self.updates.setdefault(symbol, []).append(data["u"])


def read_capture(folder: Path, case: Case) -> Capture:
    """Reads the stream frames of the recorded symbols."""
    capture = Capture()
    for name in case.files:
        with gzip.open(folder / name, "rt") as lines:
            for line in lines:
                _, found, frame = line.partition('{"stream":')
                if found:
                    message = json.loads(found + frame)
                    if message["stream"].partition("@")[0].upper() in case.symbols:
                        capture.take(message["stream"], message["data"])
    return capture


@dataclass
class Recorded:
    """A finished recording."""

    case: Case
    capture: Capture
    lake: Lake


@pytest.fixture(scope="module", params=CASES)
def recorded(
    request: pytest.FixtureRequest,
    real_data: Path,
    command: Callable[[Path], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Recorded, Any]:
    """The lake that `tape record` made of a recording, and the command line beside it."""
    case = CASES[request.param]
    tape = command(tmp_path_factory.mktemp("playback"))
    capture = read_capture(real_data / "binance", case)
    paths = [real_data / "binance" / name for name in case.files]
    arguments = ("--product", case.product, "--speed", "0", "--settle", "2")
    log = tape.folder / "simulator.log"
    with start_simulator("binance", *arguments, playback=paths, log=log) as simulator:
        settings = {
            "product": case.product,
            "channels": ",".join(case.channels),
            "depth_speed_ms": case.speed_ms,
            # As recorded; four of the largest would not fit into the request weight of 2021.
            "snapshot_limit": 1000,
            "time_unit": case.time_unit,
            "ws_url": simulator.ws_url,
            "rest_url": simulator.rest_url,
        }
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        recorder = tape.start("record", "binance", *case.symbols, *words)
        wait_until_played(simulator, tape.folder / "data" / "tape" / case.source, capture.frames)
        _, errors = tape.interrupt(recorder)
        assert recorder.returncode == 0, errors
    assert "Traceback" not in log.read_text(), log.read_text()
    return Recorded(case, capture, tw.open(tape.folder / "data")), tape


def wait_until_played(simulator: Simulator, tapes: Path, frames: int) -> None:
    simulator.wait_done(PLAYED_S_MAX)
    reader, stored = TapeReader(tapes / "market-data.raw"), 0
    until = time.monotonic() + STORED_S_MAX
    while stored < frames and time.monotonic() < until:
        for blob in reader.read_blobs() or ():
            stored += blob.kind == TEXT and bytes(blob.body[:10]) == b'{"stream":'
        if stored < frames:
            reader.wait(20)
    assert stored == frames


def test_trades_are_those_of_the_recording(recorded: tuple[Recorded, Any]):
    # Count, ids, prices, sizes and sides, in order; by the lake, and counted by `tape query`.
    made, tape = recorded
    for symbol, wanted in made.capture.trades.items():
        columns = ["trade_id" if "trade" in made.case.channels else "sequence"]
        columns += ["price", "size", "side"]
        table = made.lake.trades(symbol).to_arrow().select(columns)
        rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        assert rows == wanted
    sql = "select symbol, count(*) as n from trades group by symbol"
    told = {row["symbol"]: row["n"] for row in tape.answer("query", sql, "--format", "json")}
    assert told == {symbol: len(rows) for symbol, rows in made.capture.trades.items()}


def test_quotes_are_those_of_the_recording(recorded: tuple[Recorded, Any]):
    # Every bookTicker by its update id: both prices and both sizes.
    made, _ = recorded
    names = ["sequence", "bid_price", "bid_size", "ask_price", "ask_size"]
    for symbol, wanted in made.capture.quotes.items():
        table = made.lake.quotes(symbol).to_arrow().select(names)
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        assert {number: tuple(best) for number, *best in rows} == wanted


def test_book_equals_the_best_prices_of_the_venue(recorded: tuple[Recorded, Any]):
    # The lake's changes of verified books make a book again; at every update id that a bookTicker
    # also carries, best prices and sizes are those that the venue itself gave. No id is left out
    # once a book is verified. An independent program found `both` of them; a few at the beginning
    # may be passed at once, when they arrive while the answer with the snapshot is on its way.
    made, _ = recorded
    compared = 0
    for symbol in made.case.symbols:
        quotes = made.capture.quotes.get(symbol, {})
        found = tops(made.lake, symbol, quotes.keys())
        assert found == {sequence: quotes[sequence] for sequence in found}
        verified = min(found, default=0)
        both = [u for u in made.capture.updates[symbol] if u in quotes and u >= verified]
        assert sorted(found) == both
        compared += len(found)
    assert made.case.both - PASSED_MAX * len(made.case.symbols) <= compared <= made.case.both


def tops(lake: Lake, symbol: str, wanted: Any) -> dict[int, Best]:
    """Returns the best prices and sizes after each update id of `wanted`."""
    sql = (
        "select sequence, flags, side = 'bid' as is_bid, price, size from book_levels "
        f"where symbol = '{symbol}' order by tape_offset"
    )
    columns = lake.sql(sql).to_arrow().to_pydict().values()
    found: dict[int, Best] = {}
    sides: tuple[dict[Decimal, Decimal], ...] = ({}, {})
    whole, last = False, 0
    for sequence, flags, is_bid, price, size in zip(*columns, strict=True):
        if last in wanted and (sequence != last or bool(flags & 2) != whole):
            assert found.setdefault(last, best_of(sides)) == best_of(sides)
        if flags & 2 and not (whole and sequence == last):
            sides = ({}, {})
        whole, last = bool(flags & 2), sequence
        if size:
            sides[is_bid][price] = size
        else:
            sides[is_bid].pop(price, None)
    if last in wanted:
        found[last] = best_of(sides)
    return found


def best_of(sides: tuple[dict[Decimal, Decimal], ...]) -> Best:
    asks, bids = sides
    bid, ask = max(bids), min(asks)
    return bid, bids[bid], ask, asks[ask]


def test_book_of_a_past_instant_equals_the_best_prices_of_the_venue(
    recorded: tuple[Recorded, Any],
):
    # `book(at=)` at the time of each tenth such update, by the venue's clock and by that of
    # receipt; where several updates have one time the last counts, so only those are asked for.
    # Played back faster than time, the venue's last times are after the end of the recording, which
    # the host's clock tells: from there on each is refused.
    made, _ = recorded
    compared = Counter[str]()
    for symbol in made.case.symbols:
        quotes = made.capture.quotes.get(symbol, {})
        try:
            notice = made.lake.book(symbol).notice
        except QueryError as error:
            # One that was never verified.
            notice = str(error)
        [text] = re.findall(r"the recording ended at (\S+?Z)", notice or "")
        told = [row for row in moments(made.lake, symbol, "ts_event") if row["u"] in quotes]
        for row in told[::10]:
            if row["moment"] >= parse_time(text):
                with pytest.raises(QueryError, match="the recording ended at"):
                    made.lake.book(symbol, at=row["moment"])
                continue
            book = made.lake.book(symbol, at=row["moment"])
            [bid], [ask] = book.top(1)
            assert (book.sequence, *bid, *ask) == (row["u"], *quotes[row["u"]])
            compared["event"] += 1
        # What came at one time the venue may have told no best price of: then its id alone counts.
        verified = told[0]["u"] if told else None
        received = [
            row
            for row in moments(made.lake, symbol, "ts_recv")
            if verified is not None and row["u"] >= verified
        ]
        for row in received[::10]:
            book = made.lake.book(symbol, at=row["moment"], clock="receipt")
            [bid], [ask] = book.top(1)
            assert (book.sequence, *bid, *ask) == (row["u"], *quotes.get(row["u"], (*bid, *ask)))
            compared["receipt"] += 1
    assert min(compared["event"], compared["receipt"]) > 0, compared


def moments(lake: Lake, symbol: str, column: str) -> list[dict[str, Any]]:
    """Returns the times of a symbol's updates by one clock, and the last update id of each."""
    sql = (
        f"select max(sequence) as u, epoch_ns({column}) + {column}_ns as moment "
        f"from book_levels where symbol = '{symbol}' and channel = 'depth' "
        "group by moment order by 1"
    )
    return lake.sql(sql).to_pylist()


@pytest.mark.parametrize("recorded", ["spot"], indirect=True)
def test_bars_equal_the_klines_of_the_venue(recorded: tuple[Recorded, Any], real_data: Path):
    # Open, high, low, close, volume, turnover, count and what takers bought, of five minutes.
    made, _ = recorded
    path = real_data / "binance" / "klines" / "BTCUSDT-spot-5m-2024-08.csv.gz"
    with gzip.open(path, "rt") as file:
        venue = {int(row[0]): row for row in csv.reader(file)}
    sql = (
        "select epoch_ns(ts_event) // 1000000 as at, open, high, low, close, volume, turnover, "
        "count, buy_volume, buy_turnover from bars where interval_ms = 300000 order by tape_offset"
    )
    rows = made.lake.sql(sql).to_arrow().to_pylist()
    bars = {row.pop("at"): [Decimal(value) for value in row.values()] for row in rows}
    for window in WINDOWS:
        wanted = [Decimal(venue[window][at]) for at in (1, 2, 3, 4, 5, 7, 8, 9, 10)]
        assert bars[window] == wanted


def test_ledger_holds_nothing(recorded: tuple[Recorded, Any]):
    # The recordings have no hole, and playing them back flat out makes none.
    made, _ = recorded
    assert made.lake.gaps().to_pylist() == []


def test_tapes_are_whole(recorded: tuple[Recorded, Any]):
    # `tape verify` finds no fault on any of the seven tapes.
    _, tape = recorded
    reports = tape.answer("verify", "--json")
    assert sum("tape" in report for report in reports) == 7
    assert any("lake" in report for report in reports)
    assert all(report["fault"] is None for report in reports)
