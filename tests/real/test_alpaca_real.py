"""Every recording of Alpaca: each row of an answer and each event equals what Python reads of it.

What has no record is rejected with its reason. Numbers are compared as decimals, by the digits, and
times to the nanosecond.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import Decoder
from tapeworks.errors import DecodeError

TEXT, REST, TS = 1, 3, 1_800_000_000 * 10**9
NONE = (1 << 63) - 1
SHARES_SINCE = 1_762_146_000 * 10**9
DTYPES = {kind: np.dtype(_core.dtype_descr(kind)) for kind in ("trade", "quote", "bar")}
# The requests whose answers the tests of the official client hold, by the names of these tests.
STOCKS, CRYPTO, OPTIONS = "/v2/stocks", "/v1beta3/crypto/us", "/v1beta1/options"
PERPETUALS = "/v1beta1/crypto-perps/global"
REQUESTS = {
    "DefaultDo": f"{STOCKS}/bars/latest",
    "GetTrades": f"{STOCKS}/trades",
    "GetMultiTrades": f"{STOCKS}/trades",
    "GetQuotes": f"{STOCKS}/quotes",
    "GetMultiQuotes": f"{STOCKS}/quotes",
    "GetBars": f"{STOCKS}/bars?timeframe=1Day",
    "GetMultiBars": f"{STOCKS}/bars?timeframe=1Day",
    "LatestBar": f"{STOCKS}/bars/latest",
    "LatestBars": f"{STOCKS}/bars/latest",
    "LatestTrade": f"{STOCKS}/trades/latest",
    "LatestTrades": f"{STOCKS}/trades/latest",
    "LatestQuote": f"{STOCKS}/quotes/latest",
    "LatestQuotes": f"{STOCKS}/quotes/latest",
    "GetCryptoTrades": f"{CRYPTO}/trades",
    "GetCryptoMultiTrades": f"{CRYPTO}/trades",
    "CryptoQuotes": f"{CRYPTO}/quotes",
    "GetCryptoBars": f"{CRYPTO}/bars?timeframe=1Min",
    "GetCryptoMultiBars": f"{CRYPTO}/bars?timeframe=1Hour",
    "LatestCryptoBar": f"{CRYPTO}/latest/bars",
    "LatestCryptoBars": f"{CRYPTO}/latest/bars",
    "LatestCryptoTrade": f"{CRYPTO}/latest/trades",
    "LatestCryptoTrades": f"{CRYPTO}/latest/trades",
    "LatestCryptoQuote": f"{CRYPTO}/latest/quotes",
    "LatestCryptoQuotes": f"{CRYPTO}/latest/quotes",
    "LatestCryptoPerpBar": f"{PERPETUALS}/latest/bars",
    "LatestCryptoPerpTrade": f"{PERPETUALS}/latest/trades",
    "LatestCryptoPerpTrades": f"{PERPETUALS}/latest/trades",
    "LatestCryptoPerpQuote": f"{PERPETUALS}/latest/quotes",
    "LatestCryptoPerpQuotes": f"{PERPETUALS}/latest/quotes",
    "GetOptionTrades": f"{OPTIONS}/trades",
    "GetOptionBars": f"{OPTIONS}/bars?timeframe=1Hour",
    "GetLatestOptionTrade": f"{OPTIONS}/trades/latest",
    "GetLatestOptionQuote": f"{OPTIONS}/quotes/latest",
}
# Those of whose answers there are no records.
OTHERS = {
    "GetAuctions": f"{STOCKS}/auctions",
    "GetMultiAuctions": f"{STOCKS}/auctions",
    "Snapshot": f"{STOCKS}/snapshots",
    "Snapshots": f"{STOCKS}/snapshots",
    "CryptoSnapshot": f"{CRYPTO}/snapshots",
    "LatestCryptoSnapshots": f"{CRYPTO}/snapshots",
    "GetLatestCryptoPerpPricing": f"{PERPETUALS}/latest/pricing",
    "GetFixedIncomeLatestPrice": "/v1beta1/fixed_income/latest/prices",
    "GetFixedIncomeLatestPrices": "/v1beta1/fixed_income/latest/prices",
    "GetOptionSnapshot": f"{OPTIONS}/snapshots",
    "GetOptionChain": f"{OPTIONS}/snapshots/NIO",
    "GetOptionChainWithFilters": f"{OPTIONS}/snapshots/AAPL",
}


@pytest.fixture
def recordings(real_data: Path) -> Path:
    return real_data / "alpaca"


def exact(body: str) -> Any:
    return json.loads(body, parse_float=Decimal)


def units(value: Any, places: int) -> int:
    return int(Decimal(str(value)).scaleb(places))


def ns(text: str) -> int:
    second, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0"))


def told_rows(told: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields symbol and row, in the order of the answer."""
    name = path.partition("?")[0].replace("/latest", "").rpartition("/")[2]
    found = told.get(name, told.get(name.removesuffix("s"))) or {}
    if isinstance(found, list) or name not in told:
        found = {told.get("symbol", ""): found}
    for symbol, rows in found.items():
        yield from ((symbol, row) for row in (rows if isinstance(rows, list) else [rows]))


def expected(symbol: str, row: dict[str, Any], path: str) -> tuple[int, ...]:
    if "/trades" in path:
        side = {"B": 1, "S": 2}.get(row.get("tks", ""), 0)
        return ns(row["t"]), units(row["p"], 9), units(row["s"], 8), row.get("i", 0), side
    if "/quotes" in path:
        is_lots = path.startswith(STOCKS) and ns(row["t"]) < SHARES_SINCE
        sizes = (units(row[key], 8) * (100 if is_lots else 1) for key in ("bs", "as"))
        prices = (units(row[key], 9) or NONE for key in ("bp", "ap"))
        return ns(row["t"]), *prices, *sizes
    prices = tuple(units(row[key], 9) for key in "ohlc")
    return ns(row["t"]), *prices, units(row["v"], 8), row.get("n", 0)


NAMES = {
    "trade": ("ts_event", "price", "size", "trade_id", "side"),
    "quote": ("ts_event", "bid_price", "ask_price", "bid_size", "ask_size"),
    "bar": ("ts_event", "open", "high", "low", "close", "volume", "count"),
}


def compared(path: str, body: str) -> int:
    """Decodes an answer and compares every row; returns how many there are."""
    decoder = Decoder("alpaca")
    kind = next(kind for kind in NAMES if f"/{kind}s" in path)
    batch = decoder.receive(REST, path.encode(), body.encode(), TS)
    rows = np.frombuffer(batch.numpy(kind), DTYPES[kind])
    told = list(told_rows(exact(body), path))
    assert len(rows) == len(told), path
    symbols = {number: symbol for symbol, number in decoder.symbols().items()}
    for row, (symbol, element) in zip(rows, told, strict=True):
        assert symbols[int(row["instrument"])] == (symbol or "SPOT")
        found = tuple(int(row[name]) for name in NAMES[kind])
        assert found == expected(symbol, element, path), path
    return len(told)


def checked_changes(body: str) -> int:
    """Compares the changes of symbols of an answer; returns how many there are."""
    decoder = Decoder("alpaca")
    batch = decoder.receive(REST, b"/v1/corporate-actions", body.encode(), TS)
    dtype = np.dtype(_core.dtype_descr("corporate_action"))
    symbols = {number: symbol for symbol, number in decoder.symbols().items()}
    found = [
        (symbols[int(row["instrument"])], row["former"].decode(), int(row["ts_event"]))
        for row in np.frombuffer(batch.numpy("corporate_action"), dtype)
    ]
    assert found == [
        (row["new_symbol"], row["old_symbol"], ns(f"{row['process_date']}T00:00:00Z"))
        for row in json.loads(body)["corporate_actions"].get("name_changes", ())
    ]
    return len(found)


def test_every_answer_is_read_or_rejected_with_its_reason(recordings: Path):
    reasons: Counter[str] = Counter()
    read = changes = 0
    for line in (recordings / "go_sdk_rest_bodies.jsonl").read_text().splitlines():
        told = json.loads(line)
        name = told["path"].partition("#Test")[2].partition(":")[0].partition("_")[0]
        if name in REQUESTS:
            read += compared(REQUESTS[name], told["body_text"])
            continue
        if name == "GetCorporateActions":
            changes += checked_changes(told["body_text"])
            continue
        if name == "GetNews":
            # See `test_news_real.py`.
            continue
        with pytest.raises(DecodeError) as raised:
            Decoder("alpaca").receive(REST, OTHERS[name].encode(), told["body_text"].encode(), TS)
        reasons[raised.value.reason] += 1
    assert reasons == {"unknown_stream": 16}
    assert (read, changes > 0) == (130, True)


def test_rows_that_the_venue_voided_say_so(recordings: Path):
    # The answer whose rows are marked: each of them is a trade, and those that count no more have
    # their cancellation behind them.
    lines = (recordings / "go_sdk_rest_bodies.jsonl").read_text().splitlines()
    [body] = [json.loads(line)["body_text"] for line in lines if "GetTrades_Update" in line]
    batch = Decoder("alpaca").receive(REST, f"{STOCKS}/trades".encode(), body.encode(), TS)
    dtype = np.dtype(_core.dtype_descr("correction"))
    voided = [int(row["trade_id"]) for row in np.frombuffer(batch.numpy("correction"), dtype)]
    rows = exact(body)["trades"]["A"]
    assert voided == [r["i"] for r in rows if r.get("u") in ("canceled", "incorrect")]
    assert voided


def test_the_latest_are_read_and_snapshots_are_rejected(recordings: Path):
    reasons, read = Counter[str](), 0
    for line in (recordings / "rest_snapshots_latest.jsonl").read_text().splitlines():
        told = json.loads(line)
        path = told["url"].partition("alpaca.markets")[2]
        try:
            read += compared(path, told["body_text"])
        except StopIteration:
            with pytest.raises(DecodeError) as raised:
                Decoder("alpaca").receive(REST, path.encode(), told["body_text"].encode(), TS)
            reasons[raised.value.reason] += 1
    assert (read, reasons) == (6, {"unknown_stream": 2})


@pytest.mark.parametrize(
    ("name", "path", "count"),
    [
        ("rest_trades_SPOT_2021-05-26_page1", "/v2/stocks/SPOT/trades?limit=10000", 10_000),
        ("rest_bars_BYND_1Min_page1", "/v2/stocks/BYND/bars?timeframe=1Min", 10_000),
        ("rest_bars_BYND_1Min_page2", "/v2/stocks/BYND/bars?timeframe=1Min", 7_485),
    ],
)
def test_every_row_of_a_page_is_read(recordings: Path, name: str, path: str, count: int):
    # Trades of the one stock and bars of the other: the recordings have none of both, so that no
    # bar can be made of trades and compared with the venue's own.
    body = gzip.decompress((recordings / f"{name}.json.gz").read_bytes()).decode()
    assert compared(path, body) == count


def test_every_frame_of_the_pages_decodes(recordings: Path):
    # As many records as there are events that have one.
    records: Counter[str] = Counter()
    for line in (recordings / "docs_ws_frames.jsonl").read_text().splitlines():
        told = json.loads(line)
        events = told["frame"] if isinstance(told["frame"], list) else [told["frame"]]
        if told["dir"] == "send" and not isinstance(told["frame"], list):
            continue
        batch = Decoder("alpaca").receive(TEXT, b"", json.dumps(events).encode(), TS)
        data = [event for event in events if event["T"] in "tqbds"]
        assert len(batch) == len(data), line
        records.update(event["T"] for event in data)
        for event in data:
            if event["T"] in "tq":
                kind = {"t": "trade", "q": "quote"}[event["T"]]
                frame = json.dumps([event])
                batch = Decoder("alpaca").receive(TEXT, b"", frame.encode(), TS)
                [row] = np.frombuffer(batch.numpy(kind), DTYPES[kind])
                found = tuple(int(row[name]) for name in NAMES[kind])
                assert found == expected(event["S"], exact(frame)[0], f"{STOCKS}/{kind}s")
    assert records == {"t": 2, "q": 4, "b": 1, "d": 1, "s": 1}
