"""Files that commands write: whole or not at all, and with every byte of what was asked for."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from tapeworks.cli.output import Format, as_table, write_result

WRITE = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from tapeworks.cli.output import Format, write_result
from tapeworks.errors import ConfigError

if sys.argv[3]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
print("begin", flush=True)
try:
    for _ in range(1 if sys.argv[3] else 10_000):
        table = pa.table({"number": [hash(str(n)) for n in range(20_000)]})
        write_result(table, Format(sys.argv[1]), Path(sys.argv[2]))
except ConfigError as error:
    print(error)
    raise SystemExit(2)
"""
FORMS = [Format.CSV, Format.JSON, Format.JSONL, Format.PARQUET]
BODIES = [b"plain", "caf\u00e9".encode(), b"\xff\xfe\x80", b'{"a":"\xff"}', b"\\xff", b"", b"\\"]


@pytest.mark.parametrize("form", FORMS)
def test_disk_that_is_full_leaves_the_file_that_was_there(tmp_path: Path, form: Format):
    path = tmp_path / "kept"
    path.write_text("precious")
    command = [sys.executable, "-c", WRITE, form.value, str(path), "4096"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert f"cannot write {path}" in done.stdout
    assert "the file that was there is as it was" in done.stdout
    assert path.read_text() == "precious"
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]


def test_ctrl_c_leaves_a_whole_file(tmp_path: Path):
    # Interrupted at a moment when it writes: a file of all rows, and no other.
    path = tmp_path / "kept.csv"
    command = [sys.executable, "-c", WRITE, "csv", str(path), ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert [one.name for one in tmp_path.iterdir()] == ["kept.csv"]
    assert len(path.read_text().splitlines()) == 20_001


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
    assert as_table(["body"], [(b'{"a":"\xff"}',)]).splitlines()[1] == '{"a":"\\xff"}'
