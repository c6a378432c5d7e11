"""Files that commands write: whole or not at all, and with every byte of what was asked for."""

import contextlib
import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.damages import obey_modes

from conftest import RecordMaker, SpineFolder
from tapeworks.cli.formats import Format
from tapeworks.cli.output import write_result, write_rows
from tapeworks.cli.tables import as_table

WRITE = """
import resource, signal, sys
from pathlib import Path
import pyarrow as pa
from tapeworks.cli.formats import Format
from tapeworks.cli.output import write_result
from tapeworks.errors import ConfigError, TapeworksError

# A shell that runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.argv[3]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
print("begin", flush=True)
try:
    for _ in range(1 if sys.argv[3] else 10_000):
        table = pa.table({"number": [hash(str(n)) for n in range(20_000)]})
        write_result(table, Format(sys.argv[1]), Path(sys.argv[2]))
except TapeworksError as error:
    print(error)
    raise SystemExit(2 if isinstance(error, ConfigError) else 1)
"""
FORMS = [Format.CSV, Format.JSON, Format.JSONL, Format.PARQUET]
BODIES = [b"plain", "caf\u00e9".encode(), b"\xff\xfe\x80", b'{"a":"\xff"}', b"\\xff", b"", b"\\"]


@pytest.mark.parametrize("form", FORMS)
def test_disk_that_is_full_leaves_the_file_that_was_there(tmp_path: Path, form: Format):
    path = tmp_path / "kept"
    path.write_text("precious")
    command = [sys.executable, "-c", WRITE, form.value, str(path), "4096"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert f"cannot write {path}" in done.stdout
    assert "the file that was there is as it was" in done.stdout
    assert path.read_text() == "precious"
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]


def test_ctrl_c_leaves_a_whole_file(tmp_path: Path):
    # Interrupted while it writes the next one: a file of all rows, and no other.
    path = tmp_path / "kept.csv"
    command = [sys.executable, "-c", WRITE, "csv", str(path), ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 60
        try:
            while not path.exists() or len(list(tmp_path.iterdir())) < 2:
                assert process.poll() is None
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, errors
    assert [one.name for one in tmp_path.iterdir()] == ["kept.csv"]
    assert len(path.read_text().splitlines()) == 20_001


def parts_of(folder: Path, process: subprocess.Popen[bytes], count: int) -> Iterator[int]:
    """Yields the modes of `count` files that are being written."""
    deadline = time.monotonic() + 60
    while count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        for part in folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                yield stat.S_IMODE(part.stat().st_mode)
                count -= 1
                break


def test_sigterm_leaves_no_file_behind(tmp_path: Path):
    path = tmp_path / "kept.csv"
    path.write_text("precious")
    command = [sys.executable, "-c", WRITE, "csv", str(path), ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        for _ in parts_of(tmp_path, process, 1):
            process.terminate()
            break
    assert process.returncode == -signal.SIGTERM
    assert [one.name for one in tmp_path.iterdir()] == ["kept.csv"]


def test_what_nobody_else_may_read_nobody_else_can_read_meanwhile(tmp_path: Path):
    path = tmp_path / "kept.csv"
    path.touch(0o600)
    command = [sys.executable, "-c", WRITE, "csv", str(path), ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        modes = set(parts_of(tmp_path, process, 20))
        process.terminate()
    assert modes == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.slow
def test_path_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path):
    # Each is of the command line: exit code 2, and the files are as they were.
    (tmp_path / "read").write_text("precious")
    (tmp_path / "read").chmod(0o444)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "open").write_text("precious")
    (tmp_path / "closed").chmod(0o555)
    told = {
        "read": "it is read-only: make it writable, or name another file; the file that was there",
        "closed/open": f"no right to make files in the folder {tmp_path}/closed",
        "closed/new": f"no right to make files in the folder {tmp_path}/closed",
        "none/new": f"the folder {tmp_path}/none is not there: make it first",
        "x" * 256: "File name too long",
    }
    for name, words in told.items():
        command = [sys.executable, "-c", WRITE, "csv", str(tmp_path / name), "9000000"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, preexec_fn=obey_modes
        )
        assert done.returncode == 2, done.stderr
        assert f"cannot write {tmp_path / name}: {words}" in done.stdout
    assert (tmp_path / "read").read_text() == "precious"
    (tmp_path / "closed").chmod(0o755)
    assert [one.name for one in (tmp_path / "closed").iterdir()] == ["open"]
    # As long as a name can be.
    path = tmp_path / ("x" * 255)
    write_result(pa.table({"number": [1]}), Format.CSV, path)
    assert path.read_text() == "number\n1\n"


def test_link_and_pipe_are_written_through(tmp_path: Path):
    table = pa.table({"number": [1, 2]})
    (tmp_path / "link.csv").symlink_to("real.csv")
    write_result(table, Format.CSV, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "number\n1\n2\n"
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write_result, args=(table, Format.CSV, tmp_path / "pipe"))
    writer.start()
    assert (tmp_path / "pipe").read_text() == "number\n1\n2\n"
    writer.join()


SHELL = """
show() { "$PYTHON" -c "$0" query "select 7 as n" -f csv "$@"; }
show -o /dev/stdout | cat > piped
show -o >(cat > substituted; echo > done)
echo before > grown; show -o /dev/stdout >> grown; echo after >> grown
show -o /dev/null
"$PYTHON" -c "$0" query "select 7 as n" -f parquet -o /dev/stdout > n.parquet
until [ -e done ]; do sleep 0.01; done
"""


@pytest.mark.slow
def test_names_of_pipes_and_devices_are_outputs(tmp_path: Path, spine: SpineFolder):
    # A pipe has no path behind its name, and a file that is open already keeps what it holds.
    spine.append(RecordMaker().definitions())
    start = "from tapeworks.cli import main; main()"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", SHELL, start],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "piped").read_text() == "n\n7\n"
    assert (tmp_path / "substituted").read_text() == "n\n7\n"
    assert (tmp_path / "grown").read_text() == "before\nn\n7\nafter\n"
    assert pq.read_table(tmp_path / "n.parquet").to_pylist() == [{"n": 7}]


def test_lists_in_csv_are_json(tmp_path: Path):
    # Tops of books and the like: numbers with all their digits.
    prices = pa.array([[Decimal("1.5"), None], []], pa.list_(pa.decimal128(19, 9)))
    names = pa.array([["a", 'b"'], None], pa.list_(pa.string()))
    write_result(pa.table({"p": prices, "n": names}), Format.CSV, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["p", "n"]
    assert first[0] == "[1.5, null]"
    assert (json.loads(first[1]), second) == (["a", 'b"'], ["[]", ""])


def bytes_of(text: str) -> bytes:
    r"""Bytes again from text: digits behind `\x`, else UTF-8."""
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()


@pytest.mark.parametrize("form", [Format.CSV, Format.JSON, Format.JSONL])
def test_bytes_are_written_so_that_they_can_be_had_again(tmp_path: Path, form: Format):
    # What is no UTF-8 is not replaced by anything: frames of the dead-letter queue above all.
    path = tmp_path / "frames"
    write_result(pa.table({"body": pa.array(BODIES, pa.binary())}), form, path)
    if form is Format.CSV:
        with path.open(newline="", encoding="utf-8") as file:
            found = [row["body"] for row in csv.DictReader(file)]
    elif form is Format.JSON:
        found = [row["body"] for row in json.loads(path.read_text())]
    else:
        found = [json.loads(line)["body"] for line in path.read_text().splitlines()]
    assert [bytes_of(text) for text in found] == BODIES
    assert found[:2] == ["plain", "caf\u00e9"]


def test_table_shows_bytes_that_are_no_text():
    assert as_table(["body"], [(b'{"a":"\xff"}',)]).text.splitlines()[1] == '{"a":"\\xff"}'


def test_json_is_written_a_few_rows_at_a_time(tmp_path):
    # As Python objects, all of them took a kilobyte a row; JSON is one list all the same.
    count = 9_000
    table = pa.table({f"c{at}": pa.array(range(count)) for at in range(3)})
    tracemalloc.start()
    with (tmp_path / "rows").open("w") as file:
        write_rows(table, Format.JSON, file, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    rows = json.loads((tmp_path / "rows").read_text())
    assert (len(rows), rows[-1]["c2"]) == (count, count - 1)
    write_rows(table.slice(0, 0), Format.JSON, empty := io.StringIO(), None)
    assert empty.getvalue() == "[]\n"
