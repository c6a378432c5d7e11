"""How a command ends that is interrupted, or whose output is closed, full or of few characters."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.jobs.damages import obey_modes

import tapeworks as tw
from conftest import RecordMaker, SpineFolder
from tapeworks.cli.app import SAME_INTERRUPT_S, Interrupts
from tapeworks.views.interruptible import run_interruptibly

START = "from tapeworks.cli import main; main()"
ENDLESS = "select count(*) from range(1_000_000) a, range(1_000_000) b, range(1_000_000) c"
ENDED_EARLY = (("recorder", "binance-spot", 3), ("derive", "binance-spot", 0))
QUESTIONS = (["query", "select count(*) from trades"], ["status", "--once"], ["gaps"])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A data folder with some trades."""
    spine = SpineFolder(tmp_path_factory.mktemp("endings") / "data")
    spine.append(RecordMaker().definitions())
    spine.append(RecordMaker().trades(100))
    spine.drain()
    spine.close()
    return spine.path.parent


def contents(folder):
    """Everything that is in `folder`: files with their bytes."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def redirected(stored, words, where, **environment):
    """Runs `tape` with `words` and the redirections `where` of a shell."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {where}', "sh", sys.executable, "-c", START, *words],
        cwd=stored,
        env={**os.environ, "NO_COLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


def worked(pid):
    """How many ticks each thread of a process has worked."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            fields = (thread / "stat").read_text().rpartition(")")[2].split()
            found[int(thread.name)] = int(fields[11]) + int(fields[12])
    return found


def runs_a_query(pid, before, others=()):
    """Whether a query runs: threads of the native code work, and not the one that loads."""
    ticks = [
        ticks - before.get(thread, 0)
        for thread, ticks in worked(pid).items()
        if thread not in (pid, *others)
    ]
    return max(ticks, default=0) > os.sysconf("SC_CLK_TCK") / 5


def test_interrupt_ends_a_query_that_runs(stored, command):
    # Native code that would run for years: the process is gone at once, as interrupted.
    tape = command(stored)
    process = tape.start("query", ENDLESS, start_new_session=True)
    deadline = time.monotonic() + 60
    while not runs_a_query(process.pid, {}):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shown, told = tape.interrupt(process)
    assert process.returncode == 130
    assert shown + told == ""


def test_interrupt_ends_a_query_in_python_and_the_lake_goes_on(stored):
    # In a notebook: KeyboardInterrupt out of `sql`, and the next question is answered.
    lake = tw.open(stored / "data")
    before, deadline, hit = worked(os.getpid()), time.monotonic() + 60, []

    def interrupt():
        own = [threading.get_native_id()]
        while not hit and time.monotonic() < deadline:
            time.sleep(0.01)
            if runs_a_query(os.getpid(), before, own):
                hit.extend(one for one in threading.enumerate() if one.name == "query")
        os.kill(os.getpid(), signal.SIGINT)

    default = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupting = threading.Thread(target=interrupt)
    try:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            lake.sql(ENDLESS)
        interrupting.join()
    finally:
        signal.signal(signal.SIGINT, default)
    [query] = hit
    assert not query.is_alive()
    assert lake.sql("select count(*) as n from trades").to_pylist() == [{"n": 100}]


def test_interrupt_that_comes_before_the_work_begins_is_said_again():
    # As DuckDB does, which forgets an interrupt while it prepares a question.
    asked = [threading.Event(), threading.Event()]

    def work():
        os.kill(os.getpid(), signal.SIGINT)
        assert asked[0].wait(10)
        return asked[1].wait(10)

    def interrupt():
        asked[asked[0].is_set()].set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_interruptibly(work, interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked[1].is_set()


def test_two_signals_of_one_interrupt_are_one(monkeypatch):
    # `timeout -s INT` signals the process and then its group.
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    handler = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
    handler(signal.SIGINT, None)
    now[0] += SAME_INTERRUPT_S
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)


@pytest.mark.parametrize(("kind", "member", "code"), ENDED_EARLY)
def test_worker_that_is_stopped_while_it_loads_says_what_it_achieved(tmp_path, kind, member, code):
    # SIGTERM comes with its first module: a recorder has recorded nothing.
    (tmp_path / "tapeworks.toml").write_text('[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\n')
    stopped = (
        "import os, signal\n"
        "import tapeworks.worker as worker\n"
        "load = worker.load_name\n"
        "def load_name(target):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return load(target)\n"
        f"worker.load_name = load_name\n{START}"
    )
    command = [sys.executable, "-c", stopped, "worker", kind, member]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("words", QUESTIONS)
def test_closed_output_is_no_error(stored, words):
    # `>&-`: nobody reads, and no file of ours may take the place of standard output.
    before = contents(stored)
    for where in (">&-", ">&- 2>&-", "<&- >&-"):
        found = redirected(stored, words, where)
        assert found.returncode == 0, found.stderr
        assert found.stderr == b""
        assert contents(stored) == before


def with_a_reader_that_is_gone(stored, command, file):
    """Runs `command` with a broken pipe as `file`; returns the process, and what it told."""
    reader, writer = os.pipe()
    os.close(reader)
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, file: writer}
    process = subprocess.Popen(command, cwd=stored, text=True, **outputs)
    os.close(writer)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["gaps"], 0),
        (["gaps", "--check"], 3),
        (["gaps", "--check", "--json"], 3),
        (["query", "select * from trades"], 0),
        (["verify"], 1),
        (["lake", "verify", "--json"], 1),
        (["lake", "verify"], 1),
    ],
)
def test_verdict_stands_where_its_reader_has_seen_enough(stored, words, code):
    # `tape gaps --check | head -1`: what cron looks at is the exit code. The folder has faults.
    next((stored / "data/lake").glob("**/*.parquet")).with_name("stray.parquet").touch()
    command = [sys.executable, "-c", START, *words]
    assert with_a_reader_that_is_gone(stored, command, "stdout") == (code, "")


def test_answer_stands_where_nobody_reads_what_is_told_beside_it(stored):
    command = [sys.executable, "-c", START, "query", "select * from trades"]
    assert with_a_reader_that_is_gone(stored, command, "stderr") == (0, None)


def test_broken_pipe_of_anything_else_is_an_error(stored):
    # A socket of a venue or a pipe of a worker is no reader of our output.
    code = (
        "import tapeworks.cli.gaps as gaps\n"
        "def ask(*words): raise BrokenPipeError(32, 'Broken pipe')\n"
        f"gaps.open_lake = ask\n{START}"
    )
    found, told = with_a_reader_that_is_gone(stored, [sys.executable, "-c", code, "gaps"], "stdout")
    assert (found, told) == (1, "tape: Broken pipe: what reads it is gone\n")


@pytest.mark.parametrize("words", QUESTIONS)
def test_full_output_is_named(stored, words):
    # What could not be written was standard output, and no file.
    found = redirected(stored, words, "> /dev/full")
    assert found.returncode == 1
    told = found.stderr.decode()
    assert told.startswith("tape: cannot write to standard output: No space left on device"), told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_character_is_shown_in_any_encoding(stored, encoding):
    # cron and old terminals: signs of screens are simpler ones, data keep all that they are.
    found = redirected(stored, ["status", "--once"], "", PYTHONIOENCODING=encoding)
    assert found.returncode == 0, found.stderr
    assert b"* binance-spot" in found.stdout
    words = ["query", "select '\u4e2d\U0001f600' as x", "-f", "json"]
    found = redirected(stored, words, "", PYTHONIOENCODING=encoding)
    assert found.stdout == b'[{"x": "\\u4e2d\\ud83d\\ude00"}]\n', found.stderr


@pytest.mark.parametrize("locked", ["", "state/binance-spot"])
def test_folder_without_rights_is_named_with_its_owner(tape, tmp_path, locked):
    # The data folder itself, or a part that somebody else made; and what to do is said.
    (tmp_path / "capture.txt").write_text('1723161255000000000 {"stream":"x"}\n')
    folder = tmp_path / "data" / locked
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    before = contents(tmp_path)
    process = tape.start("import", "binance-spot", "capture.txt", preexec_fn=obey_modes)
    shown, told = process.communicate(timeout=60)
    assert contents(tmp_path) == before
    folder.chmod(0o755)
    owner = pwd.getpwuid(os.geteuid()).pw_name
    where = "data" + (f"/{locked}" if locked else "")
    assert process.returncode == 1, shown + told
    assert told.startswith(f"tape: cannot write in {where} (owner {owner}, mode 555): "), told
    assert "--data" in told
    assert len(told.splitlines()) == 1
