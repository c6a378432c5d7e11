"""Memory of a recorder that cannot pass on what it receives, and what becomes of the rest.

Measured is anonymous memory (`RssAnon`): what a process holds for itself. Pages of tapes are mapped
from files; the kernel drops them when it needs room, so they are told apart (`RssFile`,
`RssShmem`). A recorder may hold `pending_bytes_max` of frames, and no more than PROCESS_BYTES_MAX
beside them, whatever stops and however fast frames come.
"""

import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.arrivals import frames_sent

import tapeworks as tw
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.tape import TapeReader

pytestmark = pytest.mark.timeout(180)

PENDING_BYTES_MAX = 8 << 20
PROCESS_BYTES_MAX = 96 << 20
SYMBOLS = ("BTCUSDT", "ETHUSDT")
# Ten times the load of a busy hour, at the pace of time: event times that run ahead of receipt
# are no venue's.
MARKET = ("--symbols", *SYMBOLS, "--rate", "10000", "--levels", "200", "--wait")
TEXT = 1
DISK_BYTES, ROOM_BYTES = 160 << 20, 48 << 20
SHED_MIN = 5_000
PHASE_S_MAX = 60.0


def anonymous_bytes(pid: int) -> int:
    """Returns the memory that a process holds for itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no RssAnon of {pid}")


def workers(folder: Path) -> dict[str, int]:
    """Returns the process ids of the workers that run in `folder`, by name."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode().split("\0")
            if "run_child" in " ".join(words) and (path / "cwd").readlink() == folder:
                found[words[-2]] = int(path.name)
        except OSError:
            continue
    return found


def write_settings(folder: Path, simulator: Simulator, data: Path) -> None:
    (folder / "tapeworks.toml").write_text(
        f'data = "{data}"\n'
        f'[feeds.binance-spot]\nsymbols = ["BTCUSDT", "ETHUSDT"]\n'
        f'ws_url = "{simulator.ws_url}"\nrest_url = "{simulator.rest_url}"\n'
        f"pending_bytes_max = {PENDING_BYTES_MAX}\n"
        f"[tape]\nsegment_bytes = {2 << 20}\n"
    )


def wait_for(condition: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + PHASE_S_MAX
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.1)


def frames_stored(data: Path) -> int:
    """Returns how many market data frames are on the raw tape."""
    reader, count = TapeReader(data / "tape" / "binance-spot" / "market-data.raw"), 0
    while (blobs := reader.read_blobs()) is not None:
        kinds = Counter(blob.kind == TEXT and b'"stream"' in blob.body[:12] for blob in blobs)
        count += kinds[True]
    return count


@pytest.mark.slow
def test_sink_that_stopped_for_good_costs_the_recorder_nothing(tape: Any):
    # SIGSTOP for the sink before it wrote anything, and ten times the load: neither the recorder's
    # nor derivation's memory grows, nothing is shed, and questions are answered from the tape.
    data = tape.folder / "data"
    with start_simulator("binance", *MARKET, "--duration", "8") as simulator:
        write_settings(tape.folder, simulator, data)
        up = tape.start("up")
        wait_for((data / "lake" / "_commits").is_dir, "the sink")
        pids = workers(tape.folder)
        os.kill(pids["sink-parquet"], signal.SIGSTOP)
        peaks: Counter[str] = Counter()
        until = time.monotonic() + PHASE_S_MAX
        while not simulator.state()["done"]:
            assert time.monotonic() < until
            for name in ("recorder-binance-spot", "derive-binance-spot"):
                peaks[name] = max(peaks[name], anonymous_bytes(pids[name]))
            time.sleep(0.1)
        sent = frames_sent(simulator)
        wait_for(lambda: frames_stored(data) == sent, "all frames")
        delivered = simulator.oracle()["delivered"]
        assert sent > 50_000
        assert max(peaks.values()) < PROCESS_BYTES_MAX, peaks
        trades = sum(delivered[f"{symbol.lower()}@trade"]["count"] for symbol in SYMBOLS)
        assert len(tw.open(data).trades()) == trades
        assert not list((data / "lake").glob("trades/**/*.parquet"))
        os.kill(pids["sink-parquet"], signal.SIGCONT)
        _, errors = tape.interrupt(up)
        assert up.returncode == 0, errors
    # What waited on the tape is in files now, once.
    assert list((data / "lake").glob("trades/**/*.parquet"))
    assert len(tw.open(data).trades()) == trades


class Disk:
    """A place that can be full: a small file system of its own, or a limit on the size of files.

    Only root can mount. Elsewhere no file of the workers may grow, which to them is a full disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
        self.is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._ballast = path / "ballast"

    def fill(self, pids: dict[str, int]) -> None:
        """Leaves no room."""
        if self.is_mounted:
            free = os.statvfs(self.path)
            room = max(0, free.f_bavail * free.f_frsize - ROOM_BYTES)
            self._ballast.write_bytes(bytes(room))
            return
        for name in ("recorder-binance-spot", "derive-binance-spot"):
            resource.prlimit(pids[name], resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))

    def free(self, pids: dict[str, int]) -> None:
        """Gives the room back."""
        if self.is_mounted:
            self._ballast.unlink()
            return
        limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        for name in ("recorder-binance-spot", "derive-binance-spot"):
            resource.prlimit(pids[name], resource.RLIMIT_FSIZE, limits)

    def close(self) -> None:
        """Unmounts."""
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A place that can be full."""
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


@pytest.mark.slow
def test_what_a_full_disk_sheds_is_counted_and_in_the_ledger(tape: Any, disk: Disk):
    # The disk fills up under ten times the load, for so long that thousands of frames are shed;
    # then there is room again. Memory keeps its bound, `tape status` says what goes on, and the
    # ledger's count is exactly what was sent and is not on the raw tape.
    data = disk.path / "data"

    def recorder() -> dict[str, Any]:
        [source] = tape.answer("status", "--json", "--data", data)["sources"]
        return source["recorder"] or {}

    with start_simulator("binance", *MARKET, "--duration", "3600") as simulator:
        write_settings(tape.folder, simulator, data)
        up = tape.start("up")
        wait_for(lambda: simulator.state()["frames"] > 5_000, "frames")
        pids = workers(tape.folder)
        disk.fill(pids)
        peak, shed = 0, 0
        until = time.monotonic() + PHASE_S_MAX
        while shed < SHED_MIN and time.monotonic() < until:
            peak = max(peak, anonymous_bytes(pids["recorder-binance-spot"]))
            state = recorder()
            shed = state.get("shed", 0)
        assert "full" in state["failure"] or "room" in state["failure"]
        assert 0 < state["pending_bytes"] <= PENDING_BYTES_MAX + (1 << 20)
        screen = tape.run("status", "--once", "--data", data)
        assert "CANNOT WRITE" in screen
        assert "frames shed" in screen
        disk.free(pids)
        wait_for(lambda: recorder().get("failure", "") is None, "the tape to be written again")
        simulator.ask("pause", {"paused": True})
        peak = max(peak, anonymous_bytes(pids["recorder-binance-spot"]))
        wait_for(lambda: not simulator.state()["unread_bytes"], "the last frames")
        sent = frames_sent(simulator)
        wait_for(lambda: recorder().get("shed") == sent - frames_stored(data), "every frame")
        shed = recorder()["shed"]
        assert workers(tape.folder) == pids, "a worker died of it"
        _, errors = tape.interrupt(up)
        # It ran, and what was shed was not recorded.
        assert up.returncode == 3, errors
    lost = sent - frames_stored(data)
    gaps = [
        gap for gap in tw.open(data).gaps().to_arrow().to_pylist() if gap["cause"] == "overload"
    ]
    print({"sent": sent, "lost": lost, "shed": shed, "peak_bytes": peak, "entries": len(gaps)})
    assert lost >= SHED_MIN
    assert sum(gap["missing"] for gap in gaps) == lost == shed
    assert peak < PENDING_BYTES_MAX + PROCESS_BYTES_MAX
