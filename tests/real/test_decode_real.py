"""Every recorded frame and answer of Binance decodes, and equals what the slow decoder says."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import slow_binance
from tapeworks import _core

pytestmark = pytest.mark.slow

RECORDINGS = {
    "hftbacktest/spot_btcusdt_20240808.gz": "binance-spot",
    "hftbacktest/spot_btcusdt_20240809.gz": "binance-spot",
    "hftbacktest/usdm_btcusdt_20240808.gz": "binance-usdm",
    "hftbacktest/cm_btcusd_perp_20240808.gz": "binance-coinm",
    "hftbacktest/cm_btcusd_perp_20240809.gz": "binance-coinm",
    "cryptofeed/BINANCE.ws.1.0.gz": "binance-spot",
    "cryptofeed/BINANCE.http.0.0.gz": "binance-spot",
    "cryptofeed/BINANCE_FUTURES.ws.1.0.gz": "binance-usdm",
    "cryptofeed/BINANCE_FUTURES.http.0.0.gz": "binance-usdm",
}
DEPTH = {
    "binance-spot": "/api/v3/depth",
    "binance-usdm": "/fapi/v1/depth",
    "binance-coinm": "/dapi/v1/depth",
}
FEEDS = {
    "binance-spot": slow_binance.SPOT,
    "binance-usdm": slow_binance.USDM,
    "binance-coinm": slow_binance.COINM,
}
# What the venue calls the bodies that the fixtures hold under other names.
ENDPOINTS = {
    "agg_trades": "aggTrades", "book_ticker": "ticker/bookTicker", "exchange_info": "exchangeInfo",
    "historical_trades": "historicalTrades", "ticker_price": "ticker/price",
    "ticker_24hr": "ticker/24hr", "avg_price": "avgPrice", "asset_index": "assetIndex",
    "continuous_klines": "continuousKlines", "funding_rate": "fundingRate",
    "index_info": "indexInfo", "index_price_klines": "indexPriceKlines",
    "mark_price_klines": "markPriceKlines", "open_interest": "openInterest",
    "premium_index": "premiumIndex",
}  # fmt: skip


def frames(path: Path, feed: str) -> Iterator[tuple[int, str, bytes, int]]:
    """Kind, context, body and receive time of every line of a recording."""
    with gzip.open(path, "rb") as lines:
        for line in lines:
            if not line.strip() or line.startswith((b"wss://", b"configuration")):
                continue
            if line.startswith(b"https://"):
                request, rest = line.split(b" -> ", 1)
                ts, body = rest.split(b": ", 1)
                context = re.sub(r"^https?://[^/]*", "", request.decode())
                yield slow_binance.REST, context, body.strip(), int(float(ts) * 1e9)
                continue
            ts, body = re.split(rb":? ", line, maxsplit=1)
            ts_recv = int(float(ts) * 1e9) if b"." in ts else int(ts)
            if body.startswith(b'{"lastUpdateId"'):
                yield slow_binance.REST, f"{DEPTH[feed]}?symbol=BTCUSDT", body.strip(), ts_recv
            else:
                yield slow_binance.TEXT, "", body.strip(), ts_recv


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_frame_equals_the_slow_decoder(real_data: Path, name: str) -> None:
    # Every byte of every record, in the order of the recording.
    feed = RECORDINGS[name]
    fast = _core.Decoder(feed)
    slow = slow_binance.SlowDecoder(FEEDS[feed])
    kinds: Counter[int] = Counter()
    path = real_data / "binance" / name
    for kind, context, body, ts_recv in frames(path, feed):
        found = bytes(fast.receive(kind, context.encode(), body, ts_recv))
        assert found, body
        kinds[found[1]] += 1
        assert found == slow.decode(kind, context, body, ts_recv), body
    assert kinds
    if "hftbacktest" in name:
        assert {slow_binance.TRADE, slow_binance.QUOTE, slow_binance.LEVEL} <= kinds.keys()


def test_documented_bodies_equal_the_slow_decoder(real_data: Path) -> None:
    # Bodies as the venue's documentation prints them, with white space and line ends.
    decoded = 0
    for line in (real_data / "binance" / "nautilus_fixtures.jsonl").read_text().splitlines():
        entry = json.loads(line)
        name, body = Path(entry["path"]).stem, entry["body_text"].encode()
        feed = "binance-usdm" if "futures" in name else "binance-spot"
        kind, context = slow_binance.TEXT, ""
        if name.startswith("http"):
            endpoint = name.split("_market_")[1]
            endpoint = ENDPOINTS.get(endpoint, endpoint)
            if ("historical" in name and "interest" in name) or "ratio" in name or "blvt" in name:
                continue  # statistics that no part of us asks for
            prefix = "/fapi/v1/" if feed == "binance-usdm" else "/api/v3/"
            kind = slow_binance.REST
            context = f"{prefix}{endpoint}?symbol=BTCUSDT&interval=1m"
        found = bytes(_core.decode(feed, kind, context.encode(), body, 10**18))
        slow = slow_binance.SlowDecoder(FEEDS[feed])
        assert found == slow.decode(kind, context, body, 10**18), name
        decoded += bool(found)
    assert decoded == 20


@pytest.mark.parametrize(
    ("name", "feed", "symbol", "canonical", "tick", "lot"),
    [
        ("BINANCE.0.gz", "binance-spot", "BTCUSDT", "BTC-USDT", 10_000_000, 1_000),
        ("BINANCE_FUTURES.0.gz", "binance-usdm", "BTCUSDT", "BTC-USDT-PERP", 10_000_000, 100_000),
    ],
)
def test_recorded_exchange_information_defines_every_instrument(
    real_data: Path, name: str, feed: str, symbol: str, canonical: str, tick: int, lot: int
) -> None:
    # Ids in the venue's order; tick and lot size of one instrument against its filters by eye.
    decoder = _core.Decoder(feed)
    path = real_data / "binance" / "cryptofeed" / name
    ((kind, context, body, ts_recv),) = frames(path, feed)
    assert len(decoder.receive(kind, context.encode(), body, ts_recv)) == 0
    listed = [entry["symbol"] for entry in json.loads(body)["symbols"]]
    assert list(dict(sorted(decoder.symbols().items(), key=lambda item: item[1]))) == listed
    definitions = bytes(decoder.definitions())
    at = (decoder.symbols()[symbol] - 1) * 192
    fields = definitions[at : at + 192]
    assert fields[112:152].rstrip(b"\0").decode() == canonical
    assert int.from_bytes(fields[32:40], "little") == tick
    assert int.from_bytes(fields[40:48], "little") == lot
