"""What the simulator of Binance is told: its market or recording, its pace, the venue's limits."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapeworks.errors import ConfigError
from tapeworks.feeds.binance.products import PRODUCTS

FEEDS = {name: f"binance-{name}" for name in PRODUCTS}

EPILOG = """\
Record what it sends, in another terminal:
  tape record binance BTCUSDT --set ws_url=ws://127.0.0.1:PORT --set rest_url=http://127.0.0.1:PORT
"""


@dataclass(frozen=True)
class Limits:
    """The venue's limits of one product; all can be set."""

    weight_per_minute: int
    messages_per_s: int
    ping_s: float
    pong_s: float
    age_s: float = 86_400.0
    streams_max: int = 1024
    ban_after: int = 5
    """So many refused requests within a minute turn 429 into 418."""
    ban_s: float = 120.0
    buffer_bytes_max: int = 64 << 20
    """A connection that leaves so much unread is dropped."""


_FUTURES = Limits(weight_per_minute=2400, messages_per_s=10, ping_s=180.0, pong_s=600.0)
LIMITS = {
    "spot": Limits(weight_per_minute=6000, messages_per_s=5, ping_s=20.0, pong_s=60.0),
    "usdm": _FUTURES,
    "coinm": _FUTURES,
}


@dataclass(frozen=True)
class SimulatorConfig:
    """Everything that one simulator is told."""

    product: str = "spot"
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
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
    playback: tuple[Path, ...] = ()
    faults: str = ""
    """`seed:COUNT` faults chosen by the seed, or the path of a JSON file with a list of them."""
    full: Path | None = None
    """Every frame is written there as a JSON line, with what became of it."""
    oracle: Path | None = None
    """The oracle's report is written there at the end."""
    limits: Limits = LIMITS["spot"]

    @property
    def feed(self) -> str:
        """The name of the feed in the core."""
        return FEEDS[self.product]


def parse_arguments(arguments: Sequence[str], program: str) -> SimulatorConfig:
    """Reads the command line.

    Raises:
        ConfigError: a value makes no sense.
    """
    given = _parser(program).parse_args(arguments)
    if given.rate <= 0 or given.speed < 0:
        raise ConfigError("expected a rate above 0 and a speed of 0 or more")
    return SimulatorConfig(
        product=given.product,
        symbols=tuple(symbol.upper() for symbol in given.symbols),
        seed=given.seed,
        host=given.host,
        port=given.port,
        rate=given.rate,
        levels=given.levels,
        speed=given.speed,
        start_ns=given.start_ns,
        duration_s=given.duration,
        wait=given.wait or bool(given.playback),
        settle_s=given.settle,
        exit_at_end=given.exit_at_end,
        with_parent=given.with_parent,
        playback=tuple(given.playback),
        faults=given.faults,
        full=given.full,
        oracle=given.oracle,
        limits=_limits(given),
    )


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="Binance on loopback. Prints one JSON line with its port when it is ready,\n"
        "and serves until Ctrl-C. The market follows from the seed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = SimulatorConfig()
    market = parser.add_argument_group("market")
    for name, default, metavar, told in (
        ("seed", defaults.seed, "N", "of the random market"),
        ("rate", defaults.rate, "N", "orders that arrive, per symbol and simulated second"),
        ("levels", defaults.levels, "N", "price levels a side that the book holds, about"),
        ("start-ns", defaults.start_ns, "NS", "when the market opens, ns since 1970; 0: now"),
    ):
        shown = f"{told} (default: {default})"
        kind = type(default)
        market.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=shown)
    market.add_argument(
        "--product",
        choices=sorted(FEEDS),
        default=defaults.product,
        help=f"spot, or futures paid in dollars or in the asset (default: {defaults.product})",
    )
    market.add_argument(
        "--symbols",
        nargs="+",
        default=list(defaults.symbols),
        metavar="SYMBOL",
        help=f"symbols that are traded (default: {' '.join(defaults.symbols)})",
    )
    market.add_argument(
        "--playback",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="send the frames of these recordings instead of a random market; implies --wait",
    )
    _add_server(parser.add_argument_group("server"), defaults)
    _add_limits(parser.add_argument_group("limits of the venue"))
    return parser


def _add_server(group: "argparse._ArgumentGroup", defaults: SimulatorConfig) -> None:
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


def _add_limits(group: "argparse._ArgumentGroup") -> None:
    for name, kind, told in (
        ("ping-s", float, "seconds between pings"),
        ("pong-s", float, "seconds in which a pong must come, or the connection is cut"),
        ("age-s", float, "seconds after which a connection is cut"),
        ("ban-s", float, "seconds that a ban (status 418) lasts"),
        ("weight-per-minute", int, "request weight that REST allows within a minute"),
        ("messages-per-s", int, "messages a second that a connection may send"),
        ("ban-after", int, "refused requests within a minute that turn 429 into a ban"),
        ("streams-max", int, "streams of one connection"),
    ):
        field = name.replace("-", "_")
        values = {product: getattr(limits, field) for product, limits in LIMITS.items()}
        shown = ", ".join(f"{value:g} {product}" for product, value in values.items())
        if len(set(values.values())) == 1:
            shown = f"{values['spot']:g}"
        shown = f"{told} (default: {shown})"
        group.add_argument(
            f"--{name}", type=kind, metavar="SECONDS" if kind is float else "N", help=shown
        )


def _limits(given: argparse.Namespace) -> Limits:
    base = LIMITS[given.product]
    changed = {
        name: getattr(given, name)
        for name in Limits.__dataclass_fields__
        if getattr(given, name, None) is not None
    }
    return Limits(**{**base.__dict__, **changed})
