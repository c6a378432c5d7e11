"""Settings: TOML and environment in, frozen dataclasses out.

Three steps, never mixed. `parse` reads what was written and opens nothing but the file; `resolve`
turns a section into the dataclass that its owner gives, and checks it; building is left to
`pipeline.py`. Every member owns its `...Config` in its own file: this file knows none of them.
Environment variables override the file: `TAPEWORKS_FEEDS__BINANCE_SPOT__SYMBOLS=BTCUSDT,ETHUSDT`
is `symbols` of `[feeds.binance-spot]`. Secrets (fields with `metadata={"secret": True}`, and URLs
with a password) come from the environment only, and are never printed. A relative path in the file
is relative to the folder of the file.
"""

import dataclasses
import importlib
import json
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from tapeworks.errors import ConfigError
from tapeworks.nearest import nearest

ENVIRONMENT_PREFIX = "TAPEWORKS_"
FILE_NAME = "tapeworks.toml"
# Loaded when there is such a file.
TOML = "tomllib"
# Variables of the command line itself: they are no settings of the file.
RESERVED = frozenset({"TAPEWORKS_CONFIG", "TAPEWORKS_DEBUG"})
# Kubernetes tells every container of a namespace the addresses of its services: of one called
# `tapeworks` or `tapeworks-...`, in variables that look like settings.
SERVICE_VARIABLE = re.compile(
    r"TAPEWORKS_(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*"
    r"|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# What a URL may hold that is nobody's business: a user with a password, and keys in its query.
CREDENTIALS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s\"']*@")
QUERY_KEYS = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|passw|signature|auth)[\w.-]*=)[^&\s\"'#]+", re.IGNORECASE
)
PASSWORD = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s]*:[^/\s]*@")
# Settings of client libraries by their names: those that hold a secret, and those that are named
# after one and only say where it is, which class finds it, or whether there is one.
SECRET_NAME = re.compile(
    r"secret|passw|passphrase|(access|account|private|api|shared|sas|keystore)[-._]?key"
    r"|ssl[._]key\b|token|credential|(jaas|oauthbearer)[.]config$",
    re.IGNORECASE,
)
NO_SECRET = re.compile(
    r"[._-](enabled?|provider|providers|class|url|file|path|location|dir|client[._-]id)$"
)
FROM_ENVIRONMENT = "env:"

T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """One setting as it was written, and where."""

    raw: object
    origin: str
    from_environment: bool = False
    is_text: bool = False
    """Whether it is text that stands for a value, as on the command line."""
    is_secret: bool = False
    folder: Path | None = None
    """The folder of the file that it stands in, if it is of one."""


@dataclass(frozen=True)
class Section:
    """A table of settings as it was written: nothing in it is checked yet."""

    name: str = ""
    entries: Mapping[str, "Value | Section"] = field(default_factory=dict)
    folder: Path | None = None
    """Of the whole file: the folder that it lies in."""

    def table(self, key: str) -> "Section":
        """Returns the table `key`, empty if it was not written."""
        entry = self.entries.get(key, Section(_join(self.name, key)))
        if isinstance(entry, Value):
            raise _no_table(entry, _join(self.name, key))
        return entry


def parse(path: Path | None, environment: Mapping[str, str]) -> Section:
    """Reads `path` (none: no file) and what `environment` overrides.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    written: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(
                f"expected a config file at {path}, got none: "
                f"`tape config example > {path}` writes one"
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not TOML: {error}") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        toml = importlib.import_module(TOML)
        try:
            written = toml.loads(text)
        except toml.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not TOML: {error}") from None
    folder = None if path is None else path.parent
    tree = _tree(written, "", str(path), folder)
    for name in sorted(environment):
        # An empty variable is what Compose and Kubernetes make of one that is not set.
        if not name.startswith(ENVIRONMENT_PREFIX) or name in RESERVED or not environment[name]:
            continue
        if SERVICE_VARIABLE.fullmatch(name) is None:
            keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _override(tree, keys, Value(environment[name], name, from_environment=True))
    return dataclasses.replace(_section(tree, ""), folder=folder)


def resolve(section: Section, target: type[T], *, ignore: frozenset[str] = frozenset()) -> T:
    """Turns `section` into a `target`, whose defaults stand for what was not written.

    Raises:
        ConfigError: a key is not known (the nearest known one is named), or a value does not fit.
    """
    hints = typing.get_type_hints(target)
    fields = {f.name: f for f in dataclasses.fields(target) if _is_key(f)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, entry in section.entries.items():
        if key in ignore:
            continue
        if key not in fields:
            raise unknown(section, key, fields.keys() | ignore)
        place = _join(section.name, key)
        secret = bool(fields[key].metadata.get("secret")) or (
            isinstance(entry, Value) and PASSWORD.match(str(entry.raw)) is not None
        )
        if secret and isinstance(entry, Value) and not entry.from_environment:
            raise ConfigError(
                f"{redact(entry.origin)}: {place} is a secret: remove it from there and set "
                f"{variable(place)} in the environment"
            )
        if isinstance(entry, Value) and secret:
            entry = dataclasses.replace(entry, is_secret=True)
        values[key] = _convert(entry, hints[key], place)
    try:
        return target(**values)
    except (ConfigError, ValueError, TypeError) as error:
        where = f"[{section.name}]" if section.name else "the top level"
        origin = f"{found}: " if (found := _origin(section)) else ""
        raise ConfigError(f"{origin}{where}: {error}") from None


def unknown(section: Section, key: str, known: "typing.AbstractSet[str]") -> ConfigError:
    """Makes the error for a key that nobody knows; it names the nearest known one."""
    entry = section.entries[key]
    origin = entry.origin if isinstance(entry, Value) else _origin(entry)
    place = _join(section.name, key)
    near = nearest(key, known, likeness=0.5)
    if near:
        meant = _join(section.name, near[0])
        is_variable = isinstance(entry, Value) and entry.from_environment
        advice = f"did you mean {variable(meant) if is_variable else meant}?"
    else:
        advice = f"known are {', '.join(sorted(known))}"
    return ConfigError(f"{origin}: {place} is not a setting; {advice}")


def variable(place: str) -> str:
    """Returns the environment variable that overrides the setting at `place`."""
    return ENVIRONMENT_PREFIX + place.replace(".", "__").replace("-", "_").upper()


def source_name(text: str) -> str:
    """Returns `text` if it is fit to name a source.

    The name is the folder of its tapes and states, its part of the lake, and the `venue` column of
    every table: one spelling, safe in a path, in SQL and in a shell.

    Raises:
        ConfigError: it is not; the message says what would be.
    """
    if SOURCE_NAME.fullmatch(text):
        return text
    near = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64].strip("-")
    advice = f", such as {near!r}" if near else ""
    raise ConfigError(
        "expected the name of a source to be of a-z, 0-9 and '-', up to 64 characters and without "
        f"a leading '-'{advice}, got {text[:80]!r}"
    )


def check_url(name: str, url: str, schemes: Sequence[str]) -> None:
    """Checks that `url`, the value of the setting `name`, can be connected to.

    Raises:
        ConfigError: another scheme, no host, or characters that no URL has.
    """
    problem = ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in schemes:
            problem = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        elif not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+", parts.hostname or "") or parts.port == 0:
            problem = "no valid host" if parts.port != 0 else "port 0"
    except ValueError as error:
        problem = str(error)
    if not all(character.isprintable() and character != " " for character in url):
        problem = "a space or a control character"
    if problem:
        raise ConfigError(
            f"{name}: expected {' or '.join(f'{scheme}://host:port' for scheme in schemes)}; "
            f"got {redact(url)!r}, which has {problem}"
        )


def check_one_of(name: str, value: object, expected: Sequence[object]) -> None:
    """Checks that the setting `name` is one of those expected.

    Raises:
        ConfigError: names them.
    """
    if value not in expected:
        raise ConfigError(f"{name}: expected one of {list(expected)}, got {value!r}")


def check_within(name: str, value: float, low: float, high: float) -> None:
    """Checks that the setting `name` is within its limits.

    Raises:
        ConfigError: names them.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name}: expected {low} to {high}, got {value}")


def check_once(name: str, values: Sequence[str]) -> None:
    """Checks that no value of the setting `name` stands there twice.

    Raises:
        ConfigError: names those that do.
    """
    if doubled := [value for value, count in Counter(values).items() if count > 1]:
        raise ConfigError(f"{name}: expected each once, got more than once: {', '.join(doubled)}")


def is_secret(name: str) -> bool:
    """Whether the setting `name` of a client library holds a secret, going by its name."""
    return SECRET_NAME.search(name) is not None and NO_SECRET.search(name) is None


def check_properties(
    table: str, properties: Mapping[str, str], own: "typing.AbstractSet[str]" = frozenset()
) -> None:
    """Checks settings of a client library: `own` are set by us, secrets come as `env:NAME`.

    Raises:
        ConfigError: names the setting; its value is not shown.
    """
    for name, value in properties.items():
        if name in own:
            raise ConfigError(f"{table}: {name} is set by Tapeworks itself")
        if is_secret(name) and not value.startswith(FROM_ENVIRONMENT):
            raise ConfigError(
                f"{table}: {name} is a secret: expected {FROM_ENVIRONMENT}NAME, the environment "
                "variable that holds it"
            )


def redact(text: str) -> str:
    """Returns `text` with the credentials of URLs in it replaced by `***`."""
    return QUERY_KEYS.sub(r"\1***", CREDENTIALS.sub(r"\1***@", text))


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


def _tree(
    written: Mapping[str, Any], name: str, origin: str, folder: Path | None
) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in written.items():
        if isinstance(value, dict):
            tree[key] = _tree(value, _join(name, key), origin, folder)
        else:
            tree[key] = Value(value, origin, folder=folder)
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
        raise ConfigError(
            f"{entry.origin}: expected a table [{place}], got {redact(repr(entry.raw))}"
        )
    if get_origin(hint) in (Mapping, dict):
        if isinstance(entry, Section):
            inner = get_args(hint)[1]
            return {
                key: _convert(value, inner, _join(place, key))
                for key, value in entry.entries.items()
            }
        raise ConfigError(
            f"{entry.origin}: expected a table [{place}], got {redact(repr(entry.raw))}"
        )
    if isinstance(entry, Section):
        raise ConfigError(f"{_origin(entry)}: expected {_describe(hint)} for {place}, got a table")
    is_text = entry.from_environment or entry.is_text
    raw = _from_text(entry.raw, hint) if is_text else entry.raw
    return _scalar(raw, hint, entry, place)


def _no_table(entry: Value, place: str) -> ConfigError:
    got = redact(repr(entry.raw))
    return ConfigError(f"{entry.origin}: expected a table [{place}], got {got}")


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
        return (entry.folder or Path()) / raw
    if hint is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if hint is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if hint in (str, bool) and isinstance(raw, hint):
        return raw
    got = "something else, which is secret" if entry.is_secret else redact(repr(raw))
    raise ConfigError(f"{entry.origin}: expected {_describe(hint)} for {place}, got {got}")


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        of = get_args(hint)[0]
        many = {str: "of texts", int: "of whole numbers", float: "of numbers"}
        return f"a list {many[of]}" if of in many else f"a list, each {_describe(of)}"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "a path" if hint is Path else str(hint))


def _write_table(lines: list[str], name: str, config: object) -> None:
    tables: list[tuple[str, object]] = []
    for key, value, secret in _items(config):
        if isinstance(value, Mapping) and not value:
            continue
        if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            tables += [(f"[{_join(name, key)}]", part) for part in value]
            continue
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            tables.append((_join(name, key), value))
        elif isinstance(value, str) and redact(value) != value:
            lines.append(f"# {key} holds a secret, which is left out: {_toml(redact(value))}")
        elif value is not None and not secret:
            lines.append(f"{_toml_key(key)} = {_toml(value)}")
    for place, value in tables:
        lines += ["", f"[{place}]"]
        _write_table(lines, place, value)


def _is_key(field: "dataclasses.Field[Any]") -> bool:
    """Whether a field is a setting. Of one with `inline`, the tables stand beside the settings."""
    return field.init and not field.metadata.get("inline")


def _items(config: object) -> list[tuple[str, object, bool]]:
    if isinstance(config, Mapping):
        return [(str(key), value, False) for key, value in config.items()]
    items = [
        (f.name, getattr(config, f.name), bool(f.metadata.get("secret")))
        for f in dataclasses.fields(config)  # type: ignore[arg-type]
        # A list of tables that is empty is not written: it would be a list of values.
        if _is_key(f) and (getattr(config, f.name) or not f.metadata.get("tables"))
    ]
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        if f.metadata.get("inline"):
            items += _items(getattr(config, f.name))
    # The kind of a member says which dataclass it is, so it stands in no field of it.
    kind = getattr(config, "kind", None)
    is_named = any(name == "kind" for name, _, _ in items)
    return items if kind is None or is_named else [("kind", kind, False), *items]


def _toml_key(key: str) -> str:
    """Returns a key as TOML takes it: one with dots, such as a client library has, is quoted."""
    return key if BARE_KEY.fullmatch(key) else _toml(key)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    # TOML takes the escapes of JSON, and wants one more.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
