"""Formats: by name of the file, by `--json` and by `--format`; values as SQL writes them."""

import json
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.terminal import Terminal

from conftest import RecordMaker, SpineFolder
from tapeworks.cli.gaps import in_words
from tapeworks.cli.tables import as_table

VALUES = (
    "select interval '14 months 3 days 1.5 seconds' as span, [1.50::decimal(9, 4), null] as list, "
    "'nan'::double as missing, 0.100000000::decimal(19, 9) as price, {'a': interval 1 hour} as nest"
)


@pytest.fixture(scope="module")
def tape(tmp_path_factory, command):
    """The command line beside a data folder with some trades."""
    spine = SpineFolder(tmp_path_factory.mktemp("formats") / "data")
    spine.append(RecordMaker().definitions())
    spine.append(RecordMaker().trades(100))
    spine.drain()
    spine.close()
    return command(spine.path.parent)


@pytest.mark.slow
def test_format_follows_the_name_of_the_file(tape):
    # On every command that writes one; a name that says nothing is wrong use.
    sql = "select count(*) as n from trades"
    tape.run("query", sql, "-o", "n.parquet")
    assert pq.read_table(tape.folder / "n.parquet").to_pylist() == [{"n": 100}]
    assert tape.told("query", sql, "-o", "n.CSV").startswith("1 row in n.CSV\n")
    assert (tape.folder / "n.CSV").read_text() == "n\n100\n"
    tape.run("query", sql, "-o", "n.csv", "-f", "json")
    assert json.loads((tape.folder / "n.csv").read_text()) == [{"n": 100}]
    for command in ("sources", "gaps", "dead-letters"):
        tape.run(command, "-o", "out.parquet")
        pq.read_table(tape.folder / "out.parquet")
    told = tape.refuse("query", sql, "-o", "n.xyz", code=2)
    assert "expected a file ending in .parquet" in told
    assert not (tape.folder / "n.xyz").exists()


def test_a_dash_is_standard_output(tape):
    # On every command that writes rows; nothing else goes there, and no file is made.
    assert tape.run("query", "select 1 as n", "-o", "-", "-f", "csv") == "n\n1\n"
    shown = tape.run("export", "trades", "-", "--format", "jsonl").splitlines()
    assert all(line.startswith("{") for line in shown)
    assert shown
    assert not (tape.folder / "-").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("query", "select 1 as a"),
        ("status",),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ("sources",),
                ("gaps",),
                ("dead-letters",),
                ("verify",),
                ("lake", "verify"),
            )
        ),
    ],
)
def test_json_has_two_spellings(tape, words):
    # `--json` and `-f json`, on every command that answers with one text.
    answers = [tape.answer(*words, *form) for form in (("--json",), ("-f", "json"))]
    assert type(answers[0]) is type(answers[1])
    if words != ("status",):
        assert answers[0] == answers[1]


@pytest.mark.slow
def test_replay_is_lines_or_one_list(tape):
    # A record is one text in both; without records the list is empty.
    lines = tape.run("replay", "--kinds", "trades").splitlines()
    rows = tape.answer("replay", "--kinds", "trades", "--json")
    assert rows == [json.loads(line) for line in lines]
    assert len(rows) == 100
    assert tape.answer("replay", "--kinds", "marks", "-f", "json") == []


@pytest.mark.slow
def test_values_are_written_as_sql_writes_them(tape):
    # In no format a form of Python; JSON is JSON, with null for what it has no number for.
    span, listed = "1 year 2 months 3 days 00:00:01.5", "[1.5, null]"
    [row] = tape.answer("query", VALUES, "-f", "json")
    assert row == {
        "span": span,
        "list": ["1.5", None],
        "missing": None,
        "price": "0.1",
        "nest": {"a": "01:00:00"},
    }
    _, cells = tape.run("query", VALUES, "-f", "csv").splitlines()
    assert cells == f'{span},"{listed}",nan,0.1,"{{""a"": ""01:00:00""}}"'
    shown = re.split(r"\s{2,}", tape.run("query", VALUES).splitlines()[1])
    assert shown == [span, listed, "nan", "0.1", '{"a": "01:00:00"}']


@pytest.mark.parametrize(
    "words",
    [
        ("gaps", "--from", "garbage"),
        ("gaps", "--from", "2026-11-21", "--to", "2026-11-20"),
        ("gaps", "--channel", "nope"),
        ("replay", "NOPE"),
        ("replay", "--kinds", "nope"),
        ("replay", "--speed", "0"),
        ("book", "NOPE"),
        ("export", "nope", "x.csv"),
        ("export", "bars", "x.csv", "--interval", "7x"),
        ("sources", "--source", "nope"),
    ],
)
def test_wrong_arguments_exit_with_2(tape, words):
    # A time, a name or a kind that cannot be: not a failure, and one line.
    tape.refuse(*words, code=2)


def test_wide_rows_fit_the_screen_and_what_is_cut_is_told():
    # The columns that say least go first; in a pipe nothing does.
    columns = ["ts_recv", "symbol", "flags", "note", "price"]
    rows = [("x" * 20, "BTC", 1, "n" * 90, 2.5)] * 9
    shown = as_table(columns, rows, os.terminal_size((66, 8)))
    assert all(len(line) <= 66 for line in shown.text.splitlines())
    assert shown.text.split()[:3] == ["symbol", "note", "price"]
    assert "3 of 5 columns fit; not shown: ts_recv, flags" in shown.cut
    assert "are cut (…)" in shown.cut
    assert "n" * 90 in as_table(columns, rows).text
    few = as_table(columns, rows[:1], os.terminal_size((66, 8)))
    assert "ts_recv" in few.text
    assert few.cut == "1 value is cut (…)"


def test_screen_without_colours(tape):
    # NO_COLOR at a terminal: not one escape of a colour, in messages either.
    for colour, value in ((True, ""), (False, "1")):
        terminal = Terminal(tape.folder, "query", "selec 1", NO_COLOR=value)
        code, shown = terminal.end()
        terminal.close()
        assert code == 1
        assert "Parser Error" in shown
        assert ("\x1b[31m" in terminal.raw) is colour


def test_states_of_gaps_are_told_in_words():
    # What a person reads; SQL and other formats have the names of the ledger.
    ledger = pa.table({"symbol": ["A", "B", "C"], "state": ["closed", "open", "repaired"]})
    shown = in_words(ledger).column("state").to_pylist()
    assert shown == ["ended, data lost", "open, losing data", "repaired"]
