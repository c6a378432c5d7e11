"""A venue that misbehaves in one of some ninety ways, a recorder, and what it owes us all the same.

The seed names the mode and the moment: before the recorder starts, or when it records. The attack
lasts some seconds. Meanwhile the recorder must keep its memory, answer, and not end. When the venue
behaves again it must record again, with verified books. In the end every trade that the venue sent
is on the tape once or in the ledger, nothing else is, and the recorder's own words are true.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.campaigns.base import Outcome
from tests.hostile.base import Mode
from tests.hostile.modes import MODES
from tests.hostile.wire import SYMBOLS

from tapeworks._core import TapeReader, dtype_descr

ROOT = Path(__file__).resolve().parents[2]
RSS_MIB_MAX = 300
LOG_BYTES_MAX = 2 << 20
ATTACK_S = 5.0
HEALTHY_S_MAX, BACK_S_MAX, STALE_S_MAX, END_S_MAX = 60.0, 90.0, 15.0, 30.0
TRADE, GAP, SEQUENCE, REPAIRED = 1, 3, 1, 3
EXIT_DONE, EXIT_INCOMPLETE, EXIT_REFUSED = 0, 3, 4
RECORDER = """
import logging, sys
from tapeworks.errors import VenueError
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.session import run_worker
from tapeworks.printable import PrintableFormatter
port, data = sys.argv[1:]
handler = logging.StreamHandler()
handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
logging.basicConfig(handlers=[handler], level="INFO")
config = BinanceConfig(
    symbols=("BTCUSDT", "ETHUSDT"), ws_url=f"ws://127.0.0.1:{port}",
    rest_url=f"http://127.0.0.1:{port}", idle_timeout_s=4.0, definitions_s=2.0,
    snapshot_refresh_s=1.0,
)
try:
    sys.exit(run_worker(config, data))
except VenueError as error:
    logging.error("%s", error)
    sys.exit(4)
"""


class Scene:
    """The venue's process, and the recorder's."""

    def __init__(self, mode: Mode, seed: int, folder: Path, outcome: Outcome) -> None:
        self.mode = mode
        self.folder = folder
        self.outcome = outcome
        self.rss_mib = 0
        with (folder / "venue.log").open("ab") as log:
            self.venue = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.venue", mode.name, str(seed)],
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
            command = [sys.executable, "-c", RECORDER, str(self.port), str(self.folder)]
            self.recorder = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def status(self) -> dict[str, Any]:
        """Returns what the recorder said of itself last; nothing before it did."""
        path = self.folder / "state" / "binance-spot" / "recorder.json"
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
        spoke = told.get("outcome", {}).get("spoke") == 3 * len(SYMBOLS)
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
            newest_trade(scene.folder, symbol) > calm["trades"][symbol] for symbol in SYMBOLS
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


def read_rows(folder: Path, kind: str) -> Any:
    """Returns all records of a kind on the normalized tape."""
    reader, parts = TapeReader(folder / "tape" / "binance-spot" / "market-data.normalized"), []
    while (batch := reader.read(1 << 16)) is not None:
        parts.append(np.frombuffer(batch.numpy(kind), np.dtype(dtype_descr(kind))))
    return np.concatenate(parts) if parts else np.empty(0, np.dtype(dtype_descr(kind)))


def instruments(folder: Path) -> dict[str, int]:
    """Returns the instrument of each symbol."""
    rows = read_rows(folder, "definition")
    return {bytes(r["symbol"]).rstrip(b"\0").decode(): int(r["instrument"]) for r in rows}


def newest_trade(folder: Path, symbol: str) -> int:
    """Returns the highest trade id of `symbol` on the tape."""
    rows = read_rows(folder, "trade")
    mine = rows[rows["instrument"] == instruments(folder).get(symbol, -1)]["sequence"]
    return int(mine.max(initial=0))


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
    trades, markers = read_rows(scene.folder, "trade"), read_rows(scene.folder, "marker")
    known = instruments(scene.folder)
    for symbol in SYMBOLS:
        mine = trades[trades["instrument"] == known.get(symbol, -1)]
        ids, counts = np.unique(mine["sequence"], return_counts=True)
        twice = ids[counts > 1]
        outcome.expect(not len(twice), f"{symbol}: trades {twice[:5]} are there twice")
        if not len(ids) or symbol in scene.mode.harmed:
            outcome.expect(len(ids) > 0, f"{symbol}: no trade was recorded")
            continue
        outcome.figures["trades"] += len(ids)
        last = sent["trades"][symbol]
        outcome.expect(int(ids.max()) <= last, f"{symbol}: {ids.max()} was never sent ({last})")
        right = mine["price"] == (100 + mine["sequence"].astype(np.int64) % 50) * 1_000_000_000
        outcome.expect(bool(right.all()), f"{symbol}: prices of {mine[~right][:3]} differ")
        missing = set(range(int(ids.min()), int(ids.max()) + 1)) - set(ids.tolist())
        ledger = lost_ids(markers, known[symbol], int(ids.min()), int(ids.max()))
        outcome.figures["lost and in the ledger"] += len(ledger)
        outcome.expect(
            missing == ledger,
            f"{symbol}: {len(missing)} trades are missing, the ledger has {len(ledger)}; in one "
            f"only: {sorted(missing ^ ledger)[:8]}",
        )


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
