"""A feed in Python, through the recorder: real sockets, faults, kill -9, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tapeworks._core import Decoder, Ingest, Stage, TapeReader, price_units, size_units
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError, DecodeError
from tapeworks.feeds.python import Frame, PythonFeed, PythonFeedConfig, RecordBuilder
from tapeworks.pipeline import resolve_feed
from tapeworks.registry import load_member

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TRADE, QUOTE, MARKER = 1, 2, 8
HISTORICAL = 4
TEXT, REST = 1, 3
SNAPSHOT_BEGIN, GAP, CONNECTED, DEAD_LETTER, BOOK_STATE = 1, 3, 4, 9, 10
SEQUENCE, CONTINUOUS = 1, 3
RECORD = """
import sys
from tapeworks.config import Section, Value
from tapeworks.feeds.session import run_worker
from tapeworks.pipeline import resolve_feed
port, data, kind = sys.argv[1:]
settings = {
    "kind": kind,
    "symbols": ["OAK-USD", "PINE-USD"],
    "ws_url": f"ws://127.0.0.1:{port}/stream",
    "rest_url": f"http://127.0.0.1:{port}",
}
section = Section("feeds.harbor", {key: Value(value, "test") for key, value in settings.items()})
run_worker(resolve_feed("harbor", section), data)
"""


class Harbor:
    """The venue's process, and a recorder of it."""

    def __init__(self, port: int, data: Path) -> None:
        self.port = port
        self.data = data
        self.tapes = data / "tape" / "harbor"
        self.recorders: list[subprocess.Popen[bytes]] = []

    def fault(self, query: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/fault?{query}") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def record(self, kind: str = "own_feed:HarborFeed") -> "subprocess.Popen[bytes]":
        with (self.data / "recorder.log").open("ab") as log:
            recorder = subprocess.Popen(
                [sys.executable, "-c", RECORD, str(self.port), str(self.data), kind],
                cwd=EXAMPLES,
                stderr=log,
            )
        self.recorders.append(recorder)
        return recorder

    def records(self) -> list[bytes]:
        # The folder is there a moment before its first segment.
        if not any((self.tapes / "market-data.normalized").glob("*.seg")):
            return []
        return records(self.tapes / "market-data.normalized")

    def until(self, what: Callable[[list[bytes]], bool]) -> None:
        deadline = time.monotonic() + 30
        while not what(self.records()):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture
def harbor(tmp_path: Path) -> Iterator[Harbor]:
    child = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "harbor" / "venue.py"), "--venue"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin
    assert child.stdout
    made = Harbor(int(child.stdout.readline()), tmp_path)
    yield made
    for recorder in made.recorders:
        recorder.kill()
        recorder.wait(10)
    child.stdin.close()
    child.wait(10)
    child.stdout.close()


def records(tape: Path) -> list[bytes]:
    reader, found = TapeReader(tape), []
    while (batch := reader.read(100_000)) is not None:
        view, at = bytes(batch), 0
        while at < len(view):
            found.append(view[at : at + view[at] * 8])
            at += view[at] * 8
    return found


def number(record: bytes, start: int, size: int = 8) -> int:
    return int.from_bytes(record[start : start + size], "little")


def trades(found: list[bytes]) -> dict[int, list[int]]:
    """Returns the sequences of the trades of each instrument, in the order of the tape."""
    ids: dict[int, list[int]] = {}
    for record in found:
        if record[1] == TRADE:
            ids.setdefault(number(record, 4, 4), []).append(number(record, 24))
    return ids


def gaps(found: list[bytes], channel: int) -> dict[int, set[int]]:
    """Returns the sequences that the ledger says are missing, of each instrument."""
    missing: dict[int, set[int]] = {}
    for record in found:
        is_gap = record[1] == MARKER and record[32:34] == bytes([GAP, SEQUENCE])
        if is_gap and record[35] == channel:
            lost = range(number(record, 40), number(record, 48) + 1)
            missing.setdefault(number(record, 4, 4), set()).update(lost)
    return missing


def check_each_once(found: list[bytes]) -> None:
    """Every trade once, in order, and each that is not there is in the ledger."""
    lost = gaps(found, 1)
    seen = trades(found)
    assert set(seen) == {1, 2}
    for instrument, ids in seen.items():
        assert ids == sorted(set(ids))
        holes = set(range(ids[0], ids[-1])) - set(ids)
        assert holes == lost.get(instrument, set())


def stop(recorder: "subprocess.Popen[bytes]") -> None:
    recorder.send_signal(signal.SIGTERM)
    assert recorder.wait(20) == 0


def whole_books(found: list[bytes]) -> int:
    return sum(record[1] == MARKER and record[32] == SNAPSHOT_BEGIN for record in found)


def derived_books(harbor: Harbor) -> list[bytes]:
    book = harbor.data / "book"
    stage = Stage("books", harbor.tapes / "market-data.normalized", book, harbor.data / "s")
    stage.run_until_idle()
    stage.close()
    return records(book)


@pytest.mark.slow
def test_kill_9_gives_each_record_once(harbor: Harbor):
    # The recorder is killed twice while the venue speaks, and at last stopped. What was sent while
    # none ran is in the ledger, nothing is there twice, and a stage makes the same from raw.
    for _ in range(2):
        recorder = harbor.record()
        before = len(harbor.records())
        harbor.until(lambda found, before=before: len(found) > before + 400)  # type: ignore[misc]
        recorder.kill()
        recorder.wait(10)
    recorder = harbor.record()
    before = len(harbor.records())
    harbor.until(lambda found: len(found) > before + 400)
    stop(recorder)
    found = harbor.records()
    check_each_once(found)
    assert gaps(found, 1)
    sys.path.append(str(EXAMPLES))
    feed = load_member("feed", "own_feed:HarborFeed")(PythonFeedConfig("own_feed:HarborFeed"))
    again = harbor.data / "again"
    raw = harbor.tapes / "market-data.raw"
    stage = Stage("normalize", raw, again, harbor.data / "s", {}, decoder=feed)
    stage.run_until_idle(100)
    stage.close()
    assert records(again) == found


def test_faults_of_the_venue_are_gaps_and_dead_letters_and_books_recover(harbor: Harbor):
    # Lost messages, frames that end in the middle, and a cut connection. Books break at the loss,
    # are asked for in the stream, and are verified again.
    recorder = harbor.record()
    harbor.until(lambda found: len(found) > 200)
    assert harbor.fault("skip=3&garbage=2")["pongs"] >= 1
    harbor.until(lambda found: sum(len(v) for v in gaps(found, 1).values()) >= 6)
    # A whole book each at the start, one each that the recorder asked for, one each behind the cut.
    harbor.until(lambda found: whole_books(found) >= 4)
    harbor.fault("cut")
    harbor.until(lambda found: whole_books(found) >= 6)
    before = len(harbor.records())
    harbor.until(lambda found: len(found) > before + 50)
    stop(recorder)
    found = harbor.records()
    check_each_once(found)
    dead = [r for r in found if r[1] == MARKER and r[32] == DEAD_LETTER]
    assert len(dead) == 2
    shown = derived_books(harbor)
    by_instrument: dict[int, list[int]] = {}
    for record in shown:
        if record[1] == MARKER and record[32] == BOOK_STATE:
            by_instrument.setdefault(number(record, 4, 4), []).append(record[34])
    for seen in by_instrument.values():
        # Verified, broken by the loss, verified again; the end of the session empties it.
        assert seen.count(CONTINUOUS) >= 2
        assert seen[-1] == 0


def test_rules_that_raise_do_not_cut_the_connection(
    harbor: Harbor, monkeypatch: pytest.MonkeyPatch
):
    # A class whose `control` fails on every second frame of data: all is recorded all the same, on
    # one connection, and each trade once.
    (harbor.data / "raising.py").write_text(
        textwrap.dedent("""
            from own_feed import HarborFeed

            class Raising(HarborFeed):
                count = 0

                def control(self, payload):
                    self.count += b"room" in payload
                    if self.count % 2:
                        raise KeyError("room")
                    return super().control(payload)
        """)
    )
    path = os.pathsep.join([str(harbor.data), str(EXAMPLES)])
    monkeypatch.setenv("PYTHONPATH", path)
    recorder = harbor.record("raising:Raising")
    harbor.until(lambda found: len(found) > 400)
    stop(recorder)
    found = harbor.records()
    check_each_once(found)
    opened = [r for r in found if r[1] == MARKER and r[32] == CONNECTED]
    assert sum(r[40:42] != b"\xff\xff" for r in opened) == 1
    assert b"the feed's control() failed" in (harbor.data / "recorder.log").read_bytes()


@pytest.mark.parametrize(
    ("text", "price"),
    [("1.5", 1_500_000_000), (b"-0.000000001", -1), (7, 7 * 10**9), (Decimal("1e-3"), 10**6)],
)
def test_numbers_are_exact(text: Any, price: int):
    # By hand: units of 1e-9, and the same texts as sizes where they fit.
    assert price_units(text) == price
    assert size_units("0.1") == 10_000_000


@pytest.mark.parametrize("wrong", [1.5, None, True, [], "x", "1.0000000001", "1e30", "NaN"])
def test_numbers_that_are_not_exact_are_refused(wrong: Any):
    # A float is refused whatever it holds; a text that does not fit says so.
    with pytest.raises((DecodeError, TypeError), match="price: expected"):
        price_units(wrong)


class Counting(PythonFeed):
    """Remembers how many frames it has seen, as a venue without sequences makes one do."""

    def __init__(self, config: PythonFeedConfig) -> None:
        super().__init__(config)
        self.seen = 0

    lines = subscriptions = control = None  # type: ignore[assignment]

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        self.seen += 1
        if frame.body == b"late":
            self.kept.trade("A", "1", "1")
        self.kept = out
        if frame.body == b"half":
            out.trade("A", "1", "1", sequence=self.seen)
            raise KeyError("price")
        if frame.body == b"float":
            out.trade("A", 1.5, "1")  # type: ignore[arg-type]
        out.trade("A", "1", "1", sequence=self.seen)

    def snapshot(self) -> bytes:
        return b"%d" % self.seen

    def restore(self, state: bytes) -> None:
        self.seen = int(state or b"0")


def test_exception_leaves_nothing_of_its_frame():
    # One that comes behind a record takes the record with it; the next frame is as new.
    decoder = Decoder("foreign", Counting(PythonFeedConfig("x:Y", source="s")))
    assert len(decoder.receive(1, b"", b"", 1)) == 1
    for body in (b"half", b"float"):
        with pytest.raises(DecodeError) as caught:
            decoder.receive(1, b"", body, 2)
        assert caught.value.reason == "raised"
    assert len(decoder.receive(1, b"", b"", 3)) == 1


def test_memory_of_a_decoder_outlives_a_restart(tmp_path: Path):
    # Five frames, a stop that saves, five frames by another object: numbers go on, no gap.
    def recorded(count: int) -> None:
        feed = Counting(PythonFeedConfig("x:Y", source="s"))
        ingest = Ingest(tmp_path, "s", "", decoder=feed)
        for n in range(count):
            ingest.receive(0, 1, n, b"")
        ingest.flush()
        ingest.close()

    recorded(5)
    recorded(5)
    found = records(tmp_path / "tape" / "s" / "market-data.normalized")
    assert trades(found) == {1: list(range(1, 11))}
    assert not gaps(found, 1)


class Telling(PythonFeed):
    """Rows of time, price and number of trades; those of an answer are of the venue's history."""

    lines = subscriptions = control = None  # type: ignore[assignment]

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        for ts, price, sequence in json.loads(frame.body):
            told = {"ts_event": ts, "historical": frame.kind == "rest"}
            out.trade("A", str(price), "1", sequence=sequence, **told)
            out.quote("B", str(price), "1", None, None, **told)


@pytest.mark.parametrize("numbered", [False, True])
def test_what_fills_a_gap_is_history_and_its_ends_are_stored_once(tmp_path: Path, numbered: bool):
    # Live 1 and 4, the answer has both and two between, which say the same where nothing numbers
    # them; it comes twice.
    start = 1_790_000_000 * 10**9
    rows = [[start + at * 10**9, 10, 0] for at in (1, 2, 2, 4)]
    if numbered:
        rows = [[ts, price, n + 1] for n, (ts, price, _) in enumerate(rows)]
    ingest = Ingest(tmp_path, "s", "", decoder=Telling(PythonFeedConfig("x:Y", source="s")))
    for row in (rows[0], rows[3]):
        ingest.receive(0, TEXT, row[0] + 1000, json.dumps([row]).encode())
    for again in range(2):
        ts = start + (9 + again) * 10**9
        ingest.receive(65_535, REST, ts, json.dumps(rows).encode(), b"/history?from=1")
    ingest.flush()
    ingest.close()
    found = records(tmp_path / "tape" / "s" / "market-data.normalized")
    for kind in (TRADE, QUOTE):
        events = [one for one in found if one[1] == kind]
        times = [((number(one, 8) - start) // 10**9, bool(one[2] & HISTORICAL)) for one in events]
        assert sorted(times) == [(1, False), (2, True), (2, True), (4, False)]


def resolve(kind: str, **more: object) -> Any:
    entries = {"kind": Value(kind, "tapeworks.toml")}
    entries |= {key: Value(value, "tapeworks.toml") for key, value in more.items()}
    return resolve_feed("mine", Section("feeds.mine", entries))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no_such_module:Feed", "cannot import no_such_module: ModuleNotFoundError"),
        ("mine_broken:Feed", "cannot import mine_broken: ZeroDivisionError"),
        ("mine_feeds:Missing", r"has no 'Missing'; feeds there: \['Half'"),
        ("mine_feeds:Stranger", "expected a class derived from tapeworks.feeds.python.PythonFeed"),
        ("mine_feeds:Half", "the class lacks control, decode, lines, subscriptions"),
        ("mine_feeds:Odd", "expected Config to be a dataclass derived from PythonFeedConfig"),
    ],
)
def test_what_is_no_feed_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
):
    # Modules of a user, each wrong in its own way.
    (tmp_path / "mine_broken.py").write_text("1 / 0")
    (tmp_path / "mine_feeds.py").write_text(
        textwrap.dedent("""
            from tapeworks.feeds.python import PythonFeed

            class Half(PythonFeed): ...
            class Odd(PythonFeed):
                Config = dict
                lines = subscriptions = control = decode = None
            class Stranger: ...
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=said):
        resolve(kind)


def test_settings_of_an_own_feed_are_checked_as_any(monkeypatch: pytest.MonkeyPatch):
    # An unknown key names the nearest, a wrong address says what was wanted.
    monkeypatch.syspath_prepend(EXAMPLES)
    config = resolve("own_feed:HarborFeed", ws_url="ws://127.0.0.1:1/stream")
    assert (config.name, config.kind) == ("mine", "own_feed:HarborFeed")
    with pytest.raises(ConfigError, match=r"did you mean feeds\.mine\.symbols"):
        resolve("own_feed:HarborFeed", symbol=["A"])
    with pytest.raises(ConfigError, match="ws_url: expected ws://host:port or wss://"):
        resolve("own_feed:HarborFeed", ws_url="http://127.0.0.1")


def test_command_line_knows_an_own_feed(tape: Any, monkeypatch: pytest.MonkeyPatch):
    # Its settings are checked and shown; a class that is not there is one line and exit code 2.
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    settings = tape.folder / "tapeworks.toml"
    text = (
        '[feeds.harbor]\nkind = "own_feed:HarborFeed"\nsymbols = ["OAK-USD"]\n'
        'ws_url = "ws://127.0.0.1:9/stream"\n'
    )
    settings.write_text(text)
    assert "1 symbols, 2 streams" in tape.run("config", "check")
    assert 'kind = "own_feed:HarborFeed"' in tape.run("config", "show")
    settings.write_text(text.replace(":HarborFeed", ":Harbour"))
    assert "feeds there: ['HarborFeed']" in tape.refuse("up", code=2)
