"""What a venue says, on screens and in logs: nothing of it acts."""

import io
import json
import logging
import time

from tapeworks.cli.cells import as_json
from tapeworks.cli.console import PrintableConsole
from tapeworks.cli.tables import as_table
from tapeworks.printable import PrintableFormatter, one_line, printable

HOSTILE = "A\x1b[31mRED\x1b]0;owned\x07\x9b2J\x7f\u202eB\ud800\r"


def acts(text: str) -> bool:
    return any(c in text for c in "\x1b\x07\x9b\x7f\u202e\ud800\r")


def test_what_acts_is_shown_by_its_number():
    # Each such character has its number; tabs, new lines and all letters of all scripts stay.
    assert printable("a\x1b[0m\u202eb") == "a\\x1b[0m\\u202eb"
    assert printable("tab\tline\n日本 é ₿") == "tab\tline\n日本 é ₿"
    assert one_line("a\nERROR b") == "a\\nERROR b"
    assert not acts(printable(HOSTILE))


def test_log_message_cannot_act_or_forge_a_line():
    # A reason with escapes and a new line is one line; so is the text of an exception.
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    log = logging.getLogger("test.printable")
    log.addHandler(handler)
    log.propagate = False
    log.error("refused: %s", HOSTILE + "\nERROR forged")
    assert not acts(out.getvalue())
    assert out.getvalue().count("\n") == 1
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed")
    assert not acts(out.getvalue())
    log.removeHandler(handler)


def test_log_times_are_utc_as_all_others(monkeypatch):
    # Whatever zone the host is in.
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    record = logging.LogRecord("x", logging.INFO, "", 0, "said", (), None)
    record.created = 1_700_262_000.123
    line = PrintableFormatter("%(asctime)s %(message)s").format(record)
    monkeypatch.undo()
    time.tzset()
    assert line == "2023-11-17T23:00:00.123Z said"


def test_tables_and_json_cannot_act():
    # JSON keeps what it says: read back, it is the same text.
    assert not acts(as_table(["symbol"], [(HOSTILE,)]).text)
    told = as_json({"symbol": HOSTILE.replace("\ud800", "")})
    assert not acts(told)
    assert json.loads(told)["symbol"] == HOSTILE.replace("\ud800", "")


def test_screen_acts_by_itself_only():
    # Colours of ours are there, the venue's are text, in plain prints and in those with markup.
    out = io.StringIO()
    console = PrintableConsole(file=out, force_terminal=True, color_system="standard", width=200)
    console.print("[red]ours[/]", HOSTILE.replace("\ud800", ""), highlight=False)
    assert "\x1b[31mours\x1b[0m" in out.getvalue()
    assert not acts(out.getvalue().replace("\x1b[31mours\x1b[0m", ""))
