"""What the simulator of Alpaca is told: its market, its pace, its keys and limits."""

from collections.abc import Sequence
from dataclasses import dataclass

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
Record what it sends, in another terminal, with any key and secret:
  export APCA_API_KEY_ID=any APCA_API_SECRET_KEY=any
  tape record alpaca AAPL --set ws_url=ws://127.0.0.1:PORT
  tape record alpaca BTC/USD --set product=crypto --set ws_url=ws://127.0.0.1:PORT
"""


@dataclass(frozen=True)
class Limits(ConnectionLimits):
    """The venue's limits; all can be set."""

    symbols_max: int = 1000
    """Symbols of trades and of quotes together, on one connection."""
    auth_s: float = 10.0
    """A connection that did not log in within so long is told of it, and cut."""
    reaped_s: float = 0.0
    """So long a session that was cut still counts as the one that is allowed."""
    requests_per_minute: int = 10_000


LIMITS = Limits()
SETTABLE = (
    *CONNECTION_LIMITS,
    ("symbols-max", int, "symbols of trades and of quotes together, on one connection"),
    ("auth-s", float, "seconds in which a login must come"),
    ("reaped-s", float, "seconds for which a session that was cut still counts"),
    ("requests-per-minute", int, "requests that REST allows within a minute"),
)


@dataclass(frozen=True)
class SimulatorConfig(ServerConfig):
    """Everything that one simulator is told."""

    symbols: tuple[str, ...] = ("AAPL", "MSFT", "BTC/USD")
    levels: int = 100
    key: str = ""
    """The only key that is accepted, with `secret`; none: any."""
    secret: str = ""
    denied: tuple[str, ...] = ()
    """Feeds such as `sip` to which the account has no right."""
    limits: Limits = LIMITS


def parse_arguments(arguments: Sequence[str], program: str) -> SimulatorConfig:
    """Reads the command line.

    Raises:
        ConfigError: a value makes no sense.
    """
    defaults = SimulatorConfig()
    parser = server_parser(program, "Alpaca", EPILOG)
    add_market(parser.add_argument_group("market"), defaults)
    add_server(parser.add_argument_group("server"), defaults)
    account = parser.add_argument_group("account")
    account.add_argument("--key", default="", help="the key that is accepted (default: any)")
    account.add_argument("--secret", default="", help="the secret that goes with --key")
    account.add_argument(
        "--denied",
        nargs="+",
        default=[],
        metavar="FEED",
        help="feeds to which the account has no right, such as sip",
    )
    add_limits(parser.add_argument_group("limits of the venue"), SETTABLE, {"": LIMITS})
    given = parser.parse_args(arguments)
    return SimulatorConfig(
        **server_settings(given),
        key=given.key,
        secret=given.secret,
        denied=tuple(given.denied),
        limits=given_limits(given, LIMITS),
    )
