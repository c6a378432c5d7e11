"""The supervisor: what it does with workers that die, hang, are refused, or will not stop."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tapeworks import pipeline
from tapeworks.child import Child, Worker
from tapeworks.config import Section
from tapeworks.errors import ConfigError, CorruptTapeError, TapeLockedError, VenueError
from tapeworks.pipeline import Config, Supervisor, SupervisorConfig, lock_sources, resolve_config
from tapeworks.register import supervisors
from tapeworks.registry import MEMBERS
from tapeworks.views.status import Status
from tapeworks.worker import Order

# What a worker may do, each by the name of its source. A recorder is told its settings first.
WORKERS = """
import ctypes, logging, os, signal, sys, threading, time
from tapeworks.errors import ConfigError, CorruptTapeError, VenueError
from tapeworks.heartbeat import beat
from tapeworks.stopping import on_stop

log = logging.getLogger("worker")

def run(*arguments, **named):
    return globals()[arguments[0].name.replace("-", "_")]()

def steady():
    on_stop(lambda *_: sys.exit(0))
    while True:
        beat()
        time.sleep(0.05)

def slow_to_stop():
    on_stop(lambda *_: (time.sleep(2), sys.exit(0)))
    while True:
        beat()
        time.sleep(0.05)

def unfinished():
    on_stop(lambda *_: sys.exit(3))
    while True:
        beat()
        time.sleep(0.05)

def derive(processors, tape, data, source):
    return globals()[source]()

def failing():
    log.error("the reason why")
    return 7

def mute():
    os._exit(7)

def refused():
    raise VenueError("Invalid symbol")

def misconfigured():
    raise ConfigError("a wrong setting")

def damaged():
    raise CorruptTapeError("a checksum fails")

def raising():
    raise RuntimeError("\\x1b[2Jfor http://user:hunter2@proxy:1\\nand a second line")

def may_be_traced():
    # Where only a parent may trace, as a default of some systems has it.
    PR_SET_PTRACER, ANY = 0x59616D61, -1
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(ANY), 0, 0, 0)

def deadlocked():
    may_be_traced()
    beat()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def busy():
    until = time.monotonic() + 3.5
    while time.monotonic() < until:
        pass
    steady()

def stubborn():
    may_be_traced()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        beat()
        time.sleep(0.05)

def noisy():
    logging.getLogger("noisy").info("before")
    for number in range(40_000):
        log.info("line %d %s", number, "x" * 100)

def printing():
    for number in range(40):
        os.write(2, b"y" * 100_000)
        time.sleep(0.1)
"""
LIMITS = SupervisorConfig(
    restart_ms=10, restart_ms_max=100, healthy_ms=60_000, stop_ms_max=2_000, hang_ms=1_000
)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Supervisor]]:
    """Makes supervisors of recorders that do what their source is called."""
    (tmp_path / "workers_of_a_test.py").write_text(WORKERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(MEMBERS["worker"], "recorder", "workers_of_a_test:run")
    monkeypatch.setitem(MEMBERS["worker"], "derive", "time:sleep")
    made = []

    def make_one(*sources: str, **limits: int) -> Supervisor:
        base = resolve_config(Section())
        feed = base.feeds["binance-spot"]
        feeds = {name: dataclasses.replace(feed, source=name) for name in sources}
        config = Config(tmp_path / "data", feeds, supervisor=dataclasses.replace(LIMITS, **limits))
        supervisor = Supervisor(config)
        supervisor.children = [c for c in supervisor.children if c.worker.kind == "recorder"]
        made.append(supervisor)
        return supervisor

    yield make_one
    for supervisor in made:
        supervisor.stop()


def until(supervisor: Supervisor, what: Callable[[], bool], seconds: float = 40) -> None:
    """Polls until `what` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, [(c.state, c.last) for c in supervisor.children]
        supervisor.poll()
        time.sleep(0.02)


def steady_for(supervisor: Supervisor, child: Child) -> None:
    """Polls until `child` has given signs of life and runs."""
    until(supervisor, lambda: child.alive and child.beat_at > child.started)


def test_worker_that_deadlocks_is_killed_and_started_again(make: Callable[..., Supervisor]):
    # Its process lives and uses no processor: only its signs of life are missing.
    supervisor = make("deadlocked")
    supervisor.start()
    [child] = supervisor.children
    until(supervisor, lambda: child.restarts >= 2)
    assert "it hung: no sign of life" in child.last
    assert child.code == -signal.SIGKILL


def test_worker_that_is_stopped_is_killed_and_started_again(make: Callable[..., Supervisor]):
    # SIGSTOP, as a debugger or a full terminal may do it. Its neighbour is left alone.
    supervisor = make("steady", "steady-2")
    supervisor.start()
    first, second = supervisor.children
    with contextlib.suppress(KeyError):
        steady_for(supervisor, first)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    until(supervisor, lambda: first.restarts >= 1)
    assert "it hung" in first.last
    assert "it hung" not in second.last


# Holds a process as a device that does not answer would: killed, it does not end until this has.
# A tracer is told of its end before its parent is.
TRACER = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
PTRACE_SEIZE = 0x4206
print(libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), 0, 0), ctypes.get_errno(), flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    command = [sys.executable, "-c", TRACER, str(pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        try:
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == "0 0\n"
            yield
        finally:
            tracer.kill()


def test_worker_that_cannot_be_killed_holds_up_nobody(
    make: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
):
    # It hangs, is killed, and its process stays. Its neighbour is looked after, it is said once,
    # and the worker is started again as soon as the process is gone.
    monkeypatch.setattr(pipeline, "KILLED_S_MAX", 0.2)
    supervisor = make("deadlocked", "failing")
    supervisor.start()
    stuck, failing = supervisor.children
    assert stuck.process is not None
    with held(stuck.process.pid):
        until(supervisor, lambda: "does not end" in stuck.last)
        assert stuck.state == "hanging"
        assert stuck.restarts == 0
        before = failing.restarts
        until(supervisor, lambda: failing.restarts > before)
    until(supervisor, lambda: stuck.restarts == 1)
    assert "it hung: no sign of life" in stuck.last


def test_stop_tells_of_a_worker_that_ended_since_the_last_look(make: Callable[..., Supervisor]):
    # Killed as one that hangs, or by somebody: what it had not done yet is not done.
    supervisor = make("steady", "unfinished")
    supervisor.start()
    first, second = supervisor.children
    steady_for(supervisor, first)
    steady_for(supervisor, second)
    first.kill(time.monotonic(), "it hung: no sign of life for 3 s")
    assert second.process is not None
    second.process.kill()
    for child in (first, second):
        assert child.process is not None
        child.process.wait()
    supervisor.stop()
    told_first, told_second = supervisor.complaints
    assert "steady is restarting, after 1 failure: it hung: no sign of life" in told_first
    assert "unfinished is restarting, after 1 failure" in told_second


def test_stop_tells_of_a_worker_that_dies_while_others_are_stopped(
    make: Callable[..., Supervisor],
):
    # A sink that is killed, for want of memory say, while the recorders flush.
    supervisor = make("slow-to-stop", "steady", stop_ms_max=60_000)
    supervisor.start()
    recorder, sink = supervisor.children
    steady_for(supervisor, recorder)
    steady_for(supervisor, sink)
    sink.worker = dataclasses.replace(sink.worker, kind="sink")
    assert sink.process is not None
    threading.Timer(0.3, sink.process.kill).start()
    supervisor.stop()
    [told] = supervisor.complaints
    assert "sink-steady ended with -9 while stopping" in told


def test_stop_waits_for_no_process_that_cannot_be_killed(
    make: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "KILLED_S_MAX", 0.2)
    supervisor = make("stubborn", stop_ms_max=400)
    supervisor.start()
    [child] = supervisor.children
    steady_for(supervisor, child)
    process = child.process
    assert process is not None
    with held(process.pid):
        supervisor.stop()
        assert "killed and does not end" in supervisor.complaints[1]
        assert process.poll() is None
    assert process.wait(30) == -signal.SIGKILL


def test_worker_that_is_busy_is_left_alone(make: Callable[..., Supervisor]):
    # Three and a half seconds of work without a sign of life, of which one is the limit.
    supervisor = make("busy")
    supervisor.start()
    [child] = supervisor.children
    steady_for(supervisor, child)
    assert child.restarts == 0


@pytest.mark.parametrize("bad", ["refused", "misconfigured", "damaged"])
def test_one_feed_that_cannot_be_recorded_does_not_end_the_others(
    make: Callable[..., Supervisor], bad: str
):
    # It is named in the status and at the end; the other goes on.
    supervisor = make("steady", bad)
    supervisor.start()
    good, other = supervisor.children
    until(supervisor, lambda: other.restarts > 0)
    steady_for(supervisor, good)
    supervisor.poll()
    assert (good.state, other.state) == ("running", bad)
    pid = other.process
    for _ in range(20):
        supervisor.poll()
        time.sleep(0.02)
    assert other.process is pid is None, "it was started again at once"
    supervisor.stop()
    # What a refused feed lacks is told by the outcome of its source.
    complaints = [] if bad == "refused" else [f"recorder-{bad} is {bad}, after 1 failure"]
    assert [told.partition(":")[0] for told in supervisor.complaints] == complaints


@pytest.mark.parametrize(
    ("bad", "error", "told"),
    [
        ("refused", VenueError, "Invalid symbol"),
        ("misconfigured", ConfigError, "a wrong setting"),
        ("damaged", CorruptTapeError, "a checksum fails: everything is kept .* `tape repair`"),
    ],
)
def test_nothing_that_can_be_recorded_ends_it(
    make: Callable[..., Supervisor],
    bad: str,
    error: type[Exception],
    told: str,
    caplog: pytest.LogCaptureFixture,
):
    # The error is of the type that the worker's was, and says what it said; no log repeats it.
    supervisor = make(bad)
    supervisor.start()
    with pytest.raises(error, match=told):
        until(supervisor, lambda: False)
    supervisor.stop()
    assert [line for line in caplog.messages if re.search(told, line)] == []


def test_crash_loop_is_seen_while_it_lasts_and_at_the_end(make: Callable[..., Supervisor]):
    # In the state that status screens read, with the worker's own last word; and as a complaint.
    supervisor = make("failing")
    supervisor.start()
    [child] = supervisor.children
    until(supervisor, lambda: child.failures >= 4 and not child.alive)
    supervisor._write_register()
    [told] = Status(supervisor.config.data).sample().workers
    assert (told.name, told.state) == ("recorder-failing", "failing")
    assert told.failures >= 4
    assert told.last == "the reason why"
    supervisor.stop()
    assert "recorder-failing is failing" in supervisor.complaints[0]
    assert "the reason why" in supervisor.complaints[0]


def test_worker_that_does_not_stop_is_killed_and_told(make: Callable[..., Supervisor]):
    # A success that was none would be worse than the kill.
    supervisor = make("stubborn", stop_ms_max=500)
    supervisor.start()
    [child] = supervisor.children
    steady_for(supervisor, child)
    assert child.process is not None
    pid = child.process.pid
    supervisor.stop()
    assert "recorder-stubborn did not stop in time and was killed" in supervisor.complaints[0]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_stopped_worker_ends_in_good_order(make: Callable[..., Supervisor]):
    # One that somebody has stopped is woken, or it would be killed for nothing.
    supervisor = make("steady", hang_ms=60_000)
    supervisor.start()
    [child] = supervisor.children
    until(supervisor, lambda: child.beat_at > child.started)
    assert child.process is not None
    child.process.send_signal(signal.SIGSTOP)
    supervisor.stop()
    assert supervisor.complaints == []


def test_derivation_that_had_no_time_is_told(
    make: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
):
    # What was recorded is not all derived: no success.
    monkeypatch.setitem(MEMBERS["worker"], "derive", "workers_of_a_test:derive")
    supervisor = make("unfinished")
    supervisor.children = [Child(Worker("derive", "unfinished"), supervisor.logs / "one.log", 9999)]
    supervisor.start()
    [child] = supervisor.children
    until(supervisor, lambda: child.beat_at > child.started)
    supervisor.stop()
    [complaint] = supervisor.complaints
    assert "derive-unfinished had no time to derive everything" in complaint


def test_second_recorder_of_a_source_is_refused_at_once(make: Callable[..., Supervisor]):
    # Before anything starts, with the process that holds it; another source is no matter.
    first = make("steady")
    first.start()
    second = make("busy", "steady")
    told = f"steady in .* is written already, by process {os.getpid()}"
    with pytest.raises(TapeLockedError, match=told):
        second.start()
    assert not any(child.process for child in second.children)
    other = make("busy")
    other.start()
    other.stop()
    first.stop()
    second.start()
    second.stop()


def test_locks_are_of_all_sources_or_of_none(tmp_path: Path):
    # The first of two is let go again if the second is taken.
    with lock_sources(tmp_path, ["b"]), pytest.raises(TapeLockedError, match="nothing was started"):
        with lock_sources(tmp_path, ["a", "b"]):
            raise AssertionError
    with lock_sources(tmp_path, ["a", "b"]):
        pass


def test_supervisors_of_a_folder_are_known_while_they_live(
    make: Callable[..., Supervisor], tmp_path: Path
):
    # What a dead one has left is not taken for one, and is removed by the next.
    left = tmp_path / "data" / "run" / "1.0"
    left.mkdir(parents=True)
    (left / "supervisor.json").write_text(json.dumps({"pid": 1, "workers": []}))
    supervisor = make("steady")
    assert list(supervisors(tmp_path / "data")) == []
    supervisor.start()
    [found] = supervisors(tmp_path / "data")
    assert (found.pid, found.is_here) == (os.getpid(), True)
    assert [worker["name"] for worker in found.workers] == ["recorder-steady"]
    assert not left.exists()
    supervisor.stop()
    assert list(supervisors(tmp_path / "data")) == []


@pytest.mark.parametrize("kind", ["noisy", "printing"])
def test_log_of_one_living_worker_has_a_cap(make: Callable[..., Supervisor], kind: str):
    # Four megabytes, logged and printed, with a limit of 256 KiB: two files, of which none is
    # much larger, and the last words are there.
    supervisor = make(kind, log_bytes_max=1 << 18, restart_ms=60_000, restart_ms_max=60_000)
    supervisor.start()
    [child] = supervisor.children
    largest = 0
    while not child.restarts:
        supervisor.poll()
        files = list(supervisor.logs.iterdir())
        with contextlib.suppress(FileNotFoundError):
            largest = max(largest, *(path.stat().st_size for path in files))
        assert len(files) <= 2
        time.sleep(0.01)
    # What is printed is measured each second, and a megabyte comes in that.
    assert largest < (1 << 18) + (1 << 10 if kind == "noisy" else 2 << 20)
    if kind == "noisy":
        assert "line 39999" in child.last


def test_log_cannot_act_or_tell_secrets(make: Callable[..., Supervisor]):
    # What a venue or a library says goes into the log as text, passwords of URLs left out; so also
    # the traceback of what nobody caught, and the line that the supervisor tells.
    supervisor = make("raising", restart_ms=60_000, restart_ms_max=60_000)
    supervisor.start()
    [child] = supervisor.children
    until(supervisor, lambda: child.restarts > 0)
    text = child.log.read_text()
    assert "RuntimeError" in text
    assert "http://***@proxy:1" in text
    for shown in (text, child.last):
        assert "\x1b" not in shown
        assert "hunter2" not in shown


def test_worker_without_a_word_is_told_with_its_log(make: Callable[..., Supervisor]):
    # As on a disk that is full from the start: the reason could not be written anywhere.
    supervisor = make("mute", restart_ms=60_000, restart_ms_max=60_000)
    supervisor.start()
    [child] = supervisor.children
    until(supervisor, lambda: child.failures > 0)
    assert child.last == f"nothing in {child.log}: disk full?"


def test_worker_that_cannot_be_started_is_tried_again(make: Callable[..., Supervisor]):
    # Where its log should be stands a folder: no exception, and no end of the others.
    supervisor = make("steady")
    [child] = supervisor.children
    child.log.mkdir(parents=True)
    supervisor.start()
    until(supervisor, lambda: child.failures >= 2)
    assert "cannot be started" in child.last
    child.log.rmdir()
    steady_for(supervisor, child)


def test_worker_whose_supervisor_is_gone_ends_also_in_a_deadlock(tmp_path: Path):
    # Every thread of Python waits for a lock that is never free: the end of the pipe is noticed by
    # nobody, and yet the process ends.
    (tmp_path / "held.py").write_text(
        "import ctypes, os\n"
        "def run():\n"
        "    os.write(2, b'held')\n"
        "    # Holds the lock of the interpreter while it sleeps.\n"
        "    ctypes.PyDLL(None).sleep(100)\n"
    )
    child = Child(Worker("recorder", "held"), tmp_path / "held.log", 1 << 20)
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        child.spawn(Order("held", "held:run", (), hang_s=0.5))
    finally:
        del os.environ["PYTHONPATH"]
    process = child.process
    assert process is not None
    deadline = time.monotonic() + 30
    while child.last_line() != "held":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.close()
    assert process.wait(30) == 1
    assert "Timeout" in (tmp_path / "held.log").read_text()
