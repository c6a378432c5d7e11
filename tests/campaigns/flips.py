"""Damages one file of a recording at a time, and compares every reader's answer with the original.

A small recording (raw, normalized, book and the other tapes, compressed and not, live or closed,
named offsets, states) is damaged in one place: a bit, a byte, a cut, zeros, a file that is gone.
Each reader must answer as before or with an error that says what is wrong: never with less, never
with other data, never by a crash or a hang. A writer that opens a copy either goes on with all of
it, or refuses and removes nothing. What is derived is made again from what is whole.

`TAPEWORKS_FLIPS_DAMAGES` says how many places a run damages (8); 0 flips a bit of every byte.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from tests.campaigns.base import Outcome

import tapeworks as tw
from tapeworks import _core
from tapeworks.errors import QueryError, TapeworksError
from tapeworks.processors.derive import NORMALIZE, RAW, STEPS, Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.tape import TapeConfig, TapeReader, TapeWriter, tape_hash, verify
from tapeworks.views.status import Status

SOURCE = "binance-spot"
NORMALIZED, BOOK = "market-data.normalized", "market-data.book"
TAPE = TapeConfig(durability="every-frame", segment_bytes=64 << 10, compress_after=1)
# Ahead of any clock: receive times never fall, and the recorder notes when it began.
START = 1_900_000_000_000_000_000
MS = 1_000_000
# Longer than any answer takes on a machine under load.
ANSWER_S_MAX = 60
HEAD_BYTES = 16_384
# What a user is told in one line; anything else ends in a traceback.
CLEAR = (TapeworksError, OSError, ValueError)

Answer = Callable[[Path], Any]


class Processing:
    """The default settings of all processors, for a source of this feed."""

    batch_items = 512
    own: ClassVar[Mapping[str, Any]] = {}
    own_rules: ClassVar[Mapping[str, Any]] = {}

    def settings(self, processor: str) -> dict[str, Any]:
        """Returns the settings of `processor` by name."""
        if processor == NORMALIZE.processor:
            return {"feed": SOURCE}
        return dict(ProcessorsConfig().settings(processor))


def frames(chance: random.Random, count: int) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yields time, kind, context and body: a verified book, trades, quotes, dead letters."""
    snapshot = {"lastUpdateId": 100, "bids": [["100", "5"]], "asks": [["101", "5"]]}
    path = b"/api/v3/depth?symbol=BTCUSDT&limit=5"
    yield START, 3, path, json.dumps(snapshot).encode()
    update, trade = 100, 0
    for number in range(1, count):
        ts = START + number * 20 * MS
        what = chance.randrange(10)
        event: dict[str, Any] = {"s": "BTCUSDT", "E": ts // MS}
        price = f"{100 - chance.randrange(1, 40) / 100:.2f}"
        if what < 5:
            update += 1
            sides = {"b": [[price, str(chance.randrange(1, 9))]], "a": []}
            event |= {"e": "depthUpdate", "U": update, "u": update, **sides}
            stream = "depth@100ms"
        elif what < 9:
            trade += 1
            event |= {"e": "trade", "t": trade, "p": price, "q": "1.5", "T": ts // MS, "m": True}
            stream = "trade"
        else:
            stream = "nothing"
        body = {"stream": f"btcusdt@{stream}", "data": event}
        # A long tail of spaces, so that segments fill.
        yield ts, 1, b"", json.dumps(body).encode() + b" " * chance.randrange(400)


def record(data: Path, seed: int, tape: TapeConfig, *, is_live: bool) -> None:
    """Records and derives, in a process that ends as if it were killed if `is_live`."""
    chance = random.Random(seed)
    ingest = _core.Ingest(data, SOURCE, SOURCE, **tape.settings())
    ingest.connected(0, 0, START)
    derivation = Derivation(Processing(), tape, data, SOURCE)
    for number, (ts, kind, context, body) in enumerate(frames(chance, 900)):
        ingest.receive(0, kind, ts, body, context)
        if number % 7 == 0:
            ingest.flush()
        if number % 100 == 0:
            derivation.step()
    ingest.flush()
    ingest.sync()
    derivation.drain()
    wait_for_upkeep(data, tape.compress_after)
    if not is_live:
        derivation.close()
        ingest.close()


def wait_for_upkeep(data: Path, compress_after: int) -> None:
    """Waits until the closed segments of all tapes are compressed but for `compress_after`."""
    until = time.monotonic() + ANSWER_S_MAX
    for tape in tapes(data):
        while len(plain := sorted(tape.glob("*.seg"))) > compress_after + 1:
            if time.monotonic() > until:
                raise AssertionError(f"expected compressed segments, got {plain}")
            time.sleep(0.01)


def tapes(data: Path) -> list[Path]:
    """Returns the folders of all tapes."""
    return sorted(path for path in (data / "tape" / SOURCE).iterdir() if path.is_dir())


def digest(value: object) -> str:
    """Returns a short number for a large answer."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def read_items(reader: TapeReader, limit: int) -> Iterator[bytes]:
    """Yields all items from where the reader is, in batches."""
    if reader.kind == "records":
        while (batch := reader.read(limit)) is not None:
            yield bytes(batch)
    else:
        while (blobs := reader.read_blobs(limit)) is not None:
            said = ((b.offset, b.ts_recv, b.kind, b.context, b.body) for b in blobs)
            yield "".join(map(repr, said)).encode()


def read_all(tape: Path) -> Any:
    """Reads a tape from its start in two sizes; says where it ends by its own account too.

    How far it is durable is a word without a sum. One that says less costs nothing: what lies
    behind it is synced again. It may not say more.
    """
    found = []
    for limit in (97, 100_000):
        reader, total = TapeReader(tape), hashlib.sha256()
        for part in read_items(reader, limit):
            total.update(part)
        found += [total.hexdigest(), str((reader.position, reader.end))]
        if reader.durable > reader.end:
            raise AssertionError(f"durable up to {reader.durable}, and it ends at {reader.end}")
    return found


def seek_all(tape: Path) -> Any:
    """Seeks offsets and times all over a tape, and reads on from each."""
    reader = TapeReader(tape)
    end = reader.end
    found = []
    for part in range(11):
        reader.seek(end * part // 10)
        # One item: what is good before damage is given first, and the next call meets it.
        found.append((reader.position, digest(next(read_items(reader, 1), None))))
        reader.seek_time(START + part * 1500 * MS)
        found.append((reader.position, digest(next(read_items(reader, 1), None))))
    return found


def covered(tape: Path) -> Any:
    """Asks what input a tape covers.

    Where power may have been lost it may be less: what is durable counts items only.
    """
    reader = TapeReader(tape)
    if not reader.settled:
        raise TapeworksError(f"expected a tape that a writer of this boot opened, got {tape}")
    return reader.covered


def verify_all(tape: Path) -> Any:
    """Verifies a tape: a fault is as good as an error."""
    report = verify(tape)
    if report["fault"] is not None:
        raise TapeworksError(str(report["fault"]))
    return [report["first"], report["end"], report["items"], report["bytes"]]


def offsets(tape: Path) -> Any:
    """Reads all named offsets of a tape."""
    folder = tape / "offsets"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [(name, _core.load_offset(tape, name)) for name in names if not name.startswith(".")]


def replay(data: Path) -> Any:
    """Replays everything that is on the tapes, as a command would."""
    kinds = ("trades", "quotes", "depth", "markers", "bars", "ticks", "gaps")
    batches = tw.open(data).replay(kinds=kinds, source=SOURCE)
    return digest(b"".join(bytes(batch) for batch in batches))


def books(data: Path) -> Any:
    """Asks for the book at instants of all the recording, by both clocks."""
    lake = tw.open(data)
    found = []
    for part in range(1, 12):
        for clock in ("event", "receipt"):
            at = START + part * 1200 * MS
            try:
                book = lake.book("BTCUSDT", at=at, source=SOURCE, clock=clock)
                found.append((book.sequence, digest(book.bids), digest(book.asks)))
            except QueryError as error:
                if "not verified" not in str(error) and "no book" not in str(error):
                    raise
                found.append((0, "", ""))
    return found


def tail(data: Path) -> Any:
    """Asks the lake, which the tapes' tails are part of, for its rows."""
    lake = tw.open(data)
    return [
        [digest(lake.trades("BTCUSDT", source=SOURCE).to_pylist())],
        [digest(lake.gaps(source=SOURCE).to_pylist())],
        lake.symbols(source=SOURCE),
    ]


def status(data: Path) -> Any:
    """Takes one sample of the status: troubles are as good as an error."""
    state = Status(data).sample()
    [source] = state.sources
    if source.troubles:
        raise TapeworksError(str(source.troubles))
    return [(tape.topic, tape.first, tape.items) for tape in source.tapes]


def files(folder: Path) -> dict[str, str]:
    """Returns the hash of every segment below `folder`, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.seg*"))
    }


def reopen(tape: Path) -> Any:
    """Opens a copy for writing: it goes on with everything, or refuses and keeps every file."""
    copy = tape.parent.parent / f"copy-{tape.name}"
    shutil.copytree(tape, copy)
    before = files(copy)
    try:
        kind = "blobs" if tape.name in (RAW, "market-data.dead", "market-data.news") else "records"
        try:
            with TapeWriter(copy, kind, segment_bytes=64 << 10) as writer:
                end = writer.end
        except CLEAR as error:
            if files(copy) != before:
                raise AssertionError(f"refused, and changed files: {error}") from error
            raise
        reader = TapeReader(copy)
        assert reader.end == end, f"the writer ends at {end}, a reader at {reader.end}"
        return [end, tape_hash(copy)]
    finally:
        shutil.rmtree(copy)


def derive(data: Path) -> Any:
    """Derives everything on a copy, as a restart would: the same tapes, from what is whole."""
    copy = data.with_name("derived")
    shutil.copytree(data, copy)
    try:
        derivation = Derivation(Processing(), TAPE, copy, SOURCE, STEPS)
        try:
            is_drained = derivation.drain()
            derivation.raise_failure()
            assert is_drained, "expected all input to be taken"
        finally:
            with contextlib.suppress(*CLEAR):
                derivation.close()
        return [tape_hash(tape) for tape in tapes(copy)]
    finally:
        shutil.rmtree(copy)


OF_TAPES: dict[str, Answer] = {
    "read": read_all,
    "hash": tape_hash,
    "seek": seek_all,
    "covered": covered,
    "verify": verify_all,
    "offsets": offsets,
    "reopen": reopen,
}
OF_DATA: dict[str, Answer] = {
    "replay": replay,
    "books": books,
    "tail": tail,
    "status": status,
    "derive": derive,
}


def answers(data: Path, damaged: Path | None) -> dict[str, Callable[[], Any]]:
    """Returns the questions to ask: of the tape that holds `damaged`, or all; and of the data."""
    asked: dict[str, Callable[[], Any]] = {}
    for tape in tapes(data):
        if damaged is None or tape in damaged.parents:
            for name, answer in OF_TAPES.items():
                asked[f"{name} {tape.name}"] = lambda tape=tape, answer=answer: answer(tape)
    for name, answer in OF_DATA.items():
        asked[name] = lambda answer=answer: answer(data)
    return asked


def ask(question: Callable[[], Any]) -> list[Any]:
    """Asks in a process of its own: `["answer", value]`, `["error", text]` or `["fault", text]`."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        answer_in_child(question, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        text = file.read()
    _, code = os.waitpid(child, 0)
    if os.WIFSIGNALED(code):
        number = os.WTERMSIG(code)
        hangs = number == signal.SIGALRM
        return ["fault", "hangs" if hangs else f"ended by {signal.Signals(number).name}"]
    return list(json.loads(text)) if text else ["fault", f"ended with {code}"]


def answer_in_child(question: Callable[[], Any], writing: int) -> NoReturn:
    """Answers into the pipe `writing`, and ends the process whatever happens."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(ANSWER_S_MAX)
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            result = ["answer", question()]
    except CLEAR as error:
        result = ["error", f"{type(error).__name__}: {error}"]
        if type(error) is ValueError and "expected" not in str(error):
            result = ["fault", traceback.format_exc(limit=-3)]
    except BaseException:
        result = ["fault", traceback.format_exc(limit=-4)]
    os.write(writing, json.dumps(result, default=str).encode()[:60_000])
    os._exit(0)


def place(chance: random.Random, path: Path) -> int:
    """Returns a byte of the file, more often one that steers."""
    size = path.stat().st_size
    if ".seg" not in path.name:
        return chance.randrange(max(size, 1))
    at = (chance.randrange(64), chance.randrange(64, 400), chance.randrange(4096, 4300))
    frame = HEAD_BYTES + chance.randrange(120)
    return min(chance.choice([*at, *[frame] * 2, *[chance.randrange(size)] * 4]), max(size - 1, 0))


def damage(chance: random.Random, path: Path) -> str:
    """Damages the file in one place; says how."""
    content = bytearray(path.read_bytes())
    at = place(chance, path)
    how = chance.choice(["bit"] * 5 + ["byte", "cut", "cut", "zeros", "gone"])
    if how == "gone" or not content:
        path.unlink()
        return "gone"
    if how == "bit":
        content[at] ^= 1 << chance.randrange(8)
    elif how == "byte":
        content[at] = chance.randrange(256)
    elif how == "cut":
        del content[at:]
    else:
        until = min(at + chance.choice([8, 64, 4096]), len(content))
        content[at:until] = bytes(until - at)
    path.write_bytes(content)
    return f"{how} at {at}"


def is_told_by_others(path: Path, how: str) -> bool:
    """Whether the tape alone cannot tell: the oldest of its segments, or the only one, is gone.

    The first is what retention does. The second is a tape that begins anew: its id tells.
    """
    siblings = [str(other) for other in path.parent.glob("*.seg*")]
    is_oldest = not siblings or str(path) < min(siblings)
    is_segment = ".seg" in path.name
    return how == "gone" and (is_oldest if is_segment else path.parent.name == "offsets")


def judge(
    outcome: Outcome, original: dict[str, list[Any]], data: Path, path: Path, how: str
) -> None:
    """Asks everything that the damage may touch, and compares."""
    name = f"{path.relative_to(data)}: {how}"
    for question, asked in answers(data, path).items():
        found = ask(asked)
        outcome.figures["answers"] += 1
        if found == original[question]:
            outcome.figures["equal"] += 1
        elif found[0] == "error":
            outcome.figures["errors"] += 1
            outcome.expect(
                len(found[1]) > 20 or original[question][0] == "error",
                f"{name}: {question}: an error that says nothing: {found[1]}",
            )
        else:
            was = str(original[question])[:300]
            outcome.complaints.append(f"{name}: {question}: {str(found)[:600]}; it was {was}")


def make(
    folder: Path, seed: int, compress_after: int, *, is_live: bool, is_other_boot: bool
) -> Path:
    """Makes the recording below `folder`, in a process of its own."""
    data = folder / "data"
    tape = replace(TAPE, compress_after=compress_after)
    made = ask(lambda: record(data, seed, tape, is_live=is_live))
    if made[0] != "answer":
        raise AssertionError(f"could not record: {made[1]}")
    compressed = {path.parent.name for path in data.rglob("*.seg.lz4")}
    expected = {RAW} if compress_after else {RAW, NORMALIZED, BOOK}
    if not compressed >= expected:
        raise AssertionError(f"expected compressed segments of {expected}, got {compressed}")
    if is_other_boot:
        for path in data.rglob("*.seg*"):
            with path.open("r+b") as file:
                file.seek(264)
                file.write(bytes(range(1, 17)))
    return data


def run(seed: int, folder: Path) -> Outcome:
    """Damages a recording in several places, one at a time."""
    outcome = Outcome()
    chance = random.Random(seed)
    is_other_boot = chance.random() < 0.3
    is_live, compress_after = chance.random() < 0.5, chance.randrange(2)
    data = make(folder, seed, compress_after, is_live=is_live, is_other_boot=is_other_boot)
    original = {name: ask(asked) for name, asked in answers(data, None).items()}
    for question, found in original.items():
        # After a loss of power what is covered is known only once a writer has opened the tape.
        may_refuse = is_other_boot and question.startswith("covered ")
        fits = found[0] == "answer" or (may_refuse and found[0] == "error")
        outcome.expect(fits, f"undamaged: {question}: {found}")
    kept = sorted(path for path in data.rglob("*") if path.is_file() and path.stat().st_size)
    segments = [path for path in kept if ".seg" in path.name]
    others = [path for path in kept if ".seg" not in path.name and path.name != "LOCK"]
    count = int(os.environ.get("TAPEWORKS_FLIPS_DAMAGES", "8"))
    whole = folder / "whole"
    shutil.copytree(data, whole)
    for path, how in damages(chance, segments, others, count):
        if not is_told_by_others(path, how):
            judge(outcome, original, data, path, how)
        outcome.figures["damages"] += 1
        outcome.figures["compressed"] += path.name.endswith(".lz4")
        shutil.rmtree(data)
        shutil.copytree(whole, data)
    return outcome


def damages(
    chance: random.Random, segments: list[Path], others: list[Path], count: int
) -> Iterator[tuple[Path, str]]:
    """Damages one file after the other, each by the time that it is yielded."""
    for _ in range(count):
        path = chance.choice(segments if chance.random() < 0.8 else others)
        yield path, damage(chance, path)
    if count == 0:
        for path in [*segments, *others]:
            for at in range(path.stat().st_size):
                content = bytearray(path.read_bytes())
                content[at] ^= 1 << chance.randrange(8)
                path.write_bytes(content)
                yield path, f"bit of byte {at}"
