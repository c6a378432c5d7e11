"""How a command ends that is interrupted, or whose output is closed, full or of few characters."""

import contextlib
import fcntl
import io
import os
import pwd
import select
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
from tapeworks._core import TapeReader
from tapeworks.cli.app import SAME_INTERRUPT_S, Interrupts
from tapeworks.cli.streams import OUTPUT, Stream
from tapeworks.register import supervisors
from tapeworks.views.interruptible import run_interruptibly

START = "from tapeworks.cli import main; main()"
ENDLESS = "select count(*) from range(1_000_000) a, range(1_000_000) b, range(1_000_000) c"
ENDED_EARLY = (("recorder", "binance-spot", 3), ("derive", "binance-spot", 0))
QUESTIONS = (
    ["query", "select count(*) from trades"],
    *(pytest.param(words, marks=pytest.mark.slow) for words in (["status", "--once"], ["gaps"])),
)


REGISTERED = """
import pathlib, sys
from tapeworks.register import registered
with registered(pathlib.Path("data"), "worker", sys.argv[1]):
    sys.stdin.read()
"""


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
    told = redirected(stored, words, ">/dev/null").stderr
    for where in (">&-", ">&- 2>&-", "<&- >&-"):
        found = redirected(stored, words, where)
        assert found.returncode == 0, found.stderr
        assert found.stderr == (b"" if "2>&-" in where else told)
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


def unread(tape, *words, code):
    """Runs `tape` with nobody who reads its output, to an end with `code`; returns what it told."""
    command = [sys.executable, "-c", START, *map(str, words)]
    found, told = with_a_reader_that_is_gone(tape.folder, command, "stdout")
    assert found == code, told
    return told


@pytest.mark.slow
def test_recording_that_nobody_watches_is_recorded(tape, start):
    # Its exit code is that of the work: a sink fails from the first to the last.
    (tape.folder / "data").mkdir()
    (tape.folder / "data/lake").write_text("no folder")
    simulator = start("--symbols", "BTCUSDT", "--rate", 100)
    where = (f"ws_url={simulator.ws_url}", f"rest_url={simulator.rest_url}")
    words = ("binance", "BTCUSDT", "--set", where[0], "--set", where[1], "--seconds", 6)
    assert unread(tape, "record", *words, code=1) == ""
    tapes = tape.folder / "data/tape/binance-spot"
    assert TapeReader(tapes / "market-data.raw").end > 10
    assert TapeReader(tapes / "market-data.book").end > 0


@pytest.mark.slow
def test_all_of_a_lake_is_rebuilt_where_nobody_reads_it(tape):
    said = '{"e":"trade","s":"BTCUSDT","t":%d,"p":"1","q":"1","E":%d,"T":%d,"m":false,"M":true}'
    at = [1_723_161_255_000_000 + number * 1_000_000 for number in range(20)]
    lines = [
        f'{ts}000 {{"stream":"btcusdt@trade","data":{said % (number, ts, ts)}}}\n'
        for number, ts in enumerate(at)
    ]
    (tape.folder / "capture.txt").write_text("".join(lines))
    for name in ("one", "two"):
        words = ("binance-spot", "capture.txt", "--source", name)
        assert unread(tape, "import", *words, code=0) == ""
    count = ("query", "select venue, count(*) as n from trades group by all order by all", "-fjson")
    stored = tape.answer(*count)
    assert stored == [{"venue": "one", "n": 20}, {"venue": "two", "n": 20}]
    lake = tape.folder / "data/lake"
    commits = {path.relative_to(lake) for path in lake.glob("_commits/*/*.json")}
    assert {path.parts[1] for path in commits} == {"one", "two"}
    for path in commits:
        (lake / path).unlink()
    assert unread(tape, "lake", "rebuild", code=0) == ""
    assert {path.relative_to(lake) for path in lake.glob("_commits/*/*.json")} >= commits
    tape.run("lake", "verify")
    assert tape.answer(*count) == stored


def test_everything_is_stopped_where_nobody_reads_it(tape):
    running = [
        subprocess.Popen([sys.executable, "-c", REGISTERED, name], cwd=tape.folder, stdin=-1)
        for name in ("one", "two")
    ]
    try:
        deadline = time.monotonic() + 60
        while len(list(supervisors(tape.folder / "data"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert unread(tape, "down", code=0) == ""
        assert [one.wait(10) != 0 for one in running] == [True, True]
    finally:
        for one in running:
            one.kill()
            one.communicate()


@pytest.mark.slow
def test_work_is_done_and_told_where_its_output_is_full(tape):
    (tape.folder / "capture.txt").write_text('1723161255000000000 {"stream":"x"}\n')
    # No frame of it can be decoded: that stays the exit code.
    for words, code in ((["import", "binance-spot", "capture.txt"], 3), (["config", "example"], 1)):
        found = redirected(tape.folder, words, "> /dev/full")
        told = found.stderr.decode().splitlines()
        assert found.returncode == code, told
        assert told[-1] == "tape: cannot write to standard output: No space left on device"
    assert tape.run("status", "--once").count("binance-spot") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nothing"], 2),
        (["query", "select * from nothing"], 1),
        (["query", "select 1 from bars"], 0),
        (["verify", "nothing"], 2),
    ],
)
def test_exit_code_stands_where_errors_cannot_be_told(stored, words, code):
    assert redirected(stored, words, "2> /dev/full").returncode == code
    command = [sys.executable, "-c", START, *words]
    assert with_a_reader_that_is_gone(stored, command, "stderr") == (code, None)
    assert redirected(stored, words, "> /dev/full 2> /dev/full").returncode == (code or 1)


def test_pipe_that_does_not_block_gets_all_of_it(monkeypatch):
    # Another program has made it so, for its own end. It reads once the pipe is full.
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    found, wait = bytearray(), select.select

    def read_and_wait(*files):
        found.extend(os.read(reader, 4096))
        return wait(*files)

    monkeypatch.setattr(select, "select", read_and_wait)
    said = bytes(range(256)) * 100
    for ends_command in (False, True):
        stream = Stream(writer, OUTPUT)
        stream.ends_command = ends_command
        with io.BufferedWriter(stream) as file:
            file.write(said)
        assert stream.failure is None
    os.close(writer)
    while part := os.read(reader, 4096):
        found.extend(part)
    os.close(reader)
    assert found == said * 2


def test_help_may_be_read_in_part(stored):
    for words in (["--help"], ["query", "--help"], ["repair", "--help"], ["--version"]):
        command = [sys.executable, "-c", START, *words]
        assert with_a_reader_that_is_gone(stored, command, "stdout") == (0, "")


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
