"""How a command ends that is interrupted, or whose output is closed, full or of few characters."""

import os
import pwd
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.jobs.damages import obey_modes

import tapeworks as tw
from conftest import Command, RecordMaker, SpineFolder
from tapeworks.cli.app import SAME_INTERRUPT_S, Interrupts

START = "from tapeworks.cli import main; main()"
ENDLESS = "select count(*) from range(1_000_000) a, range(1_000_000) b, range(1_000_000) c"
QUESTIONS = (["query", "select count(*) from trades"], ["status", "--once"], ["gaps"])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A data folder with some trades."""
    spine = SpineFolder(tmp_path_factory.mktemp("endings") / "data")
    spine.append(RecordMaker().definitions())
    spine.append(RecordMaker().trades(100))
    spine.close()
    return spine.path.parent


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


def is_busy(pid):
    """Whether a process has worked longer than loading takes: its query runs."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) > 2 * os.sysconf("SC_CLK_TCK")


def test_interrupt_ends_a_query_that_runs(stored):
    # Native code that would run for years: the process is gone at once, as interrupted.
    tape = Command(stored)
    process = tape.start("query", ENDLESS, start_new_session=True)
    while not is_busy(process.pid):
        assert process.poll() is None
        time.sleep(0.01)
    shown, told = tape.interrupt(process)
    tape.close()
    assert process.returncode == 130
    assert shown + told == ""


def test_interrupt_ends_a_query_in_python_and_the_lake_goes_on(stored):
    # In a notebook: KeyboardInterrupt out of `sql`, and the next question is answered.
    lake = tw.open(stored / "data")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            lake.sql(ENDLESS)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert lake.sql("select count(*) as n from trades").to_pylist() == [{"n": 100}]


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


@pytest.mark.parametrize("words", QUESTIONS)
def test_closed_output_is_no_error(stored, words):
    # `>&-`: nobody reads, and no file of ours may take the place of standard output.
    for where in (">&-", ">&- 2>&-", "<&- >&-"):
        found = redirected(stored, words, where)
        assert found.returncode == 0, found.stderr
        assert found.stderr == b""


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
def test_folder_without_rights_is_named_with_its_owner(tmp_path, locked):
    # The data folder itself, or a part that somebody else made; and what to do is said.
    (tmp_path / "capture.txt").write_text('1723161255000000000 {"stream":"x"}\n')
    folder = tmp_path / "data" / locked
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    tape = Command(tmp_path)
    process = tape.start("import", "binance-spot", "capture.txt", preexec_fn=obey_modes)
    shown, told = process.communicate(timeout=60)
    folder.chmod(0o755)
    tape.close()
    owner = pwd.getpwuid(os.geteuid()).pw_name
    where = "data" + (f"/{locked}" if locked else "")
    assert process.returncode == 1, shown + told
    assert told.startswith(f"tape: cannot write in {where} (owner {owner}, mode 555): "), told
    assert "--data" in told
    assert len(told.splitlines()) == 1
