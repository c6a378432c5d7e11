"""The command itself: help teaches, errors are one line, start-up is quick."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tapeworks.cli.app import COMMANDS
from tapeworks.cli.config import example_text
from tapeworks.config import parse, write_toml
from tapeworks.pipeline import resolve_config

START = "from tapeworks.cli import main; main()"
START_SECONDS_MAX = 0.2


def tape(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command(tmp_path: Path):
    # The whole table, with one line each.
    shown = tape("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for name, entry in COMMANDS.items():
        assert name in shown.stdout
        assert entry.summary in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(tmp_path: Path, name: str):
    # Each command teaches by a line that can be copied.
    shown = tape(name, "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "tape " + name in shown.stdout or "Examples" in shown.stdout


def test_help_starts_within_200_ms(tmp_path: Path):
    # In time of the processor, the best of five runs: other processes must not fail this test,
    # slow imports must.
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert tape("--help", cwd=tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < START_SECONDS_MAX, times


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nothing"], 2, "there is no command 'nothing'"),
        (["qurey"], 2, "did you mean `tape query`?"),
        (["book"], 2, "tape book: missing argument 'SYMBOL'; see `tape book --help`"),
        (["--nothing"], 2, "no such option '--nothing'; see `tape --help`"),
        (["query", "--nothing"], 2, "see `tape query --help`"),
        (["query", "--format", "xml", "select 1"], 2, "'xml' is not one of 'table', 'csv'"),
        (["book", "BTCUSDT", "--levels", "many"], 2, "'--levels' / '-n'"),
        (["verify", "nothing"], 2, "got nothing, which is not there"),
        (["query", " "], 2, "expected SQL"),
        (["import", "nothing", "tapeworks.toml"], 2, "expected a feed of alpaca, binance-spot"),
        (["import", "binance-spot", "tapeworks.toml"], 1, "tapeworks.toml:1: expected"),
        (["config", "nothing"], 2, "see `tape config --help`"),
        (["config", "check", "--config", "none.toml"], 2, "expected a config file at none.toml"),
        (["record", "kraken", "BTCUSDT"], 2, "binance"),
        (["record", "binance", "BTC/USDT"], 2, "symbols: expected the venue's own"),
        (["record", "binance", "BTCUSDT", "btcusdt"], 2, "got more than once: BTCUSDT"),
        (["record", "binance", "A", "--set", "source=../x"], 2, "such as 'x', got '../x'"),
        (["record", "binance", "A", "--set", "ws_url=http://x"], 2, "expected ws://host:port"),
        (["record", "binance", "A", "--set", "proxy=http://u:hunter2@p"], 2, "in the environment"),
        (["import", "binance-spot", "x.gz", "--source", "a/b"], 2, "such as 'a-b', got 'a/b'"),
        (["query", "select 1"], 1, "tape demo"),
        (["query", "select 1", "--data", "s3://KEY:hunter2@bucket/x"], 1, "with keys in it"),
        (["publish", "iceberg", "--warehouse", "s3://K:hunter2@b/x"], 2, "is a secret"),
        (["verify"], 1, "tape demo"),
    ],
)
def test_errors_are_one_clear_line(tmp_path: Path, words: list[str], code: int, told: str):
    # No traceback, the exit code of the help text, and what to do.
    (tmp_path / "tapeworks.toml").write_text('data = "data"\n')
    shown = tape(*words, cwd=tmp_path)
    assert not (tmp_path / "data").exists()
    assert shown.returncode == code, shown.stderr
    assert told in shown.stderr
    assert "hunter2" not in shown.stderr
    assert not shown.stdout
    assert len(shown.stderr.splitlines()) == 1, shown.stderr


@pytest.mark.slow
def test_interrupt_at_any_moment_shows_no_traceback(tmp_path: Path):
    # Most of a short command's life is the loading of its modules: Ctrl-C at moments spread over
    # it, in a group of its own as a terminal does it.
    begin = "signal.signal(signal.SIGINT, signal.SIG_DFL); os.write(1, b'!')"
    start = f"import os, signal; from tapeworks.cli import main; {begin}; main()"
    for step in range(24):
        process = subprocess.Popen(
            [sys.executable, "-c", start, "query", "select 1"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            # Python itself and the first import of `tapeworks` are not ours to guard.
            assert process.stdout is not None
            assert process.stdout.read(1) == "!"
            time.sleep(0.03 * step)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
        assert "Traceback" not in told, f"step {step}: {told}"
        assert process.returncode in (-signal.SIGINT, 130, 1), f"step {step}: {told}"


def test_full_disk_is_one_line(tmp_path: Path):
    # /dev/full refuses every byte, as a full disk does under `tape ... > file`.
    with Path("/dev/full").open("w") as full:
        shown = subprocess.run(
            [sys.executable, "-c", START, "config", "example"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert shown.returncode == 1
    assert shown.stderr.startswith("tape: cannot write to standard output: No space left on device")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize("question", ["select 1", "select count(*) from trades"])
def test_a_question_loads_only_what_answers_it(spine, maker, question):
    # Loading is most of what `tape query` costs: nothing that draws screens, writes Parquet or
    # talks to venues may come with it, nor with what is told beside the answer.
    spine.append(maker.definitions())
    spine.append(maker.rows("subscription", 1, ts_recv=1, channel=1, state=1))
    spine.append(maker.trades(9))
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", START, "query", question],
        cwd=spine.path.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "duckdb" in loaded
    assert (shown.returncode, "not yet known" in shown.stderr) == (0, question != "select 1")
    unwanted = {"rich.console", "polars", "pyarrow.parquet"}
    # Where something is missing, Arrow loads these to make a table of it.
    unwanted |= {"pandas", "pyarrow.compute"} if question == "select 1" else set()
    unwanted |= {
        "pydantic",
        "prompt_toolkit",
        "asyncio",
        "aiohttp",
        "picows",
        "tapeworks.feeds.session",
    }
    assert loaded & unwanted == set()


def test_debug_shows_the_traceback(tmp_path: Path):
    # What is hidden from users must be there for whoever mends it.
    shown = tape("--debug", "config", "check", "--config", "none.toml", cwd=tmp_path)
    assert "Traceback" in shown.stderr
    assert shown.returncode == 2


def test_misspelt_setting_is_named_with_the_nearest(tmp_path: Path):
    # From the file and from the environment.
    (tmp_path / "tapeworks.toml").write_text('[feeds.binance-spot]\nsymbls = ["BTCUSDT"]\n')
    shown = tape("config", "check", cwd=tmp_path)
    assert shown.returncode == 2
    assert "did you mean feeds.binance-spot.symbols?" in " ".join(shown.stderr.split())


def test_example_parses_to_exactly_the_defaults(tmp_path: Path):
    # The commented example sets every setting, so it also shows what there is to set.
    path = tmp_path / "tapeworks.toml"
    path.write_text("")
    defaults = resolve_config(parse(path, {}))
    path.write_text(example_text(), encoding="utf-8")
    assert resolve_config(parse(path, {})) == defaults


def test_example_names_every_setting():
    # A setting that is not in the example cannot be found by a reader.
    text = example_text()
    keys = {line.partition(" = ")[0] for line in text.splitlines() if " = " in line}
    shown = {
        line.partition(" = ")[0] for line in write_toml(resolve_config(parse(None, {}))).split("\n")
    }
    missing = {key for key in shown if key and not key.startswith("[")} - keys
    assert not missing, missing


def test_settings_shown_parse_to_the_same(tmp_path: Path):
    # `tape config show` writes what is in force as a file that gives it again.
    (tmp_path / "tapeworks.toml").write_text(
        'data = "there"\n[feeds.binance-usdm]\nproduct = "usdm"\nsymbols = ["ETHUSDT"]\n'
    )
    shown = tape("config", "show", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout)
    first = resolve_config(parse(tmp_path / "tapeworks.toml", {}))
    assert resolve_config(parse(again, {})) == first


@pytest.mark.parametrize(
    ("command", "clock"),
    [
        ("export", "event time"),
        ("gaps", "event time"),
        ("replay", "receipt"),
        ("dead-letters", "receipt"),
    ],
)
def test_help_says_by_which_clock_a_range_is(tmp_path: Path, command: str, clock: str):
    # The same two options, and two clocks.
    shown = " ".join(tape(command, "--help", cwd=tmp_path).stdout.split())
    assert f"Start of {clock}, UTC" in shown
    assert f"End of {clock}, UTC" in shown


def test_logs_of_both_forms_of_time_are_in_order(tmp_path: Path):
    # Those of an earlier version beside new ones.
    log = tmp_path / "data" / "log"
    log.mkdir(parents=True)
    old = "2026-11-20 10:00:00,100 INFO one\n2026-11-20 10:00:02,000 INFO three\n"
    new = "2026-11-20T10:00:01.500Z INFO two\n2026-11-20T10:00:02.001Z INFO four\n"
    (log / "a.log").write_text(old)
    (log / "b.log").write_text(new)
    shown = tape("logs", cwd=tmp_path)
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == [
        "one",
        "two",
        "three",
        "four",
    ]
