"""The whole product through its command line: simulated exchanges to questions and proofs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
# The feed of one's own is recorded by its venue.
EXAMPLES = sorted(
    [
        *FOLDER.glob("[!o]*.py"),
        FOLDER / "own_processor.py",
        FOLDER / "own_metric.py",
        FOLDER / "own_rule.py",
        FOLDER / "harbor/venue.py",
    ]
)
START = "from tapeworks.cli import main; main()"
# Makes pandas and Polars, which are extras, as good as not installed.
PLAIN = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "polars"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
RUN = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], None, '__main__')"


def tape(*words: str, cwd: Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def answer(*words: str, cwd: Path) -> Any:
    shown = tape(*words, cwd=cwd)
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A finished demo: its working folder and its proof."""
    folder = tmp_path_factory.mktemp("demo")
    shown = tape("demo", "--seconds", "6", "--json", cwd=folder)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return folder, json.loads(shown.stdout)


def test_demo_proves_itself_against_the_oracle(demo: tuple[Path, Any]):
    # Every stream of every exchange was sent something, all of it is stored once, and every book
    # is the exchange's own, those of single orders too, whose lines lost packets.
    _, proof = demo
    assert proof["holds"]
    assert len(proof["streams"]) == 20
    assert all(stream["sent"] > 0 for stream in proof["streams"])
    assert all(stream["sent"] == stream["stored"] for stream in proof["streams"])
    assert not any(stream["lost"] or stream["duplicated"] for stream in proof["streams"])
    assert list(proof["books"].values()) == [True] * 7
    assert proof["gaps"] == 0


def test_query_counts_what_the_proof_counts(demo: tuple[Path, Any]):
    # The same number by SQL as by the oracle, which counts the trades of orders with all else.
    folder, proof = demo
    sql = "select venue, symbol, count(*) as n from trades where venue <> 'itch' group by all"
    rows = answer("query", sql, "--format", "json", "--data", "demo", cwd=folder)
    told = {(row["venue"], f"{row['symbol'].lower()}@trade"): row["n"] for row in rows}
    sent = {
        (stream["source"], stream["stream"]): stream["sent"]
        for stream in proof["streams"]
        if stream["stream"].endswith("@trade")
    }
    for stream in proof["streams"]:
        channel, _, symbol = stream["stream"].partition(".")
        if channel == "T":
            sent[stream["source"], f"{symbol.lower()}@trade"] = stream["sent"]
    assert told == sent


def test_book_of_a_past_instant_is_shown(demo: tuple[Path, Any]):
    # In the middle of the recording; bids below asks, best first.
    folder, _ = demo
    sql = "select epoch_ns(median(ts_event)) as at from quotes where symbol = 'BTCUSDT'"
    at = int(answer("query", sql, "--format", "json", "--data", "demo", cwd=folder)[0]["at"])
    words = ("BTCUSDT", "--at", str(at), "--source", "binance-spot", "--format", "json")
    book = answer("book", *words, "--data", "demo", cwd=folder)
    bids = [float(price) for price, _ in book["bids"]]
    asks = [float(price) for price, _ in book["asks"]]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]


def test_replay_gives_every_record_in_the_order_of_receipt(demo: tuple[Path, Any]):
    # As many trades as the proof says, and receive times that never fall.
    folder, proof = demo
    shown = tape(
        "replay", "--kinds", "trades", "--source", "binance-spot", "--data", "demo", cwd=folder
    )
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    sent = sum(
        stream["sent"]
        for stream in proof["streams"]
        if stream["source"] == "binance-spot" and stream["stream"].endswith("@trade")
    )
    assert len(rows) == sent
    times = [row["ts_recv"] for row in rows]
    assert times == sorted(times)
    assert {row["symbol"] for row in rows} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}


@pytest.mark.slow
def test_export_holds_what_a_query_gives(demo: tuple[Path, Any]):
    # CSV of one symbol, counted by line.
    folder, _ = demo
    shown = tape("export", "trades", "out.csv", "--symbol", "SOLUSDT", "--data", "demo", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    sql = "select count(*) as n from trades where symbol = 'SOLUSDT'"
    count = answer("query", sql, "--format", "json", "--data", "demo", cwd=folder)[0]["n"]
    assert len((folder / "out.csv").read_text().splitlines()) == count + 1


def test_tapes_of_the_demo_are_whole(demo: tuple[Path, Any]):
    # Exit code 0, and one report a tape; then a flipped bit is found, with its place.
    folder, _ = demo
    reports = answer("verify", "--json", "--data", "demo", cwd=folder)
    assert sum("tape" in report for report in reports) == 29
    assert any("lake" in report for report in reports)
    assert all(report["fault"] is None for report in reports)


def test_flipped_bit_is_found_with_its_place(demo: tuple[Path, Any]):
    # In a copy of the raw tape: exit code 1, and the file and byte.
    folder, _ = demo
    copy = folder / "copy"
    tape_folder = folder / "demo" / "tape" / "binance-spot" / "market-data.raw"
    subprocess.run(["cp", "-r", tape_folder, copy], check=True)
    segment = max((path for path in copy.iterdir()), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[content.index(b'"trade"')] ^= 1
    segment.write_bytes(content)
    shown = tape("verify", str(copy), "--json", cwd=folder)
    assert shown.returncode == 1, shown.stdout
    fault = json.loads(shown.stdout)[0]["fault"]
    assert fault["path"].startswith(str(copy))
    assert fault["byte"] > 0


def test_status_shows_every_source_after_the_end(demo: tuple[Path, Any]):
    # Read from the tapes: nothing has to run.
    folder, _ = demo
    state = answer("status", "--json", "--data", "demo", cwd=folder)
    assert [source["name"] for source in state["sources"]] == [
        "binance-spot",
        "binance-usdm",
        "itch",
        "massive-stocks",
    ]
    # Of the four, Massive alone tells news.
    assert [len(source["tapes"]) for source in state["sources"]] == [7, 7, 7, 8]
    for source in state["sources"]:
        assert all(not tape["lag"] for tape in source["tapes"])


def test_python_of_the_readme_runs(demo: tuple[Path, Any]):
    # The very text of the README, beside the data that the demo recorded, on a machine that has
    # what `make demo` installs and no more.
    folder, _ = demo
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert "Batch(" in run(PLAIN + code, folder)


def run(script: str, folder: Path) -> str:
    """Returns what a script of Python prints that is run in `folder`."""
    shown = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(demo: tuple[Path, Any], path: Path):
    # Beside the data that the demo recorded, without an argument, as its first lines say.
    folder, _ = demo
    shown = subprocess.run(
        [sys.executable, "-c", PLAIN + RUN, str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip()


@pytest.mark.slow
def test_demo_ends_on_interrupt_with_its_proof(tmp_path: Path):
    # Ctrl-C as a terminal sends it, after some seconds of a demo that would run for long.
    process = subprocess.Popen(
        [sys.executable, "-c", START, "demo", "--seconds", "600", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    raw = tmp_path / "demo" / "lake" / "trades"
    until = time.monotonic() + 60
    while not raw.is_dir() and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(shown)["holds"]


@pytest.mark.slow
def test_children_end_when_their_parent_is_killed(tmp_path: Path):
    # SIGKILL of the supervisor: nothing may go on writing behind its back.
    process = subprocess.Popen(
        [sys.executable, "-c", START, "demo", "--seconds", "600"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    trades = tmp_path / "demo" / "lake" / "trades"
    until = time.monotonic() + 60
    while not trades.is_dir() and time.monotonic() < until:
        time.sleep(0.1)
    children = [pid for pid in descendants(process.pid) if "run_child" in command(pid)]
    assert len(children) == 9
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while any(alive(pid) for pid in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in children if alive(pid)]


def descendants(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return "run_child" in command(pid)
