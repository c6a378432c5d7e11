"""A venue that misbehaves in some 140 ways, a recorder, and what it owes us all the same.

The seed names the mode and the moment: before the recorder starts, or when it records. The attack
lasts some seconds. Meanwhile the recorder must keep its memory, answer, and not end. When the venue
behaves again it must record again, with verified books. In the end every trade that the venue sent
is on the tape once or in the ledger, nothing else is, and the recorder's own words are true.
Modes of frames and requests are tried as Binance, those of events in the dialect of every venue.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.campaigns.base import Outcome
from tests.hostile.base import Mode
from tests.hostile.dialects import DIALECTS
from tests.hostile.modes import MODES
from tests.hostile.wire import SYMBOLS

from tapeworks._core import TapeReader, dtype_descr
from tapeworks.exits import EXIT_DONE, EXIT_INCOMPLETE, EXIT_REFUSED

ROOT = Path(__file__).resolve().parents[2]
RSS_MIB_MAX = 300
LOG_BYTES_MAX = 2 << 20
ATTACK_S = 5.0
HEALTHY_S_MAX, BACK_S_MAX, STALE_S_MAX, END_S_MAX = 60.0, 90.0, 15.0, 30.0
TRADE, GAP, SEQUENCE, REPAIRED = 1, 3, 1, 3
RECORDER = """
import json, logging, sys
from tapeworks.errors import VenueError
from tapeworks.feeds.session import run_worker
from tapeworks.printable import PrintableFormatter
from tapeworks.registry import load_settings
kind, settings, data = sys.argv[1:]
handler = logging.StreamHandler()
handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
logging.basicConfig(handlers=[handler], level="INFO")
given = {key: tuple(of) if isinstance(of, list) else of for key, of in json.loads(settings).items()}
try:
    sys.exit(run_worker(load_settings("feed", kind)(**given), data))
except VenueError as error:
    logging.error("%s", error)
    sys.exit(4)
"""


@dataclass(frozen=True)
class Recorded:
    """How the venue of a mode is recorded."""

    kind: str = "binance"
    source: str = "binance-spot"
    symbols: tuple[str, ...] = SYMBOLS
    streams: int = 3
    """Of each symbol."""
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {"definitions_s": 2.0, "snapshot_refresh_s": 1.0}
    )
    keys: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def by(mode: Mode) -> "Recorded":
        """Returns how the venue of `mode` is recorded."""
        if not mode.dialect:
            return Recorded()
        of = DIALECTS[mode.dialect]
        return Recorded(of.kind, of.source, of.symbols, of.streams, of.settings, of.keys)

    def command(self, port: int, folder: Path) -> list[str]:
        """Returns the command that records the venue at `port`."""
        settings = {
            "symbols": self.symbols, "ws_url": f"ws://127.0.0.1:{port}", "idle_timeout_s": 4.0,
            **self.settings,
        }  # fmt: skip
        if self.kind == "binance":
            settings["rest_url"] = f"http://127.0.0.1:{port}"
        return [sys.executable, "-c", RECORDER, self.kind, json.dumps(settings), str(folder)]


class Scene:
    """The venue's process, and the recorder's."""

    def __init__(self, mode: Mode, seed: int, folder: Path, outcome: Outcome) -> None:
        self.mode = mode
        self.recorded = Recorded.by(mode)
        self.folder = folder
        self.outcome = outcome
        self.rss_mib = 0
        with (folder / "venue.log").open("ab") as log:
            self.venue = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile", mode.name, str(seed)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.venue.stdout is not None
        self.port = int(self.venue.stdout.readline())
        self.recorder: subprocess.Popen[bytes] | None = None

    def tell(self, word: str) -> dict[str, Any]:
        """Tells the venue a word; returns what it has sent so far."""
        assert self.venue.stdin is not None
        assert self.venue.stdout is not None
        self.venue.stdin.write(word + "\n")
        self.venue.stdin.flush()
        facts: dict[str, Any] = json.loads(self.venue.stdout.readline())
        return facts

    def record(self) -> None:
        """Starts the recorder."""
        with (self.folder / "recorder.log").open("ab") as log:
            command = self.recorded.command(self.port, self.folder)
            keys = {**os.environ, **self.recorded.keys}
            self.recorder = subprocess.Popen(command, cwd=ROOT, env=keys, stdout=log, stderr=log)

    def status(self) -> dict[str, Any]:
        """Returns what the recorder said of itself last; nothing before it did."""
        path = self.folder / "state" / self.recorded.source / "recorder.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def look(self) -> None:
        """Takes the recorder's memory, and has it started again if it was refused."""
        assert self.recorder is not None
        code = self.recorder.poll()
        if code is None:
            self.rss_mib = max(self.rss_mib, rss_mib(self.recorder.pid))
        elif code == EXIT_REFUSED and self.mode.refused:
            self.outcome.figures["refused"] += 1
            time.sleep(1)
            self.record()
        else:
            raise AssertionError(f"the recorder ended with {code}: {self.last_words()}")

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> bool:
        """Waits for `condition` and looks at the recorder meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.look()
            if time.monotonic() > deadline:
                told = {key: self.status().get(key) for key in STATUS_TOLD}
                self.outcome.expect(False, f"{what} in {seconds} s: {told}")
                return False
            time.sleep(0.1)
        return True

    def is_well(self) -> bool:
        """Whether all streams speak and all books are verified."""
        told = self.status()
        wanted = self.recorded.streams * len(self.recorded.symbols)
        spoke = told.get("outcome", {}).get("spoke") == wanted
        return spoke and (self.mode.banned or not told["books_unverified"])

    def last_words(self) -> str:
        """Returns the end of the recorder's log."""
        return (self.folder / "recorder.log").read_text(errors="replace")[-600:]

    def close(self) -> None:
        """Ends both."""
        if self.recorder is not None and self.recorder.poll() is None:
            self.recorder.kill()
            self.recorder.wait()
        for stream in (self.venue.stdin, self.venue.stdout):
            if stream is not None:
                stream.close()
        try:
            self.venue.wait(10)
        except subprocess.TimeoutExpired:
            self.venue.kill()
            self.venue.wait()


STATUS_TOLD = (
    "trouble", "request_trouble", "books_unverified", "banned_s", "outcome", "feed_errors"
)  # fmt: skip


def run(seed: int, folder: Path) -> Outcome:
    """Runs the mode that `seed` names."""
    names = sorted(MODES)
    return play(MODES[names[seed % len(names)]], seed, folder)


def play(mode: Mode, seed: int, folder: Path) -> Outcome:
    """Plays one mode from beginning to end."""
    outcome = Outcome()
    outcome.figures["modes"] = 1
    scene = Scene(mode, seed, folder, outcome)
    try:
        _play(scene, random.Random(seed))
    except AssertionError as error:
        outcome.expect(False, str(error))
    finally:
        scene.close()
    outcome.expect(
        scene.rss_mib < RSS_MIB_MAX, f"the recorder took {scene.rss_mib} MiB of {RSS_MIB_MAX}"
    )
    check_log(folder / "recorder.log", outcome)
    outcome.complaints = [f"{mode.name}: {complaint}" for complaint in outcome.complaints]
    return outcome


def _play(scene: Scene, chance: random.Random) -> None:
    outcome = scene.outcome
    if chance.random() < 0.5:
        scene.tell("attack")
        scene.record()
    else:
        scene.record()
        scene.until(scene.is_well, HEALTHY_S_MAX, "the recorder did not record before the attack")
        scene.tell("attack")
    attacked = lambda: scene.tell("report")["attacks"] > 0  # noqa: E731
    scene.until(attacked, HEALTHY_S_MAX, "the venue did not come to its attack")
    until = time.monotonic() + ATTACK_S + chance.random() * 2
    while time.monotonic() < until:
        scene.look()
        time.sleep(0.05)
    calm = scene.tell("calm")

    def is_back() -> bool:
        return scene.is_well() and all(
            newest_trade(scene, symbol) > calm["trades"][symbol]
            for symbol in scene.recorded.symbols
        )

    scene.until(is_back, BACK_S_MAX, "the recorder does not record again")
    told = scene.status()
    age_s = time.time() - told.get("ts", 0) / 1e9
    outcome.expect(age_s < STALE_S_MAX, f"the recorder's status is {age_s:.0f} s old")
    recorder = scene.recorder
    assert recorder is not None
    recorder.send_signal(signal.SIGTERM)
    try:
        code = recorder.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the recorder does not end in {END_S_MAX} s") from None
    sent = scene.tell("report")
    check_words(scene, code, outcome)
    check_trades(scene, sent, outcome)


def rss_mib(pid: int) -> int:
    """Returns the memory that a process has for itself: files that it maps are not counted."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def read_rows(scene: Scene, kind: str) -> Any:
    """Returns all records of a kind on the normalized tape."""
    tapes = scene.folder / "tape" / scene.recorded.source
    reader, parts = TapeReader(tapes / "market-data.normalized"), []
    while (batch := reader.read(1 << 16)) is not None:
        parts.append(np.frombuffer(batch.numpy(kind), np.dtype(dtype_descr(kind))))
    return np.concatenate(parts) if parts else np.empty(0, np.dtype(dtype_descr(kind)))


def instruments(scene: Scene) -> dict[str, int]:
    """Returns the instrument of each symbol."""
    rows = read_rows(scene, "definition")
    return {bytes(r["symbol"]).rstrip(b"\0").decode(): int(r["instrument"]) for r in rows}


def newest_trade(scene: Scene, symbol: str) -> int:
    """Returns the last trade id of `symbol` on the tape."""
    rows = read_rows(scene, "trade")
    mine = rows[rows["instrument"] == instruments(scene).get(symbol, -1)]["trade_id"]
    # Where ids are attacked, the last is one of the venue's own again.
    return int(mine[-1]) if len(mine) else 0


def check_words(scene: Scene, code: int, outcome: Outcome) -> None:
    """What the recorder said at its end is what happened."""
    told = scene.status()
    achieved = told.get("outcome")
    if not achieved or not told.get("ended"):
        outcome.expect(False, f"the recorder ended with {code} and told no outcome")
        return
    outcome.figures["frames"] += achieved["frames"]
    outcome.figures["dead letters"] += achieved["dead_letters"]
    wanted = EXIT_DONE if achieved["verdict"] == "all" else EXIT_INCOMPLETE
    outcome.expect(code == wanted, f"ended with {code} though its verdict is {achieved['verdict']}")
    if not scene.mode.banned:
        outcome.expect(achieved["verdict"] == "all", f"in the end it recorded {achieved}")
    elif achieved["unverified"]:
        outcome.expect(achieved["verdict"] == "part", f"books unverified, and it said {achieved}")


def check_trades(scene: Scene, sent: dict[str, Any], outcome: Outcome) -> None:
    """Every trade between the first and the last is there once, as sent, or in the ledger."""
    trades, markers = read_rows(scene, "trade"), read_rows(scene, "marker")
    known = instruments(scene)
    for symbol in scene.recorded.symbols:
        mine = trades[trades["instrument"] == known.get(symbol, -1)]
        ids, counts = np.unique(mine["trade_id"], return_counts=True)
        if not scene.mode.dialect or symbol not in scene.mode.harmed:
            # A venue without sequences may give one id to trades that differ.
            twice = ids[counts > 1]
            outcome.expect(not len(twice), f"{symbol}: trades {twice[:5]} are there twice")
        if not len(ids) or symbol in scene.mode.harmed:
            outcome.expect(len(ids) > 0, f"{symbol}: no trade was recorded")
            continue
        outcome.figures["trades"] += len(ids)
        last = sent["trades"][symbol]
        outcome.expect(int(ids.max()) <= last, f"{symbol}: {ids.max()} was never sent ({last})")
        right = mine["price"] == (100 + mine["trade_id"].astype(np.int64) % 50) * 1_000_000_000
        outcome.expect(bool(right.all()), f"{symbol}: prices of {mine[~right][:3]} differ")
        if scene.mode.dialect:
            outcome.complaints += silent_losses(mine, markers, known[symbol], symbol)
            continue
        missing = set(range(int(ids.min()), int(ids.max()) + 1)) - set(ids.tolist())
        ledger = lost_ids(markers, known[symbol], int(ids.min()), int(ids.max()))
        outcome.figures["lost and in the ledger"] += len(ledger)
        outcome.expect(
            missing == ledger,
            f"{symbol}: {len(missing)} trades are missing, the ledger has {len(ledger)}; in one "
            f"only: {sorted(missing ^ ledger)[:8]}",
        )


def silent_losses(mine: Any, markers: Any, instrument: int, symbol: str) -> list[str]:
    """Returns which trades are missing at a time that no gap of the ledger touches."""
    gaps = markers[(markers["code"] == GAP) & (markers["instrument"] == instrument)]
    gaps = gaps[gaps["channel"] == TRADE]
    ordered = mine[np.argsort(mine["trade_id"])]
    ids, times = ordered["trade_id"].astype(np.int64), ordered["ts_event"]
    wrong = []
    for at in np.flatnonzero(np.diff(ids) > 1):
        low, high = times[at], times[at + 1]
        if not ((gaps["ts_start"] <= high) & (low <= gaps["ts_event"])).any():
            wrong.append(f"{symbol}: {ids[at] + 1} to {ids[at + 1] - 1} are not in the ledger")
    return wrong


def lost_ids(markers: Any, instrument: int, first: int, last: int) -> set[int]:
    """Returns the trades from `first` to `last` that the ledger holds for lost in the end."""
    mine = markers[(markers["code"] == GAP) & (markers["instrument"] == instrument)]
    mine = mine[(mine["channel"] == TRADE) & (mine["cause"] == SEQUENCE)]
    lost: set[int] = set()
    for is_repaired in (False, True):
        for entry in mine[(mine["state"] == REPAIRED) == is_repaired]:
            ids = range(max(first, int(entry["first"])), min(last, int(entry["last"])) + 1)
            lost = lost - set(ids) if is_repaired else lost | set(ids)
    return lost


def check_log(path: Path, outcome: Outcome) -> None:
    """The log is small, and nothing in it acts on a terminal."""
    log = path.read_bytes()
    outcome.expect(len(log) <= LOG_BYTES_MAX, f"the log has {len(log)} bytes")
    acting = {byte for byte in log if byte < 0x20 and byte not in b"\n\t"} | set(log) & {0x7F}
    outcome.expect(not acting, f"the log holds the raw characters {sorted(acting)}")
    outcome.expect(b"\nERROR forged" not in log, "the log holds a line that the venue forged")


if __name__ == "__main__":
    # One mode by its name: `python -m tests.campaigns.hostile_venue NAME SEED FOLDER`.
    name, number, place = sys.argv[1:]
    shown = play(MODES[name], int(number), Path(place))
    print(*shown.complaints, dict(shown.figures), sep="\n")
