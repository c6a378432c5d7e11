"""What the simulator of Massive is told: its market, its pace, its key and limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from tapeworks.errors import ConfigError
from tapeworks.feeds.massive.channels import PRODUCTS
from tapeworks.simulators.config import (
    CONNECTION_LIMITS,
    ConnectionLimits,
    ServerConfig,
    add_limits,
    add_market,
    add_server,
    given_limits,
    server_parser,
    server_settings,
)

EPILOG = """\
Record what it sends, in another terminal, with any key:
  export MASSIVE_API_KEY=any
  tape record massive AAPL --set ws_url=ws://127.0.0.1:PORT
  tape record massive BTC-USD --set product=crypto --set ws_url=ws://127.0.0.1:PORT
"""
EVICTED = ("newest", "oldest")


@dataclass(frozen=True)
class Limits(ConnectionLimits):
    """The venue's limits; all can be set."""

    auth_s: float = 10.0
    """A connection that did not send its key within so long is told of it, and cut."""
    requests_per_minute: int = 6000


LIMITS = Limits()
SETTABLE = (
    *CONNECTION_LIMITS,
    ("buffer-bytes-max", int, "bytes that a connection may leave unread before it is cut"),
    ("auth-s", float, "seconds in which the key must come"),
    ("requests-per-minute", int, "requests that REST allows within a minute"),
)


@dataclass(frozen=True)
class SimulatorConfig(ServerConfig):
    """Everything that one simulator is told."""

    symbols: tuple[str, ...] = ("AAPL", "MSFT", "BTC-USD")
    levels: int = 100
    key: str = ""
    """The only key that is accepted; none: any."""
    denied: tuple[str, ...] = ("NOI",)
    """Markets such as `crypto`, and channels such as `NOI`, that the plan has not."""
    evicted: str = EVICTED[0]
    """Which of two connections to one market is cut: the newest or the oldest."""
    limits: Limits = LIMITS


def parse_arguments(arguments: Sequence[str], program: str) -> SimulatorConfig:
    """Reads the command line.

    Raises:
        ConfigError: a value makes no sense.
    """
    defaults = SimulatorConfig()
    parser = server_parser(program, "Massive", EPILOG)
    add_market(parser.add_argument_group("market"), defaults)
    add_server(parser.add_argument_group("server"), defaults)
    account = parser.add_argument_group("account")
    account.add_argument("--key", default="", help="the key that is accepted (default: any)")
    account.add_argument(
        "--denied",
        nargs="*",
        default=list(defaults.denied),
        metavar="NAME",
        help="markets, such as crypto, and channels, such as LULD, that the plan has not "
        f"(default: {' '.join(defaults.denied)})",
    )
    account.add_argument(
        "--evicted",
        choices=EVICTED,
        default=defaults.evicted,
        help="which of two connections to one market is cut (default: newest)",
    )
    add_limits(parser.add_argument_group("limits of the venue"), SETTABLE, {"": LIMITS})
    given = parser.parse_args(arguments)
    known = {*PRODUCTS, *(channel for of in PRODUCTS.values() for channel in of)}
    if unknown := sorted(set(given.denied) - known):
        raise ConfigError(f"--denied: expected markets and channels, got {', '.join(unknown)}")
    return SimulatorConfig(
        **server_settings(given),
        key=given.key,
        denied=tuple(given.denied),
        evicted=given.evicted,
        limits=given_limits(given, LIMITS),
    )
