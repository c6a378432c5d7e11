"""The table of commands, and what happens when one fails.

A command's module is imported only when it is called: `tape --help` loads none of them. Wrong
use, and every error that Tapeworks raises on purpose, ends as one line on stderr and an exit code
of the list below; `--debug` (or `TAPEWORKS_DEBUG=1`) shows the traceback as well.
"""

import importlib
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import shell_complete

import tapeworks.errors as errors
from tapeworks import __version__
from tapeworks.cli.command import CONTEXT, Exit, complain, write_epilog
from tapeworks.cli.streams import (
    OUTPUT,
    close_output,
    discard_output,
    end_without_reader,
    is_of_output,
    open_streams,
)
from tapeworks.config import redact
from tapeworks.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED
from tapeworks.nearest import nearest
from tapeworks.printable import printable, show_all_characters

EPILOG = """\
Examples:
  tape demo
  tape record binance BTCUSDT ETHUSDT
  tape query "select venue, symbol, count(*) from trades group by all"

Exit codes:
  0  everything requested was done
  1  something failed, or a check found a fault
  2  wrong arguments or settings
  3  it ran, but not everything requested was recorded
  130  interrupted before there was anything to keep
"""

# Set by the shell when somebody presses Tab.
VARIABLE = "_TAPE_COMPLETE"
SAME_INTERRUPT_S = 1.0

START, LOOK, KEEP = "Start", "Look", "Check and keep"


@dataclass(frozen=True)
class Entry:
    """One command: where it is, what it does in one line, and under which heading."""

    module: str
    summary: str
    panel: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("demo", "Run the whole pipeline on simulated exchanges and check it.", START),
    "record": Entry("record", "Record symbols of a venue; no config file needed.", START),
    "up": Entry("up", "Run everything in tapeworks.toml, supervised.", START),
    "worker": Entry("worker", "Run one worker alone, in the foreground, for containers.", START),
    "flink": Entry("flink", "Run the processors as a job of Apache Flink.", START),
    "simulate": Entry("simulate", "Run a simulated venue, to try things out.", START),
    "down": Entry("down", "Stop everything that runs on a data folder.", START),
    "status": Entry("status", "Rates, lags, gaps, books and disk on one screen, live.", LOOK),
    "logs": Entry("logs", "Show the workers' logs.", LOOK),
    "sources": Entry("sources", "List sources and symbols: tables, rows, first and last.", LOOK),
    "query": Entry("query", "Run SQL over all history and live data.", LOOK),
    "sql": Entry("sql", "Open an SQL shell: completion, history, paging.", LOOK),
    "book": Entry("book", "Show the full order book, now or at any past instant.", LOOK),
    "replay": Entry("replay", "Play history back, merged by time, at any speed.", LOOK),
    "latency": Entry("latency", "Show how long records take to each stage, live and past.", LOOK),
    "gaps": Entry("gaps", "List gaps: what was lost, why, and their state.", LOOK),
    "alerts": Entry("alerts", "List alerts, follow them as they come, acknowledge one.", LOOK),
    "dead-letters": Entry(
        "dead_letters", "Show frames that could not be decoded: bytes and reason.", LOOK
    ),
    "verify": Entry("verify", "Verify checksums of tapes, states and lake.", KEEP),
    "repair": Entry("repair", "Move damaged data aside, and rebuild it.", KEEP),
    "lake": Entry("lake", "Check the Parquet lake, or rebuild its commits.", KEEP),
    "publish": Entry("publish", "Publish the lake to Apache Iceberg tables.", KEEP),
    "job": Entry("job", "Run a job on the data folder, built in or of your own.", KEEP),
    "import": Entry("import_frames", "Import captured frames from files.", KEEP),
    "export": Entry("export", "Write a table and range as Parquet, CSV or JSON lines.", KEEP),
    "doctor": Entry("doctor", "Check clock, disk, limits, ports and settings.", KEEP),
    "completion": Entry("completion", "Print what makes a shell complete `tape`.", KEEP),
    "config": Entry("config", "Check, show or print an example of the settings.", KEEP),
}


class Interrupts:
    """Makes Ctrl-C a KeyboardInterrupt; one that follows at once is the same one.

    A terminal and `timeout` may send it to a process and to its group. The second would hit what
    tidies up after the first.
    """

    def __init__(self) -> None:
        self._last = -SAME_INTERRUPT_S

    def __call__(self, number: int, frame: object) -> None:
        """Is the handler of the signal."""
        now = time.monotonic()
        if now - self._last >= SAME_INTERRUPT_S:
            self._last = now
            raise KeyboardInterrupt


class Commands(click.Group):
    """Loads a command when it is called."""

    is_question = False
    """Whether the command that was called only answers, and leaves nothing to be tidied up."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names in the order of the flow."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns what help needs to know of a command, without loading it."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else click.Command(cmd_name, help=entry.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Loads the command that is called.

        Raises:
            ConfigError: there is none of that name.
        """
        name, rest = args[0], args[1:]
        if name.startswith("-"):
            return super().resolve_command(ctx, args)
        if name not in COMMANDS:
            near = [one for one in COMMANDS if one.startswith(name)]
            near += nearest(name, COMMANDS)
            hint = f"did you mean `tape {near[0]}`?" if near else "`tape --help` lists all"
            raise errors.ConfigError(f"there is no command {name!r}: {hint}")
        module = importlib.import_module(f"tapeworks.cli.{COMMANDS[name].module}")
        command = module.app.build(name)
        if COMMANDS[name].panel == LOOK:
            end_without_reader()
            self.is_question = True
        # From here on there may be something to tidy up: Ctrl-C is an exception again.
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, Interrupts())
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands below their headings."""
        width = max(map(len, COMMANDS))
        for panel in (START, LOOK, KEEP):
            with formatter.section(panel):
                formatter.write_dl(
                    [
                        (name.ljust(width), entry.summary)
                        for name, entry in COMMANDS.items()
                        if entry.panel == panel
                    ]
                )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples and the exit codes."""
        write_epilog(self.epilog, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; shows the traceback of its error if asked for."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") and not isinstance(error, (Exit, BrokenPipeError)):
                traceback.print_exc()
            raise


def exit_code(error: errors.TapeworksError) -> int:
    """Returns the exit code that stands for `error`."""
    is_wrong_use = isinstance(error, (errors.ConfigError, errors.ArgumentError))
    return EXIT_CONFIG if is_wrong_use else EXIT_FAILED


def _show_version(ctx: click.Context, param: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        print(f"tapeworks {__version__}")
        ctx.exit()


OPTIONS: list[click.Parameter] = [
    click.Option(
        ["--debug"],
        is_flag=True,
        envvar="TAPEWORKS_DEBUG",
        show_envvar=True,
        help="Show tracebacks.",
    ),
    click.Option(
        ["--version", "-V"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show_version,
        help="Show the version.",
    ),
]

app = Commands(
    "tape",
    params=OPTIONS,
    callback=lambda debug: None,
    no_args_is_help=True,
    context_settings=dict(CONTEXT),
    help="Records the market's tape, verifies that it is complete, and makes it queryable.",
    epilog=EPILOG,
)


def main() -> None:
    """Runs `tape` and ends the process with the exit code of what happened."""
    open_streams()
    show_all_characters(sys.stdout, sys.stderr)
    try:
        code = _run()
        if (error := close_output()) is not None:
            told = f"cannot write to {OUTPUT}: {error.strerror or error}"
            code = _refuse("tape", told, code or EXIT_FAILED)
    except KeyboardInterrupt:
        # It came while what the command had left behind was put in words.
        code = EXIT_INTERRUPTED
    # The work is done: a Ctrl-C while the interpreter ends has nothing to say.
    if isinstance(signal.getsignal(signal.SIGINT), Interrupts):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if app.is_question and _is_flushed():
        # What was loaded need not be taken apart, which takes a tenth of the time.
        os._exit(code)
    sys.exit(code)


def _is_flushed() -> bool:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return False
    return True


def _run() -> int:
    try:
        if instruction := os.environ.get(VARIABLE):
            return shell_complete(app, {}, "tape", VARIABLE, instruction)
        # Not by its `main`, which has an ending of its own for Ctrl-C and for broken pipes.
        with app.make_context("tape", sys.argv[1:]) as context:
            app.invoke(context)
        return 0
    except Exit as ended:
        return ended.exit_code
    except errors.TapeworksError as error:
        return _refuse("tape", str(error), exit_code(error))
    except click.ClickException as error:
        return _wrong_use(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError as error:
        return _broken_pipe(error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        if error.filename == OUTPUT:
            place = f"cannot write to {OUTPUT}: "
        discard_output()
        told = f"{place}{error.strerror or error}; `tape --debug ...` shows where"
        return _refuse("tape", told, EXIT_FAILED)


def _broken_pipe(error: BrokenPipeError) -> int:
    """Returns the exit code of a command whose pipe broke."""
    discard_output()
    if is_of_output(error):
        # The reader of our output has seen enough (`tape query | head`): not an error.
        return 0
    place = f"{error.filename}: " if error.filename else ""
    return _refuse("tape", f"{place}{error.strerror}: what reads it is gone", EXIT_FAILED)


def _wrong_use(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    command = "tape" if context is None else str(context.command_path)
    told = error.format_message().rstrip(".")
    if not told.startswith("Usage"):
        told = " ".join(told.split())
    if context is not None and told == context.get_help().rstrip("."):
        print(told)
        return EXIT_CONFIG
    told = (told[:1].lower() + told[1:]).replace("Value error, ", "")
    return _refuse(command, f"{told}; see `{command} --help`", EXIT_CONFIG)


def _refuse(command: str, told: str, code: int) -> int:
    complain(redact(printable(f"{command}: {told}")), "red")
    return code
