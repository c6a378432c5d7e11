"""What every simulated venue is told: its market, its pace, its limits of a connection."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tapeworks.errors import ConfigError


@dataclass(frozen=True)
class ConnectionLimits:
    """What a venue allows a connection; all can be set."""

    ping_s: float = 20.0
    pong_s: float = 60.0
    age_s: float = 86_400.0
    buffer_bytes_max: int = 64 << 20
    """A connection that leaves so much unread is dropped."""


Limits = TypeVar("Limits", bound=ConnectionLimits)


@dataclass(frozen=True)
class ServerConfig:
    """What one simulator is told, whatever its venue."""

    symbols: tuple[str, ...] = ()
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    rate: float = 200.0
    """Orders that arrive each second, per symbol, on average."""
    levels: int = 1000
    """Levels a side that the book holds, about."""
    speed: float = 1.0
    """Simulated seconds per second; 0: as fast as the slowest connection reads."""
    start_ns: int = 0
    """When the market opens; 0: now."""
    duration_s: float = 0.0
    """Simulated time after which all is done; 0: never."""
    wait: bool = False
    """Time begins with the first connection that has all streams it will ever have, or when
    told to: see `settle_s`."""
    settle_s: float = 0.5
    """A connection has all its streams when it has asked for none for so long."""
    exit_at_end: bool = False
    with_parent: bool = False
    """Ends when standard input does: a pipe from whoever started it."""
    faults: str = ""
    """`seed:COUNT` faults chosen by the seed, or the path of a JSON file with a list of them."""
    full: Path | None = None
    """Every frame is written there as a JSON line, with what became of it."""
    oracle: Path | None = None
    """The oracle's report is written there at the end."""
    limits: ConnectionLimits = ConnectionLimits()


def server_parser(program: str, title: str, epilog: str) -> argparse.ArgumentParser:
    """Returns a parser without options, of the simulator that calls itself `title`."""
    return argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description=f"{title} on loopback. Prints one JSON line with its port when it is ready,\n"
        "and serves until Ctrl-C. The market follows from the seed.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_market(group: "argparse._ArgumentGroup", defaults: ServerConfig) -> None:
    """Adds the options of the market."""
    for name, default, metavar, told in (
        ("seed", defaults.seed, "N", "of the random market"),
        ("rate", defaults.rate, "N", "orders that arrive, per symbol and simulated second"),
        ("levels", defaults.levels, "N", "price levels a side that the book holds, about"),
        ("start-ns", defaults.start_ns, "NS", "when the market opens, ns since 1970; 0: now"),
    ):
        shown = f"{told} (default: {default})"
        kind = type(default)
        group.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=shown)
    group.add_argument(
        "--symbols",
        nargs="+",
        default=list(defaults.symbols),
        metavar="SYMBOL",
        help=f"symbols that are traded (default: {' '.join(defaults.symbols)})",
    )


def add_server(group: "argparse._ArgumentGroup", defaults: ServerConfig) -> None:
    """Adds the options of the server."""
    for name, default, metavar, told in (
        ("host", defaults.host, "ADDRESS", f"address to listen on (default: {defaults.host})"),
        ("port", defaults.port, "PORT", "port of REST and WebSocket; 0: a free one (default: 0)"),
        (
            "speed",
            defaults.speed,
            "FACTOR",
            "simulated seconds per second; 0: as fast as the slowest connection reads (default: 1)",
        ),
        ("duration", defaults.duration_s, "SECONDS", "end after so much simulated time; 0: never"),
        (
            "settle",
            defaults.settle_s,
            "SECONDS",
            "with --wait: a connection has all its streams when it asked for none for so long "
            f"(default: {defaults.settle_s})",
        ),
        (
            "faults",
            defaults.faults,
            "seed:COUNT|FILE",
            "what goes wrong: COUNT faults chosen by the seed, or a JSON list of them",
        ),
    ):
        kind = type(default)
        group.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=told)
    for name, told in (
        ("wait", "let time begin with the first connection that has all its streams"),
        ("exit-at-end", "end the process once all of --duration, or the recordings, was sent"),
        ("with-parent", "end when standard input does"),
    ):
        group.add_argument(f"--{name}", action="store_true", help=told)
    for name, told in (
        ("full", "write every frame there as a JSON line, with what became of it"),
        ("oracle", "write there at the end, as JSON, what was sent and the true books"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=told)


Limit = tuple[str, type, str]
"""An option of a limit without its dashes, its type, and what is told of it."""
CONNECTION_LIMITS: Sequence[Limit] = (
    ("ping-s", float, "seconds between pings"),
    ("pong-s", float, "seconds in which a pong must come, or the connection is cut"),
    ("age-s", float, "seconds after which a connection is cut"),
)


def add_limits(
    group: "argparse._ArgumentGroup", limits: Sequence[Limit], known: dict[str, ConnectionLimits]
) -> None:
    """Adds the options of limits; `known` has those of each product of the venue."""
    for name, kind, told in limits:
        field = name.replace("-", "_")
        values = {product: getattr(of, field) for product, of in known.items()}
        shown = ", ".join(f"{value:g} {product}" for product, value in values.items())
        if len(set(values.values())) == 1:
            shown = f"{next(iter(values.values())):g}"
        shown = f"{told} (default: {shown})"
        group.add_argument(
            f"--{name}", type=kind, metavar="SECONDS" if kind is float else "N", help=shown
        )


def given_limits(given: argparse.Namespace, base: Limits) -> Limits:
    """Returns `base` with what the command line says otherwise."""
    names = [field.name for field in fields(base)]
    changed = {name: getattr(given, name, None) for name in names}
    changed = {name: value for name, value in changed.items() if value is not None}
    return type(base)(**{**base.__dict__, **changed})


def server_settings(given: argparse.Namespace) -> dict[str, Any]:
    """Returns the fields of a `ServerConfig` that were given, but for limits.

    Raises:
        ConfigError: a value makes no sense.
    """
    if given.rate <= 0 or given.speed < 0:
        raise ConfigError("expected a rate above 0 and a speed of 0 or more")
    return {
        "symbols": tuple(given.symbols),
        "seed": given.seed,
        "host": given.host,
        "port": given.port,
        "rate": given.rate,
        "levels": given.levels,
        "speed": given.speed,
        "start_ns": given.start_ns,
        "duration_s": given.duration,
        "wait": given.wait,
        "settle_s": given.settle,
        "exit_at_end": given.exit_at_end,
        "with_parent": given.with_parent,
        "faults": given.faults,
        "full": given.full,
        "oracle": given.oracle,
    }
