"""`tape sql`: a shell for SQL over the lake and what is on the tape behind it.

At a terminal it edits, completes, keeps a history and pages (`sql_prompt.py`); from a pipe or a
file it reads statements, and ends at the first that fails. Each statement is answered as of the
instant at which it is asked, so a shell that stays open sees what is recorded meanwhile.
"""

import contextlib
import importlib
import io
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Protocol

import click
import duckdb
import pyarrow as pa

from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, complain, option
from tapeworks.cli.formats import Format
from tapeworks.cli.options import DataOption
from tapeworks.cli.output import note, screen_size, write_result, write_rows
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError, QueryError, TapeworksError
from tapeworks.printable import printable
from tapeworks.views.lake import Lake

# Loaded at a terminal alone: a script needs no editor.
PROMPT = "tapeworks.cli.sql_prompt"
QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$", re.DOTALL)
OPEN = re.compile(r"['\"]|/\*|\$\$")
LEAVES = ("q", "quit", "exit", ".q", ".quit", ".exit")
FORMATS = [form.value for form in Format if form is not Format.PARQUET]

COMMANDS = {
    ".help": "this list",
    ".tables": "the tables of the lake",
    ".schema": "TABLE: its columns, with type, unit and clock",
    ".sources": "sources and symbols: rows, first and last",
    ".symbols": "all symbols",
    ".gaps": "the verdict on completeness, and the last gaps; `tape gaps` has all",
    ".format": f"how answers are shown: {', '.join(FORMATS)}",
    ".timing": "on or off: how long an answer took",
    ".pager": "on or off: long answers through a pager ($PAGER)",
    ".read": "FILE: run the statements of a file",
    ".quit": "leave, as Ctrl-D does",
}
HELP = """\
A statement ends with `;`, and may have several lines. Tab completes tables, columns, symbols and
functions; the arrows and Ctrl-R bring back earlier statements. Ctrl-C ends a running query or
clears the line, Ctrl-D leaves.
"""
EXAMPLES = """\
Examples:
  tape sql
  tape sql --data /mnt/fast/data
  echo "select count(*) from trades;" | tape sql --format csv

At the prompt:
  select venue, symbol, count(*) from trades group by all;
  .schema trades
  .help
"""

app = Application()


class Reader(Protocol):
    """What gives the shell one input after the other."""

    def read(self) -> str:
        """Returns a statement or a command.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: it was given up.
        """


@app.command(epilog=EXAMPLES)
def sql(
    data: DataOption = None,
    form: Annotated[Format, option("--format", "-f", help="Output format.")] = Format.TABLE,
    unsafe_external_access: Annotated[
        bool,
        option(
            "--unsafe-external-access",
            help="Let SQL read and write any file, attach databases and load extensions.",
        ),
    ] = False,
) -> None:
    """Ask SQL interactively: completion of tables, columns and symbols, history, paging, timing.

    Where input is no terminal its statements are run, up to the first that fails.
    """
    if form is Format.PARQUET:
        raise ConfigError(f"expected a format of {', '.join(FORMATS)}, got {form}")
    lake = open_lake(data, external_access=unsafe_external_access)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        Shell(lake, form, is_interactive=False).run(inputs(sys.stdin))
        return
    shell = Shell(lake, form, is_interactive=True)
    reader: Reader = importlib.import_module(PROMPT).Prompt(lake, COMMANDS, FORMATS, ends_input)
    print("Statements end with `;`, Tab completes, .help lists commands, Ctrl-D leaves.")
    shell.converse(reader)


def ends_input(text: str) -> bool:
    """Whether `text` is whole: a command, a way to leave, or SQL with its `;` outside of quotes."""
    text = text.strip()
    if not text or text.startswith(".") or text.lower() in LEAVES:
        return True
    bare = QUOTED.sub(" ", text)
    return bare.rstrip().endswith(";") and not OPEN.search(bare)


def inputs(lines: Iterable[str]) -> Iterator[str]:
    """Yields commands and statements of a script; its last statement needs no `;`."""
    read = ""
    for line in lines:
        read += line
        if not read.strip():
            read = ""
        elif ends_input(read):
            yield read
            read = ""
    if read.strip():
        yield read


class Shell:
    """Runs statements and commands, and shows their answers."""

    def __init__(self, lake: Lake, form: Format, *, is_interactive: bool) -> None:
        self._lake = lake
        self._form = form
        self._is_interactive = is_interactive
        self._times = self._pages = is_interactive

    def converse(self, reader: Reader) -> None:
        """Runs what a person enters until they leave; errors and Ctrl-C end one input alone."""
        goes_on = True
        while goes_on:
            # One that comes while the one before it is told clears the line, as at the prompt.
            with contextlib.suppress(KeyboardInterrupt):
                goes_on = self._turn(reader)

    def _turn(self, reader: Reader) -> bool:
        # The editor writes past what is buffered.
        sys.stdout.flush()
        try:
            text = reader.read()
        except EOFError:
            return False
        if text.strip().rstrip(";").lower() in LEAVES:
            return False
        try:
            self.enter(text)
        except KeyboardInterrupt:
            complain("interrupted", "yellow")
        except TapeworksError as error:
            complain(printable(str(error)), "red")
        return True

    def run(self, texts: Iterable[str]) -> None:
        """Runs a script to its end or its first error.

        Raises:
            TapeworksError: what was wrong with a statement.
        """
        for text in texts:
            if text.strip().rstrip(";").lower() in LEAVES:
                return
            self.enter(text)

    def enter(self, text: str) -> None:
        """Runs a command, or each statement of `text`.

        Raises:
            TapeworksError: what was wrong with it.
        """
        if text.lstrip().startswith("."):
            self._command(text.split())
            return
        try:
            statements = [one.query for one in duckdb.extract_statements(text)]
        except duckdb.Error as error:
            raise QueryError(str(error)) from None
        for statement in statements:
            self._ask(statement)

    def _ask(self, statement: str) -> None:
        began = time.monotonic()
        found = self._lake.sql(statement)
        answer = found.to_arrow()
        took_s = time.monotonic() - began
        if answer.num_columns:
            self._show(answer)
            # What is said of it comes behind it.
            sys.stdout.flush()
        if self._times:
            count = f"{answer.num_rows:,} row{'' if answer.num_rows == 1 else 's'}"
            complain(f"{count} in {took_s:.3f} s", "bright_black")
        for told in found.notices():
            note(told)

    def _show(self, answer: pa.Table) -> None:
        screen = screen_size()
        if screen is None or not self._is_interactive:
            write_result(answer, self._form, None)
            return
        text = io.StringIO()
        cut = write_rows(answer, self._form, text, screen)
        shown = printable(text.getvalue())
        if self._pages and shown.count("\n") >= screen.lines:
            click.echo_via_pager(shown.rstrip("\n"))
        else:
            sys.stdout.write(shown)
        if cut:
            note(f"{cut}; .format csv has all")

    def _command(self, words: list[str]) -> None:
        name, *rest = words
        if name == ".help":
            print(HELP)
            for command, told in COMMANDS.items():
                print(f"  {command:<9} {told}")
        elif name == ".tables":
            self._show(self._lake.sql("show tables").to_arrow())
        elif name == ".schema" and len(rest) == 1:
            self._show(self._lake.sql(f"describe {rest[0]}").to_arrow())
        elif name == ".sources":
            self._show(self._lake.contents().to_arrow())
        elif name == ".symbols":
            print(" ".join(self._lake.symbols()))
        elif name == ".gaps":
            for line in self._lake.coverage().summary():
                print(printable(line))
        elif name == ".format" and rest and rest[0] in FORMATS:
            self._form = Format(rest[0])
        elif name == ".timing" and rest in (["on"], ["off"]):
            self._times = rest == ["on"]
        elif name == ".pager" and rest in (["on"], ["off"]):
            self._pages = rest == ["on"]
        elif name == ".read" and len(rest) == 1:
            self._read(Path(rest[0]))
        elif name in COMMANDS:
            raise ConfigError(f"expected `{name}` with {COMMANDS[name]}, got {as_json(rest)}")
        else:
            raise ConfigError(f"there is no command {name!r}: .help lists all")

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from None
        self.run(inputs(lines))
