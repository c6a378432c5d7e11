"""The processes of `tape up`: started, looked at, hung, stopped, and alone."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.arrivals import records_all, wait

from conftest import check_exact
from tapeworks.simulators import Simulator, start_simulator

pytestmark = pytest.mark.timeout(180)

WRONG_VIEWS = ("Bad", "Ends", "Stuck")
RATE = ("--symbols", "BTCUSDT", "--rate", "60", "--levels", "50")


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    """An exchange that goes on for as long as the tests do."""
    with start_simulator("binance", *RATE) as simulator:
        yield simulator


def settings(exchange: Simulator) -> str:
    """The settings of one source, that exchange."""
    return (
        f'[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\nws_url = "{exchange.ws_url}"\n'
        f'rest_url = "{exchange.rest_url}"\n'
    )


@pytest.fixture
def up(exchange: Simulator, tape: Any) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts `tape up` over the exchange, and waits until something is in the lake."""

    def start(more: str = "") -> "subprocess.Popen[str]":
        written = f"{settings(exchange)}[sinks.parquet]\nflush_seconds = 1.0\n{more}"
        (tape.folder / "tapeworks.toml").write_text(written)
        process: subprocess.Popen[str] = tape.start("up")
        wait(lambda: (tape.folder / "data" / "lake" / "trades").is_dir(), process)
        return process

    return start


def workers(folder: Path) -> dict[str, Any]:
    """What the supervisor says of its workers, by name."""
    [told] = (folder / "data" / "run").glob("*/supervisor.json")
    return {worker["name"]: worker for worker in json.loads(told.read_text())["workers"]}


def is_running(pid: int) -> bool:
    try:
        return "run_child" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("text", [None, "", 'data = "x"\n', "[tape]\nkeep_hours = 1\n"])
def test_up_records_nothing_uninvited(tape: Any, text: str | None):
    # Without a file, and with one that names no feed: it says how to write one, and makes nothing.
    if text is not None:
        (tape.folder / "tapeworks.toml").write_text(text)
    before = sorted(tape.folder.iterdir())
    line = tape.refuse("up", code=2)
    assert "`tape config example > tapeworks.toml`" in line
    assert sorted(tape.folder.iterdir()) == before


@pytest.mark.slow
def test_up_of_a_feed_that_a_variable_names(tape: Any, monkeypatch: pytest.MonkeyPatch):
    # A container has no file: the variable is the invitation.
    monkeypatch.setenv("TAPEWORKS_FEEDS__BINANCE_SPOT__SYMBOLS", "ETHUSDT")
    monkeypatch.setenv("TAPEWORKS_FEEDS__BINANCE_SPOT__WS_URL", "ws://127.0.0.1:9")
    monkeypatch.setenv("TAPEWORKS_FEEDS__BINANCE_SPOT__REST_URL", "off")
    monkeypatch.setenv("TAPEWORKS_PORT", "tcp://10.0.0.1:80")
    assert "recording into data" in tape.run("up", "--seconds", 1, code=None)


@pytest.mark.slow
def test_data_lies_beside_the_settings_wherever_it_is_started(exchange: Simulator, tape: Any):
    # As a service manager does it: from another folder.
    folder = tape.folder / "etc"
    folder.mkdir()
    (folder / "tapeworks.toml").write_text(
        f'[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\nws_url = "{exchange.ws_url}"\n'
        f'rest_url = "{exchange.rest_url}"\n'
    )
    process = tape.start("up", "--config", "etc/tapeworks.toml")
    wait((folder / "data" / "tape" / "binance-spot").is_dir, process)
    tape.interrupt(process)
    assert not (tape.folder / "data").exists()


def test_down_stops_in_good_order_and_says_what(up: Callable[..., Any], tape: Any):
    # From another terminal: the supervisor ends with 0, all is derived and stored, nothing runs.
    process = up()
    pids = [worker["pid"] for worker in workers(tape.folder).values()]
    assert len(pids) == 3
    shown = tape.run("down")
    names = "recorder-binance-spot, derive-binance-spot, sink-parquet"
    assert shown == f"stopped process {process.pid}: {names}\n"
    shown, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert not any(map(is_running, pids))
    check_exact(tape.folder / "data")
    assert tape.run("down") == "nothing runs on data\n"


@pytest.mark.slow
def test_down_stops_a_worker_that_runs_alone(exchange: Simulator, tape: Any):
    # It holds its source: the refusal of another one names `tape down`, which knows it.
    urls = ("--set", f"ws_url={exchange.ws_url}", "--set", f"rest_url={exchange.rest_url}")
    (tape.folder / "tapeworks.toml").write_text(settings(exchange))
    worker = tape.start("worker", "recorder", "binance-spot")
    name = "recorder-binance-spot"
    wait(lambda: records_all(tape.folder / "data", worker.pid), worker)
    refused = tape.refuse("record", "binance", "BTCUSDT", *urls, "--seconds", 1, code=1)
    assert f"by process {worker.pid}" in refused
    assert tape.run("down") == f"stopped process {worker.pid}: {name}\n"
    _, errors = worker.communicate(timeout=20)
    # It recorded everything until it was stopped.
    assert worker.returncode == 0, errors
    process = tape.start("record", "binance", "BTCUSDT", *urls)
    data = tape.folder / "data"
    wait(lambda: records_all(data) and not records_all(data, worker.pid), process)
    _, errors = tape.interrupt(process)
    assert process.returncode == 0, errors


def test_down_of_a_folder_that_is_not_there(tape: Any):
    assert "expected a data folder" in tape.refuse("down", "--data", "nowhere", code=2)
    assert tape.run("down") == "nothing runs on data\n"


@pytest.mark.slow
def test_down_wakes_a_supervisor_that_is_stopped(up: Callable[..., Any], tape: Any):
    # SIGSTOP: it could not act on the signal otherwise.
    process = up()
    process.send_signal(signal.SIGSTOP)
    assert f"stopped process {process.pid}" in tape.run("down")
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_down_leaves_other_processes_alone(tape: Any):
    # The number of a supervisor that was killed belongs to another process by now.
    with subprocess.Popen(["sleep", "100"]) as other:
        entry = tape.folder / "data" / "run" / f"{other.pid}.0"
        entry.mkdir(parents=True)
        (entry / "supervisor.json").write_text(json.dumps({"pid": other.pid, "workers": []}))
        assert tape.run("down") == "nothing runs on data\n"
        assert other.poll() is None
        other.kill()


@pytest.mark.slow
def test_worker_that_hangs_is_started_again_and_nothing_is_lost(up: Callable[..., Any], tape: Any):
    # Each kind is stopped with SIGSTOP, for good; the status tells of it, and the lake is exact.
    process = up("[supervisor]\nhang_ms = 2000\n")
    # Two that know nothing of each other hang at once, the one between them by itself.
    for names in (("recorder-binance-spot", "sink-parquet"), ("derive-binance-spot",)):
        pids = {name: workers(tape.folder)[name]["pid"] for name in names}
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        for name, pid in pids.items():
            wait(lambda name=name: workers(tape.folder)[name]["restarts"] == 1, process)
            assert not is_running(pid)
    state = tape.answer("status", "--json")
    assert [worker["restarts"] for worker in state["workers"]] == [1, 1, 1]
    assert all("it hung" in worker["last"] for worker in state["workers"])
    _, errors = tape.interrupt(process)
    assert process.returncode == 0, errors
    assert "hangs: no sign of life" in errors
    check_exact(tape.folder / "data")


VIEWS = """
import time
from tapeworks.views.base import View

class Bad(View):
    def run(self):
        raise RuntimeError("the reason why")

class Ends(View):
    def run(self):
        pass

class Stuck(View):
    def run(self):
        time.sleep(1_000)
"""


@pytest.mark.slow
def test_views_run_beside_a_recording_and_cannot_stop_it(up: Callable[..., Any], tape: Any):
    # One that works, and three that raise, end by themselves, and hang: status, logs and the end
    # tell of them, and what is recorded is as it would be without.
    (tape.folder / "views_of_a_test.py").write_text(VIEWS)
    own = [f'[views.{one.lower()}]\nkind = "views_of_a_test:{one}"\n' for one in WRONG_VIEWS]
    process = up(f"[views.metrics]\nport = 0\n{''.join(own)}[supervisor]\nhang_ms = 2000\n")
    for name in WRONG_VIEWS:
        wait(lambda name=name: workers(tape.folder)[f"view-{name.lower()}"]["restarts"], process)
    assert "RuntimeError: the reason why" in tape.run("logs", "view-bad")
    assert "ended by itself: expected `run` to return when `stop`" in tape.run("logs", "view-ends")
    log = tape.run("logs", "view-metrics")
    [url] = re.findall(r"serving (\S+)/metrics", log)
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        shown = answer.read().decode()
    assert 'tapeworks_recording{source="binance-spot"} 1\n' in shown
    assert 'tapeworks_worker_running{worker="view-metrics"} 1\n' in shown
    state = {worker["name"]: worker for worker in tape.answer("status", "--json")["workers"]}
    assert (state["view-metrics"]["state"], state["view-metrics"]["restarts"]) == ("running", 0)
    assert state["recorder-binance-spot"]["restarts"] == 0
    assert "it hung: no sign of life" in state["view-stuck"]["last"]
    names = ["recorder-binance-spot", "derive-binance-spot", "sink-parquet", "view-metrics"]
    names += [f"view-{name.lower()}" for name in WRONG_VIEWS]
    assert tape.run("down") == f"stopped process {process.pid}: {', '.join(names)}\n"
    shown, errors = process.communicate(timeout=30)
    # A view was asked for and did not run: no success, though all was recorded.
    assert process.returncode == 1, errors
    assert "binance-spot: this run: 3 of 3 streams received data" in shown + errors
    check_exact(tape.folder / "data")


@pytest.mark.slow
def test_stray_files_do_not_stop_a_recording(up: Callable[..., Any], tape: Any):
    # As a desktop leaves them, while it runs and its status is shown.
    process = up()
    data = tape.folder / "data"
    for folder in [path for path in data.rglob("*") if path.is_dir()]:
        # What is flushed at this moment may be gone by now.
        with contextlib.suppress(FileNotFoundError):
            (folder / ".DS_Store").write_bytes(b"\0\xff")
            (folder / "notes.txt").write_text("mine")
    first = time.monotonic()
    said: list[str] = []
    while time.monotonic() < first + 60 and len(said) < 3:
        said.append(process.stdout.readline())
    assert len(said) == 3
    assert all("binance-spot" in line for line in said[1:])
    _, errors = tape.interrupt(process)
    assert process.returncode == 0, errors
    assert "restart" not in errors


@pytest.mark.slow
def test_logs_shows_the_last_lines_and_goes_on(up: Callable[..., Any], tape: Any):
    # Of one worker and of all; following, what comes later is shown, whatever the file.
    process = up()
    line = next(line for line in tape.run("logs").splitlines() if "connected" in line)
    assert line.startswith("recorder-binance-spot ")
    assert "connected" in tape.run("logs", "recorder", "-n", 50)
    assert tape.run("logs", "sink", "-n", 0) == ""
    known = "derive-binance-spot, recorder-binance-spot, sink-parquet"
    assert known in tape.refuse("logs", "nothing", code=2)
    following = tape.start("logs", "recorder-binance-spot", "-f", "-n", 1)
    assert following.stdout is not None
    log = tape.folder / "data" / "log" / "recorder-binance-spot.log"
    # It has opened the file when it has shown its last line.
    assert following.stdout.readline()
    with log.open("a") as file:
        file.write("a line \x1b[2J of http://u:hunter2@h\n")
    lines = iter(following.stdout.readline, "")
    assert "a line \\x1b[2J of http://***@h\n" in lines
    log.replace(log.with_suffix(".log.1"))
    log.write_text("after the change\n")
    assert "after the change\n" in lines
    _, errors = tape.interrupt(following)
    assert (following.returncode, errors) == (0, "")
    tape.interrupt(process)


def test_logs_of_nothing_are_one_line(tape: Any):
    # Nothing has run there.
    assert "got none" in tape.refuse("logs", code=1)


@pytest.mark.slow
def test_workers_alone_make_the_whole_flow(exchange: Simulator, tape: Any):
    # As containers run them: three processes in the foreground, each ended by its own signal.
    (tape.folder / "tapeworks.toml").write_text(
        f'[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\nws_url = "{exchange.ws_url}"\n'
        f'rest_url = "{exchange.rest_url}"\n[sinks.parquet]\nflush_seconds = 1.0\n'
    )
    kinds = [("recorder", "binance-spot"), ("derive", "binance-spot"), ("sink", "parquet")]
    started = [tape.start("worker", *words) for words in kinds]
    wait(lambda: (tape.folder / "data" / "lake" / "trades").is_dir(), started[0])
    line = tape.refuse("worker", "recorder", "binance-spot", code=1)
    assert f"by process {started[0].pid}" in line
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    for process, number in zip(started, signals, strict=True):
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    check_exact(tape.folder / "data")
    [count] = tape.answer("query", "select count(*) as n from trades", "--format", "json")
    assert count["n"] > 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["derive", "other"], 2, "expected a worker of recorder binance-spot"),
        (["sink", "kafka"], 2, "sink parquet, got sink kafka"),
        (["thing", "x"], 2, "'thing' is not one of"),
    ],
)
def test_worker_that_is_not_there_is_refused(tape: Any, words: list[str], code: int, told: str):
    # With those that the settings have.
    text = '[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\n'
    (tape.folder / "tapeworks.toml").write_text(text)
    assert told in tape.refuse("worker", *words, code=code)
    assert not (tape.folder / "data").exists()


@pytest.mark.slow
def test_password_of_a_proxy_is_nowhere(
    exchange: Simulator, tape: Any, monkeypatch: pytest.MonkeyPatch
):
    # It comes from the environment, and is in no output, log or file, also when the proxy fails.
    (tape.folder / "tapeworks.toml").write_text(
        f'[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\nws_url = "{exchange.ws_url}"\n'
        f'rest_url = "{exchange.rest_url}"\n'
    )
    name = "TAPEWORKS_FEEDS__BINANCE_SPOT__PROXY"
    monkeypatch.setenv(name, "http://user:hunter2@127.0.0.1:9")
    process = tape.start("up")
    log = tape.folder / "data" / "log" / "recorder-binance-spot.log"
    wait(lambda: log.is_file() and "connect failed" in log.read_text(), process)
    shown, errors = tape.interrupt(process)
    assert "hunter2" not in shown + errors + tape.run("config", "show")
    for path in (tape.folder / "data").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path
