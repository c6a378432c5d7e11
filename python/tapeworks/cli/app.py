"""The table of commands, and what happens when one fails.

A command's module is imported only when it is called: `tape --help` loads none of them. Every
error that Tapeworks raises on purpose ends as one line on stderr and an exit code of `EXIT_CODES`;
`--debug` (or `TAPEWORKS_DEBUG=1`) shows the traceback as well.
"""

import importlib
import os
import traceback
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import tapeworks.errors as errors

EPILOG = """\
Try: tape demo | tape record binance BTCUSDT ETHUSDT | tape query "select count(*) from trades"

Exit codes: 0 done; 1 a check did not hold (verify, demo, doctor); 2 wrong arguments or settings;
3 a tape or a sink failed; 4 the venue refused; 5 the question cannot be answered; 130 interrupted.
"""

EXIT_INTERRUPTED = 130
EXIT_CODES: list[tuple[type[errors.TapeworksError], int]] = [
    (errors.ConfigError, 2),
    (errors.TapeError, 3),
    (errors.SinkError, 3),
    (errors.FeedError, 4),
    (errors.QueryError, 5),
    (errors.TapeworksError, 1),
]

START, LOOK, KEEP = "Start", "Look", "Check and keep"


@dataclass(frozen=True)
class Entry:
    """One command: where it is, what it does in one line, and under which heading."""

    module: str
    summary: str
    panel: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("demo", "Run the whole pipeline on simulated exchanges and prove it.", START),
    "record": Entry("record", "Record symbols of a venue; no config file needed.", START),
    "up": Entry("up", "Run everything in tapeworks.toml, supervised.", START),
    "status": Entry("status", "Rates, lags, gaps, books and disk on one screen, live.", LOOK),
    "query": Entry("query", "Run SQL over all history and what just arrived.", LOOK),
    "book": Entry("book", "Show the full order book, now or at any past instant.", LOOK),
    "replay": Entry("replay", "Play history back, merged by time, at any speed.", LOOK),
    "gaps": Entry("gaps", "List what was lost, why, and what became of it.", LOOK),
    "verify": Entry("verify", "Prove that the tapes are whole and unchanged.", KEEP),
    "import": Entry("import_frames", "Bring in captured frames from files.", KEEP),
    "export": Entry("export", "Write a table and range as Parquet, CSV or JSON lines.", KEEP),
    "doctor": Entry("doctor", "Check clock, disk, limits, ports and settings.", KEEP),
    "config": Entry("config", "Check, show or print an example of the settings.", KEEP),
}


class Commands(TyperGroup):
    """Loads a command when it is called, and turns errors into one line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names in the order of the flow."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns what help needs to know of a command, without loading it."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        return TyperCommand(cmd_name, help=entry.summary, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Loads the command that is called."""
        name, stub, rest = super().resolve_command(ctx, args)
        if stub is None or name is None:
            return name, stub, rest
        module = importlib.import_module(f"tapeworks.cli.{COMMANDS[name].module}")
        command = typer.main.get_command(module.app)
        command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; an error that was raised on purpose becomes one line."""
        try:
            return super().invoke(ctx)
        except errors.TapeworksError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            typer.secho(f"tape: {error}", err=True, fg=typer.colors.RED)
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output has seen enough (`tape replay | head`): not an error. What
            # is still buffered cannot be written, and must not complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(0) from None


def exit_code(error: errors.TapeworksError) -> int:
    """Returns the exit code that stands for `error`."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TAPEWORKS_DEBUG", help="Show tracebacks.")
    ] = False,
) -> None:
    """Records the market's tape, proves it complete, and makes it queryable."""


def main() -> None:
    """Runs `tape`."""
    app()
