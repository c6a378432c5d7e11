"""A loss of power between a tape and the one made from it: the lake has each row once."""

import shutil
from pathlib import Path

import duckdb

from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.tape import TapeReader, TapeWriter

RAW, NORMALIZED = "market-data.raw", "market-data.normalized"
HEAD, FRAME, TRADE, BOOT = 16_384, 40, 64, 264


def stored(data: Path) -> list[int]:
    """Feeds the lake all that is durable; returns the ids of the trades in it."""
    tape = data / "tape" / "binance-spot" / NORMALIZED
    sink = ParquetPartition(ParquetConfig(), data, "binance-spot", NORMALIZED)
    feeder = Feeder(sink, tape, FlushPolicy())
    feeder.drain(seconds_max=5)
    feeder.close()
    files = data / "lake" / "trades" / "*" / "*" / "*.parquet"
    return [row[0] for row in duckdb.sql(f"select trade_id from '{files}' order by 1").fetchall()]


def test_rows_of_input_that_was_lost_are_never_stored(spine, maker, tmp_path):
    # The input is on the disk up to its 50th item, what is made from it up to its 100th. The lake
    # is given what both have. Then the power fails: of the image, under another boot, the input
    # has lost the rest. What was made of that is taken back, other rows get its offsets, and the
    # lake holds the first fifty and the others, once.
    source = spine.tape(RAW)
    with TapeWriter(source) as raw, TapeWriter(spine.tape(), source=source) as made:
        raw.append(maker.trades(50).tobytes())
        made.append(maker.definitions().tobytes(), input_offset=0)
        made.append(maker.trades(50).tobytes(), input_offset=50)
        raw.sync()
        assert made.sync() == 53
    options = {"durability": "never"}
    with (
        TapeWriter(source, **options) as raw,
        TapeWriter(spine.tape(), source=source, **options) as made,
    ):
        raw.append(maker.trades(50, 50).tobytes())
        made.append(maker.trades(50, 50).tobytes(), input_offset=100)
        assert made.sync() == 53
        assert stored(spine.path) == list(range(50))
        image = tmp_path / "image"
        shutil.copytree(spine.path, image)
    for path in image.glob("tape/*/*/*.seg"):
        data = bytearray(path.read_bytes())
        data[BOOT] ^= 1
        if path.parent.name == RAW:
            rest = HEAD + FRAME + 50 * TRADE
            data[rest:] = bytes(len(data) - rest)
        path.write_bytes(data)
    tapes = image / "tape" / "binance-spot"
    assert not TapeReader(tapes / NORMALIZED).settled
    with (
        TapeWriter(tapes / RAW) as raw,
        TapeWriter(tapes / NORMALIZED, source=tapes / RAW) as made,
    ):
        assert (raw.end, made.end, made.recovery["undone"]) == (50, 53, 50)
        assert TapeReader(tapes / NORMALIZED).settled
        raw.append(maker.trades(50, 200).tobytes())
        made.append(maker.trades(50, 200).tobytes(), input_offset=100)
        raw.sync()
        assert made.sync() == 103
        assert stored(image) == [*range(50), *range(200, 250)]
