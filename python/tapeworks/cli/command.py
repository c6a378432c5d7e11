"""What every command is made of: its function's signature, plain help, examples to copy.

A parameter of a command is a parameter of its function, annotated with `option()` or `argument()`:
the type checker sees what the command gets. Help is text, not boxes: no other library is loaded
for it, and it reads the same in a pipe.
"""

import contextlib
import enum
import importlib
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit as Exit

from tapeworks.cli.streams import discard_output, is_of_output

HELP_COLUMNS_MAX = 100
COMPLETION = "tapeworks.cli.completion"
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": HELP_COLUMNS_MAX}
SCALARS: dict[object, click.ParamType[Any]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
}


@dataclass(frozen=True)
class Described:
    """What a signature says of one parameter beside its type."""

    flags: tuple[str, ...]
    is_option: bool
    help: str
    metavar: str | None
    least: float | None = None
    variable: str | None = None
    shorthand: tuple[str, str] | None = None
    names: str | None = None


def option(
    *flags: str,
    help: str,  # noqa: A002
    metavar: str | None = None,
    least: float | None = None,
    variable: str | None = None,
    shorthand: tuple[str, str] | None = None,
    names: str | None = None,
) -> Described:
    """Describes an option; without `flags` it has the name of its parameter.

    `least` is the smallest number that is taken, `variable` the one of the environment that stands
    for the option, `shorthand` a flag and the value that it stands for,
    `names` what completes it: symbols, sources, exchanges, products or tables.
    """
    return Described(flags, True, help, metavar, least, variable, shorthand, names)


def argument(
    *,
    help: str,  # noqa: A002
    metavar: str | None = None,
    names: str | None = None,
) -> Described:
    """Describes a positional argument; `names` as for `option`."""
    return Described((), False, help, metavar, names=names)


class Choice(click.Choice[str]):
    """One of the values of an enumeration."""

    def __init__(self, members: type[enum.StrEnum]) -> None:
        super().__init__([member.value for member in members])
        self._members = members

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> enum.StrEnum:
        """Returns the member that `value` names."""
        return self._members(super().convert(value, param, ctx))


def parameters(function: Callable[..., None]) -> list[click.Parameter]:
    """Returns the parameters of a command, in the order of its function's signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    given = inspect.signature(function).parameters
    found: list[click.Parameter] = []
    for name, one in given.items():
        kind, described = typing.get_args(hints[name])
        assert isinstance(described, Described)
        found.append(_parameter(name, kind, described, one.default))
        if described.shorthand:
            flag, value = described.shorthand
            told = f"The same as {max(found[-1].opts, key=len)} {value}."
            # Both have one name, so that each converts what the other was given.
            kind = found[-1].type
            found.append(click.Option([flag, name], flag_value=value, type=kind, help=told))
    return found


def _parameter(name: str, kind: Any, described: Described, default: Any) -> click.Parameter:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        [kind] = [one for one in typing.get_args(kind) if one is not types.NoneType]
    is_many = typing.get_origin(kind) is list
    if is_many:
        [kind] = typing.get_args(kind)
    is_required = default is inspect.Parameter.empty
    shared: dict[str, Any] = {
        "help": described.help,
        "metavar": described.metavar,
        "envvar": described.variable,
        "required": is_required,
    }
    if described.names is not None:
        shared["shell_complete"] = _completion(described.names)
    if is_many:
        shared["callback"] = lambda ctx, param, value: (
            list(value) or ([] if is_required else default)
        )
    elif not is_required:
        shared["default"] = str(default) if isinstance(default, enum.StrEnum) else default
    if not described.is_option:
        return click.Argument([name], type=_type(kind, None), nargs=-1 if is_many else 1, **shared)
    flags = [*(described.flags or ("--" + name.replace("_", "-"),)), name]
    if kind is bool:
        return click.Option(flags, is_flag=True, show_envvar=True, **shared)
    return click.Option(
        flags,
        type=_type(kind, described.least),
        multiple=is_many,
        show_default=default not in (None, ""),
        show_envvar=True,
        **shared,
    )


def _completion(
    names: str,
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
        # What it reads is loaded when somebody presses Tab.
        found: list[str] = importlib.import_module(COMPLETION).complete(
            names, ctx.params.get("data"), begun
        )
        return found

    return complete


def _type(kind: Any, least: float | None) -> click.ParamType[Any]:
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return Choice(kind)
    if kind is Path:
        return click.Path(path_type=Path)
    if least is not None:
        return click.IntRange(min=int(least)) if kind is int else click.FloatRange(min=least)
    return SCALARS[kind]


def write_epilog(text: str | None, formatter: click.HelpFormatter) -> None:
    """Writes what stands below the options as it is: examples must not be wrapped."""
    if text:
        formatter.write_paragraph()
        formatter.write(text.rstrip() + "\n")


@contextlib.contextmanager
def ending_with(code: int) -> Iterator[None]:
    """Prints what the block prints, and ends the command with `code`.

    A verdict is one also where its reader has seen enough, as in `tape gaps --check | head -1`.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        if not is_of_output(error):
            raise
        discard_output()
    if code:
        raise Exit(code)


def complain(told: str, color: str) -> None:
    """Writes a line on standard error, in `color` where that is a terminal and nobody minds."""
    click.secho(told, err=True, fg=color, color=False if os.environ.get("NO_COLOR") else None)


class Command(click.Command):
    """One command, whose help ends with its examples, line by line."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        write_epilog(self.epilog, formatter)


class Application:
    """The commands of one module: one, or several below a common name."""

    def __init__(self, help: str | None = None) -> None:  # noqa: A002
        self._help = help
        self._commands: list[Command] = []

    def command(
        self, name: str | None = None, *, epilog: str = "", passes_on: bool = False
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Makes the decorated function a command; its docstring is the help.

        With `passes_on`, all that stands behind its first argument is for somebody else: options
        there are words like others.
        """

        def decorate(function: Callable[..., None]) -> Callable[..., None]:
            self._commands.append(
                Command(
                    name or function.__name__,
                    callback=function,
                    params=parameters(function),
                    help=inspect.getdoc(function),
                    epilog=epilog,
                    context_settings={**CONTEXT, "allow_interspersed_args": not passes_on},
                )
            )
            return function

        return decorate

    def build(self, name: str) -> click.Command:
        """Returns the command `name` of `tape`: a group where the module has help of its own."""
        if self._help is None:
            [command] = self._commands
            command.name = name
            return command
        commands: Sequence[click.Command] = self._commands
        return click.Group(
            name,
            commands=commands,
            help=self._help,
            no_args_is_help=True,
            context_settings=dict(CONTEXT),
        )
