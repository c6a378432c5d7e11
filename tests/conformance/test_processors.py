"""One suite over the table of processors, through Python, and over processors in Python."""

import random
import runpy
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tapeworks._core import (
    Records,
    Stage,
    TapeReader,
    TapeWriter,
    detector_table,
    kind_of,
    numbers,
    processor_table,
)
from tapeworks.config import Section, Value, parse, write_toml
from tapeworks.errors import ConfigError, ProcessorError, TapeError
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.jobs.inspection import state_faults
from tapeworks.pipeline import processors_of
from tapeworks.processors import derive
from tapeworks.processors.base import Processor, ProcessorConfig, loss_gap
from tapeworks.processors.derive import STEPS, Derivation
from tapeworks.processors.python_stage import PythonStage
from tapeworks.settings import resolve_config
from tapeworks.tape import list_offsets, tape_hash
from tapeworks.topics import ALERTS, METRICS, NEWS

TABLE = {name: (source, target) for name, source, target in processor_table()}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LargeTrades = runpy.run_path(str(EXAMPLES / "own_processor.py"))["LargeTrades"]
# Of alerts: all rules of the core, with what has no default. Those of single orders find nothing
# in the frames below: test_surveillance.py has theirs.
PARAMETERS = {
    "rate": "above=30\tbelow=5",
    "spread": "above_bps=0.01",
    "metric": "metric=mid\tabove=60050",
    "volatility": "above=1e-6\tmetric=rv_10s",
    "latency": "stage=sink",
    "marking_close_like": "hours=00:00-22:14",
}
RULES = "\n".join(
    f"{head[0]}\t{head[0]}\tinfo\t\t\t{PARAMETERS.get(head[0], '')}".rstrip("\t")
    for head, _, _ in detector_table()
)
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


def stories(seed: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Frames of a feed that tells news: one or two stories, or none that can be read."""
    chance, ts = random.Random(seed), 1_700_000_000_000_000_000
    for number in range(count):
        ts += chance.randrange(40_000_000)
        one, two = (
            f'{{"T":"n","id":{story},"headline":"x","created_at":"2026-01-02T03:04:05Z"}}'
            for story in (number, number + 1)
        )
        yield ts, chance.choice((f"[{one}]", f"[{one},{two}]", '[{"T":"n"}]', one)).encode()


@pytest.fixture
def tapes(tmp_path: Path) -> Path:
    """A folder with a raw tape and the normalised tape made of it."""
    with TapeWriter(tmp_path / "market-data.raw", "blobs", durability="never") as writer:
        for ts, body in frames(3, 1500):
            writer.append_blob(TEXT, body, ts=ts, feed=FEED)
    run(tmp_path, "normalize", "market-data.normalized")
    return tmp_path


@pytest.fixture
def tapes_of(tapes: Path) -> Callable[[str], Path]:
    """Returns the tapes for a processor: of news those of a feed that tells them."""

    def made(name: str) -> Path:
        if name != "news":
            return tapes
        folder = tapes / "news"
        with TapeWriter(folder / "market-data.raw", "blobs", durability="never") as writer:
            for ts, body in stories(4, 1500):
                writer.append_blob(TEXT, body, ts=ts, feed=numbers("feed")["alpaca"])
        run(folder, "normalize", "market-data.normalized", feed="alpaca")
        return folder

    return made


def opened(
    folder: Path, name: str, target: str, feed: str = "binance-spot", **options: int
) -> Stage:
    settings: dict[str, int | str] = {}
    if name == "normalize":
        settings["feed"] = feed
    if name == "alerts":
        settings |= {"rules": RULES, "sets": "l1,volatility", "partial": 1}
    if name in ("dead_letters", "news"):
        settings["raw"] = str(folder / "market-data.raw")
    source = TABLE[name][0]
    state = folder / "state" / target
    return Stage(name, folder / source, folder / target, state, settings, **options)


def run(
    folder: Path, name: str, target: str, max_items: int = 4096, feed: str = "binance-spot"
) -> None:
    stage = opened(folder, name, target, feed, durability_ms=-1)
    stage.run_until_idle(max_items)
    assert stage.lag == 0
    assert stage.notes == []
    stage.close()


@pytest.mark.parametrize("name", TABLE)
def test_live_equals_replay_at_any_batch_size(name: str, tapes_of: Callable[[str], Path]) -> None:
    # The same input in steps of 1, 7 and 4096 items: one hash of the output.
    tapes = tapes_of(name)
    for size in (1, 7, 4096):
        run(tapes, name, f"out-{size}", size)
    assert len({tape_hash(tapes / f"out-{size}") for size in (1, 7, 4096)}) == 1


@pytest.mark.parametrize("name", TABLE)
def test_killed_stage_writes_each_item_once(name: str, tapes_of: Callable[[str], Path]) -> None:
    # A stage that is let go of without saving is a stage that was killed: its memory is gone.
    tapes = tapes_of(name)
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

    def __init__(self, config: ProcessorConfig | None = None) -> None:
        super().__init__(config)
        self.passes = False

    def process(self, batch: Records) -> bytes:
        data, out, at = bytes(memoryview(batch)), bytearray(), 0
        while at < len(data):
            length = data[at] * 8
            if data[at + 1] == kind_of("trade"):
                self.passes = not self.passes
                if self.passes:
                    out += data[at : at + length]
            at += length
        return bytes(out)

    def snapshot(self) -> bytes:
        return struct.pack("?", self.passes)

    def restore(self, state: bytes) -> None:
        if len(state) != 1:
            raise ValueError(f"expected one byte, got {len(state)}")
        self.passes = struct.unpack("?", state)[0]


def large_trades() -> Processor:
    """The processor of the example, with a limit that some trades reach."""
    made: Processor = LargeTrades(LargeTrades.Config(times=1))
    return made


@pytest.mark.parametrize("make", [EveryOther, large_trades])
def test_processor_in_python_writes_each_item_once(
    tapes: Path, make: Callable[[], Processor]
) -> None:
    # As above, with states that are sometimes broken or removed between two lives.
    source = tapes / "market-data.normalized"

    def stage(name: str) -> PythonStage:
        states = tapes / "state" / name
        return PythonStage(make(), source, tapes / name, states, durability="never", save_items=300)

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
    if make is not EveryOther:
        assert TapeReader(tapes / "killed").end > 0
        return
    trades = sum(dict(batch.counts()).get(kind_of("trade"), 0) for batch in batches(source))
    assert sum(len(batch) for batch in batches(tapes / "killed")) == (trades + 1) // 2


def batches(path: Path) -> Iterator[Records]:
    reader = TapeReader(path)
    while (batch := reader.read()) is not None:
        yield batch


def own(output: str = "market-data.other", **more: str) -> Section:
    kind = f"{__name__}:{more.pop('of', 'EveryOther')}"
    texts = {"kind": kind, "output": output, **more}
    table = Section("processors.other", {key: Value(value, "test") for key, value in texts.items()})
    return Section("", {"processors": Section("processors", {"other": table})})


class Raising(EveryOther):
    """Fails at its first batch."""

    def process(self, batch: Records) -> bytes:
        raise KeyError("price")


def source_of(tapes: Path, data: Path) -> Path:
    """Lays the tapes where a recorder would; returns their folder."""
    folder = data / "tape" / "binance-spot"
    shutil.copytree(tapes, folder)
    shutil.rmtree(folder / "state")
    return folder


def test_settings_name_a_processor_of_the_users_own(tapes: Path, tmp_path: Path) -> None:
    # The process that derives runs it behind an offset for retention and tells its lag; a second
    # start adds nothing; its settings are written as they are read.
    config = resolve_config(own())
    (tmp_path / "shown.toml").write_text(write_toml(config))
    assert resolve_config(parse(tmp_path / "shown.toml", {})).processors == config.processors
    data = tmp_path / "data"
    folder = source_of(tapes, data)
    hashes = []
    for _ in range(2):
        derivation = Derivation(
            processors_of(config, "binance-spot"), config.tape, data, "binance-spot"
        )
        assert derivation.drain()
        assert derivation.lags()["market-data.other"] == 0
        derivation.close()
        hashes.append(tape_hash(folder / "market-data.other"))
    assert hashes[0] == hashes[1]
    assert "stage-other" in list_offsets(folder / "market-data.normalized")
    assert not list(state_faults(data))


def test_a_processor_that_raises_stops_alone(tapes: Path, tmp_path: Path) -> None:
    # All others derive everything; at the end its error names it, and where.
    config = resolve_config(own(of="Raising"))
    data = tmp_path / "data"
    source_of(tapes, data)
    derivation = Derivation(config.processors, config.tape, data, "binance-spot")
    assert not derivation.drain()
    # Nothing is measured unless the settings ask for it.
    assert set(derivation.lags()) == {step.target for step in STEPS} - {ALERTS, METRICS, NEWS}
    assert set(derivation.lags().values()) == {0}
    derivation.close()
    with pytest.raises(ProcessorError, match=r"Raising\.process raised at input offset 0.*price"):
        derivation.raise_failure()


class Endless(EveryOther):
    """Never returns from its first batch."""

    def process(self, batch: Records) -> bytes:
        while True:
            pass


def test_a_processor_that_never_returns_is_ended_as_if_it_had_raised(
    tapes: Path, tmp_path: Path
) -> None:
    # Its error names it, and where; what it was given is not covered, and given to it again.
    source, states = tapes / "market-data.normalized", tmp_path / "states"
    stage = PythonStage(Endless(), source, tmp_path / "endless", states, call_s_max=0.05)
    with pytest.raises(ProcessorError, match=r"Endless\.process .* 0 .*not return within 0\.05 s"):
        stage.step()
    assert stage.covered == 0
    stage.close()


def test_stop_with_input_left_is_no_success(
    tapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # There is no time for what is published: the code of the worker says so, and the next derives
    # it. A source of which nothing was recorded lacks nothing.
    config = resolve_config(Section())
    data = tmp_path / "data"
    source_of(tapes, data)
    monkeypatch.setattr(derive, "on_stop", lambda stop: stop(15, None))
    processors = replace(config.processors, batch_items=1)
    with monkeypatch.context() as patch:
        patch.setattr(derive, "DRAIN_S_MAX", 0.0)
        code = derive.run_worker(processors, config.tape, data, "binance-spot")
    assert code == EXIT_INCOMPLETE
    assert "items of input left" in caplog.text
    caplog.clear()
    assert derive.run_worker(config.processors, config.tape, data, "binance-spot") == 0
    assert derive.run_worker(config.processors, config.tape, data, "binance-futures") == 0
    assert caplog.text == ""


def test_notes_of_a_running_stage_are_logged_and_let_go(
    tapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The offsets of the input cannot be written while stages of both kinds run: each says so in
    # the log, at every state that it saves, and keeps nothing.
    config = resolve_config(own())
    data = tmp_path / "data"
    folder = source_of(tapes, data)
    derivation = Derivation(config.processors, config.tape, data, "binance-spot")
    assert derivation.drain()
    caplog.clear()
    offsets = folder / "market-data.normalized" / "offsets"
    shutil.rmtree(offsets)
    offsets.write_bytes(b"")
    stages = derivation._stages
    for _ in range(3):
        for stage in stages.values():
            stage.save()
        derivation.step()
        assert not any(stage.take_notes() for stage in stages.values())
    for name in ("other", "bars"):
        told = [line for line in caplog.messages if f"stage-{name}" in line]
        assert len(told) == 3, caplog.messages
    offsets.unlink()
    derivation.close()


def test_a_replaced_input_is_refused(tapes: Path) -> None:
    # Another tape with the same content at the same path: the state belongs to the one before.
    source, states = tapes / "market-data.normalized", tapes / "state" / "other"
    stage = PythonStage(EveryOther(), source, tapes / "other", states)
    stage.run_until_idle()
    stage.save()
    stage.close()
    shutil.rmtree(source)
    shutil.rmtree(tapes / "state" / "market-data.normalized")
    run(tapes, "normalize", "market-data.normalized")
    with pytest.raises(TapeError, match="replaced"):
        PythonStage(EveryOther(), source, tapes / "other", states)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output": "market-data.bars"}, "expected output to be a topic of its own"),
        ({"output": "../x"}, "expected output to be a topic of its own"),
        ({"input": "market-data.raw"}, "expected input to be one of market-data.alerts"),
        ({"of": "Nobody"}, "has no 'Nobody'; processors there"),
        ({"symbol": "A"}, "did you mean processors.other.symbols"),
    ],
)
def test_wrong_settings_of_a_processor_are_told(more: dict[str, str], said: str) -> None:
    # Each names the table and what would be right.
    with pytest.raises(ConfigError, match=said):
        resolve_config(own(**more))


def test_retention_that_passed_it_is_a_gap_with_its_times(tapes: Path) -> None:
    # A stage that took a little sleeps while a limit of bytes takes what comes next.
    source = tapes / "market-data.normalized"
    content = b"".join(bytes(batch) for batch in batches(source))
    short = tapes / "short"
    stage = None
    with TapeWriter(short, segment_bytes=1 << 16, retention_bytes=1 << 17) as writer:
        for start in range(40):
            writer.append(content)
            writer.sync()
            if start == 0:
                stage = PythonStage(EveryOther(), short, tapes / "other", tapes / "state" / "o")
                stage.step(10)
    assert stage is not None
    first = TapeReader(short).first
    assert first > 10
    stage.run_until_idle()
    (loss,) = stage.take_losses()
    # What it had open it still read.
    assert 10 <= loss[0] < loss[1] == first - 1
    assert 0 < loss[2] <= loss[3] < 2**62
    found = b"".join(bytes(batch) for batch in batches(tapes / "other"))
    gap = loss_gap(loss[0], first - 1, loss[2], "retention")
    assert found.count(gap) == 1
    stage.close()
