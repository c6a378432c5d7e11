"""Recorded frames through decoder, tape and sink: the lake holds exactly the venue's numbers."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

import tapeworks as tw
from tapeworks import _core
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

pytestmark = pytest.mark.slow

TOPIC = "market-data.normalized"
TEXT = 1
RECORDINGS = {
    "hftbacktest/spot_btcusdt_20240808.gz": "binance-spot",
    "hftbacktest/usdm_btcusdt_20240808.gz": "binance-usdm",
}


def frames(path: Path) -> list[tuple[int, bytes]]:
    """Receive time and body of every stream frame of a recording."""
    found = []
    with gzip.open(path, "rb") as lines:
        for line in lines:
            ts, _, body = line.partition(b" ")
            if body.startswith(b'{"stream"'):
                found.append((int(ts), body.strip()))
    return found


@pytest.mark.parametrize(("name", "feed"), RECORDINGS.items())
def test_lake_equals_the_capture(name, feed, real_data, tmp_path):
    # Trades and quotes read by Python's own json and decimal, against rows asked of the lake, half
    # of them in files and half on the tape.
    captured = frames(real_data / "binance" / name)
    decoder = _core.Decoder(feed)
    tape = tmp_path / "tape" / feed / TOPIC
    tape.mkdir(parents=True)
    trades, quotes = [], []
    with _core.TapeWriter(tape) as writer:
        for number, (ts, body) in enumerate(captured):
            records = decoder.receive(TEXT, b"", body, ts)
            if number == 0:
                # A recording of one symbol; its definition comes first, as on any tape.
                writer.append(bytes(decoder.definitions()), ts=ts)
            if len(records):
                writer.append(bytes(records), ts=ts)
            event = json.loads(body, parse_float=Decimal)["data"]
            if event.get("e") == "trade":
                side = "sell" if event["m"] else "buy"
                trades.append((event["t"], Decimal(event["p"]), Decimal(event["q"]), side, ts))
            elif event.get("e", "bookTicker") == "bookTicker" and "A" in event:
                prices = (Decimal(event[key]) for key in "bBaA")
                quotes.append((event["u"], *prices, ts))
            if number == len(captured) // 2:
                writer.sync()
                drain(tmp_path, feed, tape)
        opened = tw.open(tmp_path)
        wanted = "trade_id, price, size, side, epoch_ns(ts_recv) + ts_recv_ns"
        rows = opened.sql(f"select {wanted} from trades order by tape_offset").to_arrow()
        assert [tuple(row.values()) for row in rows.to_pylist()] == trades
        wanted = (
            "sequence, bid_price, bid_size, ask_price, ask_size, epoch_ns(ts_recv) + ts_recv_ns"
        )
        rows = opened.sql(f"select {wanted} from quotes order by tape_offset").to_arrow()
        assert [tuple(row.values()) for row in rows.to_pylist()] == quotes
    assert trades or quotes


def drain(data: Path, feed: str, tape: Path) -> None:
    config = ParquetConfig()
    feeder = Feeder(ParquetPartition(config, data, feed, TOPIC), tape, config.policy)
    feeder.drain(seconds_max=60)
    feeder.close()
