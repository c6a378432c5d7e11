"""One suite over the table of processors, through Python, and over processors in Python."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeworks._core import KIND_TRADE, Records, Stage, TapeReader, TapeWriter, processor_table
from tapeworks.processors.base import Processor, PythonStage
from tapeworks.tape import tape_hash

TABLE = {name: (source, target) for name, source, target in processor_table()}
TEXT = 1
FEED = 1


def frames(seed: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Trades, quotes and broken frames of one symbol, some of them lost."""
    chance = random.Random(seed)
    ts, trade, quote = 1_700_000_000_000_000_000, 0, 0
    for _ in range(count):
        ts += chance.randrange(40_000_000)
        ms = ts // 1_000_000
        kind = chance.randrange(20)
        if kind < 10:
            trade += 1 if chance.randrange(15) else 3
            price, maker = 60_000 + chance.randrange(50), chance.choice(("true", "false"))
            yield (
                ts,
                (
                    f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{ms},"s":"BTCUSDT",'
                    f'"t":{trade},"p":"{price}.01","q":"0.00{price % 7}1","T":{ms},"m":{maker},'
                    f'"M":true}}}}'
                ).encode(),
            )
        elif kind < 19:
            quote += chance.randrange(1, 5)
            price = 60_000 + chance.randrange(50)
            yield (
                ts,
                (
                    f'{{"stream":"btcusdt@bookTicker","data":{{"u":{quote},"s":"BTCUSDT",'
                    f'"b":"{price}.00","B":"1.0","a":"{price}.01","A":"2.0"}}}}'
                ).encode(),
            )
        else:
            yield ts, b'{"stream":"btcusdt@trade","data":{"e":"tr'


@pytest.fixture
def tapes(tmp_path: Path) -> Path:
    """A folder with a raw tape and the normalised tape made of it."""
    with TapeWriter(tmp_path / "market-data.raw", "blobs", durability="never") as writer:
        for ts, body in frames(3, 1500):
            writer.append_blob(TEXT, body, ts=ts, feed=FEED)
    run(tmp_path, "normalize", "market-data.normalized")
    return tmp_path


def opened(folder: Path, name: str, target: str, **options: int) -> Stage:
    settings: dict[str, int | str] = {}
    if name == "normalize":
        settings["feed"] = "binance-spot"
    if name == "dead_letters":
        settings["raw"] = str(folder / "market-data.raw")
    source = TABLE[name][0]
    state = folder / "state" / target
    return Stage(name, folder / source, folder / target, state, settings, **options)


def run(folder: Path, name: str, target: str, max_items: int = 4096) -> None:
    stage = opened(folder, name, target, durability_ms=-1)
    stage.run_until_idle(max_items)
    assert stage.lag == 0
    assert stage.notes == []
    stage.close()


@pytest.mark.parametrize("name", TABLE)
def test_live_equals_replay_at_any_batch_size(name: str, tapes: Path) -> None:
    # The same input in steps of 1, 7 and 4096 items: one hash of the output.
    for size in (1, 7, 4096):
        run(tapes, name, f"out-{size}", size)
    assert len({tape_hash(tapes / f"out-{size}") for size in (1, 7, 4096)}) == 1


@pytest.mark.parametrize("name", TABLE)
def test_killed_stage_writes_each_item_once(name: str, tapes: Path) -> None:
    # A stage that is let go of without saving is a stage that was killed: its memory is gone.
    run(tapes, name, "straight")
    chance = random.Random(5)
    while True:
        stage = opened(tapes, name, "killed", durability_ms=-1, save_items=700)
        steps = chance.randrange(2, 40)
        while steps and stage.step(chance.randrange(1, 200)):
            steps -= 1
        done = stage.lag == 0
        if done or chance.randrange(3) == 0:
            stage.save()
        stage.close()
        if done:
            break
    assert tape_hash(tapes / "killed") == tape_hash(tapes / "straight")


def test_settings_are_checked(tapes: Path) -> None:
    # An unknown name, a wrong type and a wrong value: each says what was wanted.
    for settings, wanted in (
        ({"interval": 5}, "intervals_ms"),
        ({"intervals_ms": "1s"}, "list of positive numbers"),
        ({"channel": "trades"}, "trade or agg_trade"),
    ):
        with pytest.raises(ValueError, match=wanted):
            Stage("bars", tapes / "market-data.normalized", tapes / "x", tapes / "y", settings)
    with pytest.raises(ValueError, match="normalize, books"):
        Stage("nothing", tapes / "market-data.normalized", tapes / "x", tapes / "y")


class EveryOther(Processor):
    """Passes on every other trade: one bit of state."""

    def __init__(self) -> None:
        self.passes = False

    def process(self, batch: Records) -> bytes:
        data, out, at = bytes(memoryview(batch)), bytearray(), 0
        while at < len(data):
            length = data[at] * 8
            if data[at + 1] == KIND_TRADE:
                self.passes = not self.passes
                if self.passes:
                    out += data[at : at + length]
            at += length
        return bytes(out)

    def snapshot(self) -> bytes:
        return struct.pack("?", self.passes)

    def restore(self, state: bytes) -> None:
        if len(state) != 1:
            raise ValueError(f"wanted one byte, found {len(state)}")
        self.passes = struct.unpack("?", state)[0]


def test_processor_in_python_writes_each_item_once(tapes: Path) -> None:
    # As above, with states that are sometimes broken or removed between two lives.
    source = tapes / "market-data.normalized"

    def stage(name: str) -> PythonStage:
        states = tapes / "state" / name
        return PythonStage(
            EveryOther(), source, tapes / name, states, durability="never", save_items=300
        )

    straight = stage("straight")
    straight.run_until_idle()
    straight.close()
    chance, lives = random.Random(9), 0
    while True:
        killed, lives = stage("killed"), lives + 1
        steps = chance.randrange(2, 12)
        while steps and killed.step(chance.randrange(1, 100)):
            steps -= 1
        done = killed.lag == 0
        killed.close()
        if done:
            break
        for path in (tapes / "state" / "killed").iterdir():
            match chance.randrange(6):
                case 0:
                    path.unlink()
                case 1:
                    path.write_bytes(path.read_bytes()[:-1])
    assert lives > 2
    assert tape_hash(tapes / "killed") == tape_hash(tapes / "straight")
    trades = sum(dict(batch.counts()).get(KIND_TRADE, 0) for batch in batches(source))
    assert sum(len(batch) for batch in batches(tapes / "killed")) == (trades + 1) // 2


def batches(path: Path) -> Iterator[Records]:
    reader = TapeReader(path)
    while (batch := reader.read()) is not None:
        yield batch
