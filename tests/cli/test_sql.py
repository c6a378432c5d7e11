"""`tape sql` at a terminal and in a pipe: completion, history, paging, errors, ways to leave."""

import json
import stat
import subprocess
import sys
import time

import pytest
from tests.cli.terminal import START, Terminal

from conftest import RecordMaker, SpineFolder
from tapeworks.cli.sql import COMMANDS, ends_input, inputs

ENDLESS = "select count(*) from range(1_000_000) a, range(1_000_000) b, range(1_000_000) c;"
PROMPT = r"tape>"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A data folder with some trades."""
    spine = SpineFolder(tmp_path_factory.mktemp("sql") / "data")
    spine.append(RecordMaker().definitions())
    spine.append(RecordMaker().trades(100))
    spine.drain()
    spine.close()
    return spine.path.parent


@pytest.fixture
def open_terminal():
    """Opens terminals, and ends what is left of them."""
    opened = []

    def make(*words, **more):
        opened.append(Terminal(*words, **more))
        return opened[-1]

    yield make
    for terminal in opened:
        terminal.close()


def piped(stored, text, *words):
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=stored,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_shell_completes_answers_and_outlives_errors_and_interrupts(stored, open_terminal):
    # One session as a person has it. What is completed shows in the answers.
    terminal = open_terminal(stored, "sql")
    terminal.until(PROMPT)
    # A table behind FROM, a column of it, and a symbol within quotes.
    for typed, completed in (
        ("select count(*) as found from tra", "des"),
        (" where symb", "ol"),
        (" = 'btc", "BTCUSDT"),
    ):
        terminal.type(typed + "\t")
        terminal.until(completed)
    terminal.type("';\r")
    assert "found\n" in terminal.until(r"1 row in \d")
    terminal.until(PROMPT)
    # A statement of two lines; an error; the shell goes on.
    terminal.type("select 'a;b'\r as both;\r")
    terminal.until(r"a;b\n[^\n]*1 row in")
    terminal.until(PROMPT)
    terminal.type("selec 1;\r")
    terminal.until("Parser Error")
    terminal.until(PROMPT)
    # Ctrl-C ends the query alone; one that comes before it began gives the statement up.
    told = ""
    while "interrupted" not in told:
        terminal.type(ENDLESS + "\r")
        terminal.until(r"c;\s*\n")
        time.sleep(0.3)
        terminal.type("\x03")
        told = terminal.until(rf"interrupted|{PROMPT}")
    terminal.until(PROMPT)
    # Ctrl-C clears the line, the arrow brings back what was asked before.
    terminal.type("select nonsense\x03")
    terminal.until(PROMPT)
    terminal.type(".schema nothing\r")
    terminal.until("did you mean|Tables of the lake|not exist")
    terminal.until(PROMPT)
    terminal.type(".help\r")
    shown = terminal.until(r"leave, as Ctrl-D does")
    assert all(name in shown for name in COMMANDS)
    terminal.until(PROMPT)
    terminal.type("\x04")
    code, shown = terminal.end()
    assert code == 0
    assert "Traceback" not in shown
    kept = stored / "state" / "tapeworks" / "sql_history"
    text = kept.read_text()
    assert "from trades where symbol = 'BTCUSDT';" in text
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_wide_answers_fit_the_screen_and_long_ones_are_paged(stored, open_terminal):
    # On 60 columns and 24 lines: what is cut is told, and a pager shows what is long.
    terminal = open_terminal(stored, "sql", columns=60, PAGER="sed s/^/paged:/")
    terminal.until(PROMPT)
    terminal.type("select * from trades limit 50;\r")
    shown = terminal.until(r"columns fit; not shown: [^\n]*")
    lines = [line for line in shown.splitlines() if line.startswith("paged:")]
    assert len(lines) == 51
    assert all(len(line) <= len("paged:") + 60 for line in lines)
    assert "price" in lines[0]
    terminal.until(PROMPT)
    terminal.type("q\r")
    assert terminal.end()[0] == 0


@pytest.mark.slow
def test_script_ends_at_its_first_error(stored):
    # In a pipe: statements and commands, the last without `;`, and the exit code of the error.
    done = piped(stored, "select 1 as a;\n.symbols\nselect\n2 as b", "sql", "-f", "jsonl")
    assert done.returncode == 0, done.stderr
    first, symbols, last = done.stdout.splitlines()
    assert (json.loads(first), json.loads(last)) == ({"a": 1}, {"b": 2})
    assert symbols == "BTCUSDT ETHUSDT SOLUSDT"
    assert not done.stderr
    done = piped(stored, "select 1 as a;\nselec 2;\nselect 3 as c;", "sql", "-f", "jsonl")
    assert done.returncode == 1
    assert done.stdout == '{"a": 1}\n'
    assert "syntax error" in done.stderr
    done = piped(stored, ".nothing\n", "sql")
    assert (done.returncode, done.stdout) == (2, "")


def test_query_reads_standard_input(stored):
    # `tape query - < file.sql`; nothing at all is wrong use.
    done = piped(stored, "select count(*) as n\nfrom trades;\n", "query", "-", "-f", "jsonl")
    assert done.stdout == '{"n": 100}\n', done.stderr
    assert piped(stored, "", "query", "-").returncode == 2


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ("select 1;", True),
        ("select ';", False),
        ("select ';'", False),
        ("select ';';", True),
        ("select 1; -- done", True),
        ("select 1 -- ;", False),
        ("select /* ;", False),
        ("select $$;", False),
        ("select 'it''s';", True),
        (".help", True),
        ("exit", True),
        ("", True),
    ],
)
def test_input_is_whole_with_its_semicolon(text, is_whole):
    # Within quotes and comments it ends nothing.
    assert ends_input(text) is is_whole


def test_script_is_cut_where_its_statements_end():
    script = "\nselect 1;\n.help\n\nselect\n';\n';\nselect 3"
    assert [text.strip() for text in inputs(script.splitlines(keepends=True))] == [
        "select 1;",
        ".help",
        "select\n';\n';",
        "select 3",
    ]
