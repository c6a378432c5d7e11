"""The prompt of `tape sql`: an editor with completion, colours and a history.

Completion knows where it stands: names of tables behind FROM and JOIN, columns of the tables that
the statement names, symbols and sources within quotes.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import completion_is_selected, has_completions
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from tapeworks.errors import TapeworksError
from tapeworks.lake import empty_rows
from tapeworks.views.lake import Lake
from tapeworks.views.query import BARS, table_of, tables_in

PROMPT, CONTINUED = "tape> ", "  ... "
HISTORY = "tapeworks/sql_history"
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
AFTER_TABLE_WORD = re.compile(r"\b(?:from|join|describe|desc|summarize)\s+\w*\Z", re.IGNORECASE)
IN_QUOTES = re.compile(r"\A(?:[^']|'[^']*')*'([^']*)\Z", re.DOTALL)
PLACE_COLUMNS = ("venue", "date")


class Prompt:
    """Reads one input after the other from a terminal."""

    def __init__(
        self,
        lake: Lake,
        commands: Mapping[str, str],
        formats: Sequence[str],
        is_whole: Callable[[str], bool],
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=CONTINUED,
            lexer=PygmentsLexer(SqlLexer),
            completer=LakeCompleter(lake, commands, formats),
            complete_while_typing=False,
            key_bindings=_keys(is_whole),
            history=open_history(),
        )

    def read(self) -> str:
        """Returns a statement or a command.

        Raises:
            EOFError: Ctrl-D on an empty line.
            KeyboardInterrupt: Ctrl-C, which gives up what was written.
        """
        return self._session.prompt()


def _keys(is_whole: Callable[[str], bool]) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("enter", filter=has_completions & completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    return keys


def open_history() -> History:
    """Returns the history that is kept for this user, or one of this session if none can be."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    with contextlib.suppress(OSError, RuntimeError):
        path = Path(state).expanduser() / HISTORY
        path.parent.mkdir(parents=True, exist_ok=True)
        # Statements may name what others need not know.
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        return FileHistory(path)
    return InMemoryHistory()


class LakeCompleter(Completer):
    """Completes what the lake holds, SQL's own words, and the commands of the shell."""

    def __init__(self, lake: Lake, commands: Mapping[str, str], formats: Sequence[str]) -> None:
        self._lake = lake
        self._commands = commands
        self._formats = formats

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yields what may stand at the cursor; nothing where the lake cannot be read."""
        with contextlib.suppress(TapeworksError):
            yield from self._completions(document.text, document.text_before_cursor)

    def _completions(self, text: str, before: str) -> Iterator[Completion]:
        if before.lstrip().startswith("."):
            yield from self._of_command(before.lstrip())
        elif quoted := IN_QUOTES.match(before):
            # As it is stored, whatever the case that was written.
            names = [*self._lake.symbols(), *self._lake.sources()]
            yield from _starting(names, quoted[1], "name")
        else:
            found = re.search(r"\w*\Z", before)
            word = found[0] if found else ""
            if AFTER_TABLE_WORD.search(before):
                yield from _starting(self._tables, word, "table")
                return
            yield from _starting(self._columns(text), word, "column")
            if before.endswith(f".{word}"):
                return
            yield from _starting(self._tables, word, "table")
            if word:
                written = str.upper if word.isupper() else str.lower
                yield from _starting(map(written, self._keywords), word, "keyword")
                yield from _starting(self._functions, word, "function")

    def _of_command(self, before: str) -> Iterator[Completion]:
        name, space, rest = before.partition(" ")
        if not space:
            for command, told in self._commands.items():
                if command.startswith(name):
                    yield Completion(command, -len(name), display_meta=told)
        elif name == ".schema":
            yield from _starting(self._tables, rest, "table")
        elif name == ".format":
            yield from _starting(self._formats, rest, "format")
        elif name in (".timing", ".pager"):
            yield from _starting(("on", "off"), rest, "")

    def _columns(self, text: str) -> list[str]:
        """Returns the columns of the tables that a statement names; of all, if it names none."""
        found: dict[str, None] = {}
        for name in tables_in(text) or self._all_tables:
            found.update(dict.fromkeys(empty_rows(table_of(name)).schema.names))
            if name in BARS:
                found["partial"] = None
        return sorted({*found, *PLACE_COLUMNS})

    @property
    def _all_tables(self) -> list[str]:
        return [name for name in self._tables if not name.startswith("bars_")]

    @cached_property
    def _tables(self) -> list[str]:
        return [str(row["name"]) for row in self._lake.sql("show tables").to_pylist()]

    @cached_property
    def _keywords(self) -> list[str]:
        sql = "select keyword_name as name from duckdb_keywords() order by 1"
        return [str(row["name"]) for row in self._lake.sql(sql).to_pylist()]

    @cached_property
    def _functions(self) -> list[str]:
        sql = "select distinct function_name as name from duckdb_functions() order by 1"
        names = [str(row["name"]) for row in self._lake.sql(sql).to_pylist()]
        return [name for name in names if WORD.fullmatch(name)]


def _starting(names: Iterable[str], word: str, kind: str) -> Iterator[Completion]:
    for name in names:
        if name.lower().startswith(word.lower()):
            yield Completion(name, -len(word), display_meta=kind)
