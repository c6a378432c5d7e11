"""Bars built from recorded trades equal the venue's own klines in every column."""

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tapeworks._core import Stage, TapeReader, TapeWriter, dtype_descr

CAPTURES = ("spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz")
# Opening times in ms of the five-minute windows that the captures hold whole.
WINDOWS = (1_723_161_300_000, 1_723_161_600_000)
TEXT, REST, SPOT = 1, 3, 1
MAYBE_BAD = 32


def record_captures(folder: Path, tape: Path) -> None:
    with TapeWriter(tape, "blobs", durability="never") as writer:
        for name in CAPTURES:
            with gzip.open(folder / name, "rb") as lines:
                for line in lines:
                    ts, _, body = line.rstrip(b"\n").partition(b" ")
                    rest = b'"stream"' not in body[:40]
                    context = b"/api/v3/depth?symbol=BTCUSDT&limit=1000" if rest else b""
                    kind = REST if rest else TEXT
                    writer.append_blob(kind, body, ts=int(ts), context=context, feed=SPOT)


@pytest.mark.slow
def test_bars_equal_klines_of_the_venue(real_data: Path, tmp_path: Path) -> None:
    # Raw capture -> normalised records -> bars of five minutes, against the published history:
    # open, high, low, close, volume, turnover, count, and what takers bought.
    record_captures(real_data / "binance" / "hftbacktest", tmp_path / "raw")
    settings = {"feed": "binance-spot"}
    normalize = Stage("normalize", tmp_path / "raw", tmp_path / "n", tmp_path / "ns", settings)
    normalize.run_until_idle()
    counters = normalize.counters()
    assert counters["records.trade"] == 9_757 + 10_147
    assert counters["gaps"] == counters["duplicates"] == counters["dead_letters"] == 0
    options = {"intervals_ms": [300_000]}
    stage = Stage("bars", tmp_path / "n", tmp_path / "b", tmp_path / "bs", options)
    stage.run_until_idle()
    bars = {int(bar["ts_event"]) // 1_000_000: bar for bar in rows(tmp_path / "b", "bar")}
    klines = real_data / "binance" / "klines" / "BTCUSDT-spot-5m-2024-08.csv.gz"
    with gzip.open(klines, "rt") as file:
        venue = {int(row[0]): row for row in csv.reader(file)}
    for window in WINDOWS:
        assert columns(bars[window]) == expected(venue[window])
        assert int(bars[window]["closed"]) == 1
        assert int(bars[window]["flags"]) & MAYBE_BAD == 0


def rows(tape: Path, kind: str) -> list[np.void]:
    reader, found = TapeReader(tape), []
    while (batch := reader.read()) is not None:
        found.extend(np.frombuffer(batch.numpy(kind), np.dtype(dtype_descr(kind))))
    return found


def columns(bar: np.void) -> list[Decimal]:
    price, size = Decimal(10) ** -9, Decimal(10) ** -8
    prices = [int(bar[name]) * price for name in ("open", "high", "low", "close")]
    buys = int(bar["buy_volume"]) * size
    turnovers = [wide(bar, "turnover"), wide(bar, "buy_turnover")]
    volume, count = int(bar["volume"]) * size, Decimal(int(bar["count"]))
    return [*prices, volume, turnovers[0], count, buys, turnovers[1]]


def wide(bar: np.void, name: str) -> Decimal:
    low, high = int(bar[f"{name}_low"]), int(bar[f"{name}_high"])
    return ((high << 64) + low) * Decimal(10) ** -17


def expected(row: list[str]) -> list[Decimal]:
    names = (1, 2, 3, 4, 5, 7, 8, 9, 10)
    return [Decimal(row[at]) for at in names]
