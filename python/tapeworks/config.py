"""Settings: TOML and environment in, frozen dataclasses out.

Three steps, never mixed. `parse` reads what was written and opens nothing but the file; `resolve`
turns a section into the dataclass that its owner gives, and checks it; building is left to
`pipeline.py`. Every member owns its `...Config` in its own file: this file knows none of them.
Environment variables override the file: `TAPEWORKS_FEEDS__BINANCE_SPOT__SYMBOLS=BTCUSDT,ETHUSDT`
is `symbols` of `[feeds.binance-spot]`. Secrets (fields with `metadata={"secret": True}`) come from
the environment only.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from tapeworks.errors import ConfigError

ENVIRONMENT_PREFIX = "TAPEWORKS_"
FILE_NAME = "tapeworks.toml"
# Variables of the command line itself: they are no settings of the file.
RESERVED = frozenset({"TAPEWORKS_CONFIG", "TAPEWORKS_DEBUG"})

T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """One setting as it was written, and where."""

    raw: object
    origin: str
    from_environment: bool = False


@dataclass(frozen=True)
class Section:
    """A table of settings as it was written: nothing in it is checked yet."""

    name: str = ""
    entries: Mapping[str, "Value | Section"] = field(default_factory=dict)

    def table(self, key: str) -> "Section":
        """Returns the table `key`, empty if it was not written."""
        entry = self.entries.get(key, Section(_join(self.name, key)))
        if isinstance(entry, Value):
            raise ConfigError(
                f"{entry.origin}: wanted a table [{_join(self.name, key)}], found {entry.raw!r}"
            )
        return entry


def parse(path: Path | None, environment: Mapping[str, str]) -> Section:
    """Reads `path` (none: no file) and what `environment` overrides.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    written: dict[str, Any] = {}
    if path is not None:
        try:
            written = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"wanted a config file at {path}, found none: "
                f"`tape config example > {path}` writes one"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not TOML: {error}") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    tree = _tree(written, "", str(path))
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in RESERVED:
            keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _override(tree, keys, Value(environment[name], name, from_environment=True))
    return _section(tree, "")


def resolve(section: Section, target: type[T], *, ignore: frozenset[str] = frozenset()) -> T:
    """Turns `section` into a `target`, whose defaults stand for what was not written.

    Raises:
        ConfigError: a key is not known (the nearest known one is named), or a value does not fit.
    """
    hints = typing.get_type_hints(target)
    fields = {f.name: f for f in dataclasses.fields(target) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, entry in section.entries.items():
        if key in ignore:
            continue
        if key not in fields:
            raise unknown(section, key, fields.keys() | ignore)
        place = _join(section.name, key)
        secret = bool(fields[key].metadata.get("secret"))
        if secret and isinstance(entry, Value) and not entry.from_environment:
            raise ConfigError(
                f"{entry.origin}: {place} is a secret: remove it from the file and set "
                f"{variable(place)} in the environment"
            )
        values[key] = _convert(entry, hints[key], place)
    try:
        return target(**values)
    except (ConfigError, ValueError, TypeError) as error:
        where = f"[{section.name}]" if section.name else "the top level"
        raise ConfigError(f"{_origin(section)}: {where}: {error}") from None


def unknown(section: Section, key: str, known: "typing.AbstractSet[str]") -> ConfigError:
    """Makes the error for a key that nobody knows; it names the nearest known one."""
    entry = section.entries[key]
    origin = entry.origin if isinstance(entry, Value) else _origin(entry)
    place = _join(section.name, key)
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    if near:
        advice = f"did you mean {_join(section.name, near[0])}?"
    else:
        advice = f"known are {', '.join(sorted(known))}"
    return ConfigError(f"{origin}: {place} is not a setting; {advice}")


def variable(place: str) -> str:
    """Returns the environment variable that overrides the setting at `place`."""
    return ENVIRONMENT_PREFIX + place.replace(".", "__").replace("-", "_").upper()


def write_toml(config: object) -> str:
    """Writes a config dataclass as TOML that parses to it again. Secrets are left out."""
    lines: list[str] = []
    _write_table(lines, "", config)
    return "\n".join(lines).strip() + "\n"


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _origin(section: Section) -> str:
    for entry in section.entries.values():
        found = entry.origin if isinstance(entry, Value) else _origin(entry)
        if found:
            return found
    return ""


def _tree(written: Mapping[str, Any], name: str, origin: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in written.items():
        if isinstance(value, dict):
            tree[key] = _tree(value, _join(name, key), origin)
        else:
            tree[key] = Value(value, origin)
    return tree


def _override(tree: dict[str, Any], keys: list[str], value: Value) -> None:
    *tables, last = keys
    for key in tables:
        tree = tree.setdefault(_existing(tree, key), {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{value.origin}: {key} is not a table of settings")
    tree[_existing(tree, last)] = value


def _existing(tree: Mapping[str, Any], key: str) -> str:
    # A variable cannot hold a hyphen: `binance_spot` means the table `binance-spot`.
    return next((name for name in tree if name.replace("-", "_").lower() == key), key)


def _section(tree: Mapping[str, Any], name: str) -> Section:
    entries: dict[str, Value | Section] = {}
    for key, value in tree.items():
        entries[key] = value if isinstance(value, Value) else _section(value, _join(name, key))
    return Section(name, entries)


def _convert(entry: Value | Section, hint: Any, place: str) -> Any:
    hint = _without_none(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(entry, Section):
            return resolve(entry, typing.cast(type, hint))
        raise ConfigError(f"{entry.origin}: wanted a table [{place}], found {entry.raw!r}")
    if get_origin(hint) in (Mapping, dict):
        if isinstance(entry, Section):
            inner = get_args(hint)[1]
            return {
                key: _convert(value, inner, _join(place, key))
                for key, value in entry.entries.items()
            }
        raise ConfigError(f"{entry.origin}: wanted a table [{place}], found {entry.raw!r}")
    if isinstance(entry, Section):
        raise ConfigError(f"{_origin(entry)}: wanted {_describe(hint)} for {place}, found a table")
    raw = _from_text(entry.raw, hint) if entry.from_environment else entry.raw
    return _scalar(raw, hint, entry, place)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        inner = [arg for arg in get_args(hint) if arg is not types.NoneType]
        if len(inner) == 1:
            return inner[0]
    return hint


def _from_text(raw: object, hint: Any) -> object:
    text = str(raw)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return [_from_text(part.strip(), inner) for part in text.split(",") if part.strip()]
    if hint is bool and text.lower() in ("true", "false", "1", "0", "yes", "no"):
        return text.lower() in ("true", "1", "yes")
    if hint in (int, float):
        try:
            return hint(text.replace("_", ""))
        except ValueError:
            return text
    return text


def _scalar(raw: object, hint: Any, entry: Value, place: str) -> Any:
    if get_origin(hint) is tuple and isinstance(raw, list):
        inner = get_args(hint)[0]
        return tuple(_scalar(part, inner, entry, place) for part in raw)
    if get_origin(hint) is Literal and raw in get_args(hint):
        return raw
    if hint is Path and isinstance(raw, str):
        return Path(raw)
    if hint is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if hint is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if hint in (str, bool) and isinstance(raw, hint):
        return raw
    raise ConfigError(f"{entry.origin}: wanted {_describe(hint)} for {place}, found {raw!r}")


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {_describe(get_args(hint)[0])}"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "a path" if hint is Path else str(hint))


def _write_table(lines: list[str], name: str, config: object) -> None:
    tables: list[tuple[str, object]] = []
    for key, value, secret in _items(config):
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            tables.append((_join(name, key), value))
        elif value is not None and not secret:
            lines.append(f"{key} = {_toml(value)}")
    for place, value in tables:
        lines += ["", f"[{place}]"]
        _write_table(lines, place, value)


def _items(config: object) -> list[tuple[str, object, bool]]:
    if isinstance(config, Mapping):
        return [(str(key), value, False) for key, value in config.items()]
    return [
        (f.name, getattr(config, f.name), bool(f.metadata.get("secret")))
        for f in dataclasses.fields(config)  # type: ignore[arg-type]
        if f.init
    ]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
