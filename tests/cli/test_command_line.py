"""The command itself: help teaches, errors are one line, start-up is quick."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tapeworks.cli.app import COMMANDS
from tapeworks.cli.config import example_text
from tapeworks.config import parse, write_toml
from tapeworks.pipeline import resolve_config

START = "from tapeworks.cli import main; main()"
START_SECONDS_MAX = 0.3


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


def test_help_starts_within_300_ms(tmp_path: Path):
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
        (["nothing"], 2, "No such command"),
        (["config", "check", "--config", "none.toml"], 2, "wanted a config file at none.toml"),
        (["record", "kraken", "BTCUSDT"], 2, "binance"),
        (["query", "select 1"], 5, "tape demo"),
        (["verify"], 5, "tape demo"),
    ],
)
def test_errors_are_one_clear_line(tmp_path: Path, words: list[str], code: int, told: str):
    # No traceback, the exit code of the help text, and what to do.
    shown = tape(*words, cwd=tmp_path)
    assert shown.returncode == code, shown.stderr
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr


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
    path.write_text(example_text(), encoding="utf-8")
    defaults = resolve_config(parse(None, {}))
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
