"""The pages of the reference that are made of the code, so that they cannot be out of date."""

import dataclasses
import functools
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tapeworks
from tapeworks import errors
from tapeworks.cli.app import COMMANDS, EPILOG
from tapeworks.config import variable
from tapeworks.flink_config import FlinkConfig
from tapeworks.processors.alerts import LatencyConfig
from tapeworks.registry import MEMBERS, load_settings
from tapeworks.settings import Config, MetricSetsConfig, ProcessorsConfig, SupervisorConfig
from tapeworks.tape import TapeConfig

EXAMPLE = Path(tapeworks.__file__).with_name("tapeworks.example.toml")
TABLES: dict[str, type] = {
    "": Config,
    "tape": TapeConfig,
    "processors": ProcessorsConfig,
    "metrics": MetricSetsConfig,
    "latency": LatencyConfig,
    "supervisor": SupervisorConfig,
    "flink": FlinkConfig,
}
TABLE = re.compile(r"^(?:# )?\[([\w.-]+)\]$", re.MULTILINE)


def sections(text: str) -> dict[str, type]:
    """Returns the tables of the example that have settings of their own, in its order: those of
    all pipelines, and those of members of the registry."""
    found = {"": TABLES[""]}
    for name in TABLE.findall(text):
        kind, _, member = name.partition(".")
        known = MEMBERS.get(kind.removesuffix("s"), {})
        # Of a feed, the name is that of a source: `alpaca-iex` is one of `alpaca`.
        named = next((one for one in (member, member.partition("-")[0]) if one in known), None)
        if name in TABLES:
            found[name] = TABLES[name]
        elif kind != name and named is not None:
            found[name] = load_settings(kind.removesuffix("s"), named)
    return found


SECTIONS = sections(EXAMPLE.read_text(encoding="utf-8"))
SUBCOMMAND = re.compile(r"^  ([a-z][a-z-]*)  ", re.MULTILINE)


def cli() -> str:
    """Returns the page of all commands, each as its own help."""
    names = list(COMMANDS)
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(names, pool.map(_help, names), strict=True))
        for name in names:
            _, _, below = helps[name].partition("\nCommands:\n")
            subs = [f"{name} {sub}" for sub in SUBCOMMAND.findall(below)]
            helps |= zip(subs, pool.map(_help, subs), strict=True)
    parts = [
        "# Command line\n\n`tape COMMAND --help` shows the same. Every command reads the data "
        "folder that `--data` names, or `data` of the settings, or `./data`.\n"
    ]
    for name in sorted(helps, key=lambda name: (names.index(name.split()[0]), name)):
        level = "##" if " " not in name else "###"
        parts.append(f"\n{level} tape {name}\n\n```text\n{helps[name].strip()}\n```\n")
    return "".join(parts)


def _help(command: str) -> str:
    words = [sys.executable, "-c", "from tapeworks.cli import main; main()", *command.split()]
    shown = subprocess.run(
        [*words, "--help"],
        env=os.environ | {"COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def config() -> str:
    """Returns the page of all settings: type, default and meaning."""
    parts = [
        "# Settings\n\n`tape config example > tapeworks.toml` writes all of them with their "
        "defaults, `tape config check` checks a file without opening anything. A relative path "
        "is relative to the folder of the file. An environment variable overrides each setting: "
        "`TAPEWORKS_` and its place in capitals, with `__` for each dot and `_` for each hyphen. "
        "Secrets are taken from the environment only.\n"
    ]
    written = _written(EXAMPLE.read_text(encoding="utf-8"))
    for section, target in SECTIONS.items():
        title = f"[{section}]" if section else "Top level"
        parts.append(f"\n## {title}\n\n")
        if about := written[section].get(""):
            parts.append(f"{about}\n\n")
        parts.append("| setting | type | default | meaning |\n|---|---|---|---|\n")
        parts += _rows(section, target, written[section])
    optional = "\n\n".join(_optional_tables(EXAMPLE.read_text(encoding="utf-8")))
    parts.append(f"\n## Tables that you may add\n\n```toml\n{optional}\n```\n")
    return "".join(parts)


def _optional_tables(text: str) -> list[str]:
    """Returns the paragraphs of the example that show a table that is commented out."""
    paragraphs = [one.strip() for one in text.split("\n\n")]
    shown = {f"# [{section}]" for section in SECTIONS}
    # A table may be a setting of another.
    shown |= {
        f"# [{section}.{one.name}]"
        for section, target in SECTIONS.items()
        for one in dataclasses.fields(target)
    }
    heads = [re.findall(r"^# \[.*$", one, re.MULTILINE) for one in paragraphs]
    return [
        one
        for one, found in zip(paragraphs, heads, strict=True)
        if found and shown.isdisjoint(found)
    ]


def _rows(section: str, target: type, written: dict[str, str]) -> Iterator[str]:
    for name in _secrets(target):
        place = f"{section}.{name}"
        yield f"| `{name}` | secret | none | from the environment only: `{variable(place)}` |\n"
    hints = typing.get_type_hints(target)
    for name, told in written.items():
        if name:
            default, meaning = told.split("\0")
            yield f"| `{name}` | {_type_name(hints.get(name, str))} | `{default}` | {meaning} |\n"


def _secrets(target: type) -> list[str]:
    """Returns the settings that never stand in the file."""
    return [one.name for one in dataclasses.fields(target) if one.metadata.get("secret")]


def _type_name(hint: object) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{value!r}`".replace("'", '"') for value in typing.get_args(hint))
    if typing.get_origin(hint) is typing.ClassVar:
        [hint] = typing.get_args(hint)
    names = {"str": "text", "Path": "path", "int": "integer", "float": "number", "bool": "boolean"}
    if typing.get_origin(hint) is tuple:
        return f"list of {names[typing.get_args(hint)[0].__name__]}"
    if typing.get_origin(hint) is Mapping:
        return f"table of {names[typing.get_args(hint)[1].__name__]}"
    name = getattr(hint, "__name__", str(hint))
    return names.get(name, name)


def _written(text: str) -> dict[str, dict[str, str]]:
    """Returns by section and setting the default and what the comment above it says."""
    found: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    section, comment, before = "", [], ""
    for line in _with_optional(text):
        inner = re.fullmatch(r"# \[([\w.-]+)\.(\w+)\]", line)
        if inner and inner[1] in SECTIONS:
            found[inner[1]][inner[2]] = "{}\0" + _prose(comment)
            comment = []
        elif line.startswith("#"):
            comment.append(line.lstrip("# "))
        elif opened := re.fullmatch(r"\[(.+)\]", line):
            section = opened[1]
            found[section][""] = _prose(comment)
            comment, before = [], ""
        elif "=" in line:
            key, _, value = line.partition(" = ")
            # One comment may stand above several settings.
            before, comment = _prose(comment) or before, []
            found[section][key] = f"{value}\0{before}"
        elif not line.strip():
            comment = []
    return found


def _with_optional(text: str) -> Iterator[str]:
    """Yields the lines of the example, with the tables that are commented out there in force."""
    inside = False
    for line in text.splitlines():
        opened = re.fullmatch(r"# (\[(.+)\])", line)
        is_known = opened is not None and opened[2] in SECTIONS
        inside = bool(line) and (inside or is_known)
        is_setting = inside and re.match(r"# \w+ = ", line)
        yield line.removeprefix("# ") if is_setting or is_known else line


def _prose(lines: list[str]) -> str:
    return " ".join(lines).replace("|", "\\|")


def python() -> str:
    """Returns the page of all public names and of what they return."""
    parts = [
        "# Python\n\n`import tapeworks as tw`; these are its public names, and the types of what "
        "they return. The same text is in `help(tw.Lake)`.\n"
    ]
    for name in ("open", *sorted(set(tapeworks.__all__) - {"open", "__version__"})):
        # Exceptions have a page of their own.
        if not hasattr(errors, name):
            parts.append(f"\n::: {getattr(tapeworks, name).__module__}.{name}\n")
    for place in (
        "tapeworks.views.coverage.Coverage",
        "tapeworks.views.books.BookAt",
        "tapeworks._core.Records",
    ):
        if place.rpartition(".")[2] not in tapeworks.__all__:
            parts.append(f"\n::: {place}\n")
    return "".join(parts)


def errors_page() -> str:
    """Returns the page of exceptions and exit codes."""
    _, _, tree = (errors.__doc__ or "").partition("\n\n")
    tree, _, rest = tree.partition("\n\nThe right column")
    _, _, codes = EPILOG.partition("Exit codes:\n")
    indented = "\n".join(line.removeprefix("    ") for line in tree.splitlines())
    return (
        "# Errors and exit codes\n\n## Exit codes of `tape`\n\n```text\n"
        f"{codes.rstrip()}\n```\n\nA command that fails prints one line on standard error: what "
        "was expected, what it got, and what to do. `tape --debug COMMAND` shows the traceback "
        "as well. Commands that add to the list say so in their [help](cli.md).\n\n"
        f"## Exceptions\n\n```text\n{indented}\n```\n\nThe right column{rest}\n"
        "\n::: tapeworks.errors\n    options:\n      show_root_heading: false\n"
        "      show_root_toc_entry: false\n      heading_level: 3\n"
        "      show_bases: true\n      show_docstring_description: true\n"
    )


PAGES: dict[str, Callable[[], str]] = {
    "cli": functools.cache(cli),
    "config": functools.cache(config),
    "python": functools.cache(python),
    "errors": functools.cache(errors_page),
}
"""The name of each page of the folder `reference`, and what makes it."""
