"""The table of members by kind, and the one loader of them.

A member is named in the settings: by a name of the table, or as a class of the user's own,
`my_package.my_module:MyClass`. Its module is imported only when the settings name it. Its settings
are a frozen dataclass beside the class: of `BinanceFeed`, `BinanceConfig` in the same file, or in
`config.py` of the same folder, which loads nothing else; of a class of the user's own, the `Config`
that it names or inherits.
"""

import dataclasses
import importlib
import importlib.util
import os
import sys
from typing import Any

from tapeworks.errors import ConfigError

MEMBERS: dict[str, dict[str, str]] = {
    "feed": {
        "alpaca": "tapeworks.feeds.alpaca.session:AlpacaFeed",
        "binance": "tapeworks.feeds.binance.session:BinanceFeed",
        "itch": "tapeworks.feeds.itch.session:ItchFeed",
        "massive": "tapeworks.feeds.massive.session:MassiveFeed",
    },
    # What reads files that hold no frames by line, by the feed of the core that they are of.
    "capture": {
        "itch": "tapeworks.feeds.itch.captures:ItchCaptures",
        "lobster": "tapeworks.feeds.lobster.captures:LobsterCaptures",
        "massive": "tapeworks.feeds.massive.captures:MassiveCaptures",
    },
    # Those of the core are wired in `processors/derive.py`.
    "processor": {},
    # Rules of alerts: those of the core are in its own table.
    "rule": {},
    "sink": {
        "clickhouse": "tapeworks.sinks.clickhouse:ClickHouseSink",
        "kafka": "tapeworks.sinks.kafka:KafkaSink",
        "notify": "tapeworks.sinks.notify:NotifySink",
        "parquet": "tapeworks.sinks.parquet:ParquetSink",
        "postgres": "tapeworks.sinks.postgres:PostgresSink",
        "questdb": "tapeworks.sinks.questdb:QuestDBSink",
        "redis": "tapeworks.sinks.redis:RedisSink",
    },
    # What reads a topic into tapes, by the scheme of its address.
    "replica": {
        "kafka": "tapeworks.replicas.kafka:KafkaTopicReader",
        "redis": "tapeworks.replicas.redis:RedisTopicReader",
        "rediss": "tapeworks.replicas.redis:RedisTopicReader",
    },
    "view": {"metrics": "tapeworks.views.metrics:MetricsView"},
    "job": {
        "catch-up": "tapeworks.jobs.catch_up:CatchUpJob",
        "iceberg": "tapeworks.jobs.iceberg.job:IcebergJob",
        "lake-rebuild": "tapeworks.jobs.rebuild:LakeRebuildJob",
        "repair": "tapeworks.jobs.repair:RepairJob",
    },
    "worker": {
        "recorder": "tapeworks.feeds.session:run_worker",
        "derive": "tapeworks.processors.derive:run_worker",
        "sink": "tapeworks.sinks.worker:run_worker",
        "view": "tapeworks.views.worker:run_worker",
        "replica": "tapeworks.replicas.worker:run_worker",
    },
}
"""Kind of member -> name -> where it is."""

# What venues were called before, by which their users still know them.
FORMER = {"polygon": "massive"}

# What a class of the user's own derives from.
CONTRACTS = {
    "feed": "tapeworks.feeds.python:PythonFeed",
    "processor": "tapeworks.processors.base:Processor",
    "rule": "tapeworks.processors.own_alerts:Rule",
    "sink": "tapeworks.sinks.base:Sink",
    "view": "tapeworks.views.base:View",
    "job": "tapeworks.jobs.base:Job",
}


def present_name(venue: str) -> str:
    """Returns what a venue is called now."""
    return FORMER.get(venue, venue)


def load_name(target: str) -> Any:
    """Imports `module:name`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def load_member(kind: str, name: str) -> Any:
    """Returns the member of `kind` that is called `name`, or that `name` locates.

    Raises:
        ConfigError: there is none; the message lists those that exist.
    """
    return _load_own(kind, name) if ":" in name else _load_known(kind, name, target_of(kind, name))


def load_settings(kind: str, name: str) -> Any:
    """Returns the dataclass of the settings of a member, and loads no more than it needs.

    Raises:
        ConfigError: there is no such member; the message lists those that exist.
    """
    if ":" in name:
        return _load_own(kind, name).Config
    module, _, class_name = target_of(kind, name).partition(":")
    beside = f"{module.rpartition('.')[0]}.config"
    place = beside if importlib.util.find_spec(beside) else module
    return _load_known(kind, name, f"{place}:{class_name.removesuffix(kind.capitalize())}Config")


def _load_known(kind: str, name: str, target: str) -> Any:
    """Imports `target` of the member `name`.

    Raises:
        ConfigError: it needs a library that is not installed; the message says how to.
    """
    try:
        return load_name(target)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
            raise
        raise ConfigError(
            f"the {kind} {name} needs {error.name}, which is not installed: "
            f"pip install 'tapeworks[{name}]'"
        ) from None


def find_beside(kind: str, name: str, part: str, suffix: str) -> str | None:
    """Returns where the class of `part` beside a member of `kind` is; none: it has none.

    `name` is that of the member, or begins with it: `binance-spot` is a product of `binance`. Of
    the class `BinanceFeed`, the part `wire` with the suffix `Wire` is `BinanceWire` in `wire.py`.
    """
    found = [one for one in MEMBERS[kind] if name == one or name.startswith(f"{one}-")]
    if not found:
        return None
    module, _, class_name = MEMBERS[kind][max(found, key=len)].partition(":")
    beside = f"{module.rpartition('.')[0]}.{part}"
    if importlib.util.find_spec(beside) is None:
        return None
    return f"{beside}:{class_name.removesuffix(kind.capitalize())}{suffix}"


def target_of(kind: str, name: str) -> str:
    """Returns where the table says that a member is.

    Raises:
        ConfigError: the table has no such name; the message lists those that it has.
    """
    members = MEMBERS[kind]
    if present_name(name) in members:
        return members[present_name(name)]
    known = [*sorted(members)]
    if kind in CONTRACTS:
        known.append(f"a class of your own such as 'my_package.my_module:My{kind.capitalize()}'")
    raise ConfigError(f"expected a {kind} of {', or '.join(known)}, got {name!r}")


def _load_own(kind: str, target: str) -> Any:
    """Returns a class of the user's own that holds the contract of `kind`."""
    if kind not in CONTRACTS:
        raise ConfigError(f"expected a {kind} of {', '.join(MEMBERS[kind])}, got {target!r}")
    contract = load_name(CONTRACTS[kind])
    module_name, _, name = target.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        # The command itself lies elsewhere; a member is looked for where it was started, too.
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # Whatever a stranger's module raises while it is loaded.
        raise ConfigError(
            f"kind {target!r}: cannot import {module_name}: {type(error).__name__}: {error}; it is "
            f"looked for in {os.getcwd()}, on PYTHONPATH, and among what is installed"
        ) from error
    found = getattr(module, name, None)
    if found is None:
        own = [v for v in vars(module).values() if getattr(v, "__module__", "") == module_name]
        known = [v.__name__ for v in own if isinstance(v, type) and issubclass(v, contract)]
        raise ConfigError(
            f"kind {target!r}: {module.__file__} has no {name!r}; {kind}s there: {known or 'none'}"
        )
    _check_contract(kind, target, contract, found)
    return found


def _check_contract(kind: str, target: str, contract: Any, found: Any) -> None:
    if not (isinstance(found, type) and issubclass(found, contract)):
        place = f"{contract.__module__}.{contract.__name__}"
        raise ConfigError(f"kind {target!r}: expected a class derived from {place}, got {found!r}")
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise ConfigError(f"kind {target!r}: the class lacks {', '.join(lacking)}")
    settings, base = getattr(found, "Config", None), contract.Config
    is_settings = isinstance(settings, type) and issubclass(settings, base)
    if not (is_settings and dataclasses.is_dataclass(settings)):
        raise ConfigError(
            f"kind {target!r}: expected Config to be a dataclass derived from {base.__name__}; "
            f"got {settings!r}"
        )
