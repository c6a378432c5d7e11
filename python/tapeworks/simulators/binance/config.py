"""What the simulator of Binance is told: its market or recording, its pace, the venue's limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapeworks.feeds.binance.products import PRODUCTS
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

FEEDS = {name: f"binance-{name}" for name in PRODUCTS}

EPILOG = """\
Record what it sends, in another terminal:
  tape record binance BTCUSDT --set ws_url=ws://127.0.0.1:PORT --set rest_url=http://127.0.0.1:PORT
"""


@dataclass(frozen=True)
class Limits(ConnectionLimits):
    """The venue's limits of one product; all can be set."""

    weight_per_minute: int = 6000
    messages_per_s: int = 5
    streams_max: int = 1024
    ban_after: int = 5
    """So many refused requests within a minute turn 429 into 418."""
    ban_s: float = 120.0


_FUTURES = Limits(weight_per_minute=2400, messages_per_s=10, ping_s=180.0, pong_s=600.0)
LIMITS = {"spot": Limits(), "usdm": _FUTURES, "coinm": _FUTURES}
SETTABLE = (
    *CONNECTION_LIMITS,
    ("ban-s", float, "seconds that a ban (status 418) lasts"),
    ("weight-per-minute", int, "request weight that REST allows within a minute"),
    ("messages-per-s", int, "messages a second that a connection may send"),
    ("ban-after", int, "refused requests within a minute that turn 429 into a ban"),
    ("streams-max", int, "streams of one connection"),
)


@dataclass(frozen=True)
class SimulatorConfig(ServerConfig):
    """Everything that one simulator is told."""

    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    product: str = "spot"
    playback: tuple[Path, ...] = ()
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
    defaults = SimulatorConfig()
    parser = server_parser(program, "Binance", EPILOG)
    market = parser.add_argument_group("market")
    add_market(market, defaults)
    market.add_argument(
        "--product",
        choices=sorted(FEEDS),
        default=defaults.product,
        help=f"spot, or futures paid in dollars or in the asset (default: {defaults.product})",
    )
    market.add_argument(
        "--playback",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="send the frames of these recordings instead of a random market; implies --wait",
    )
    add_server(parser.add_argument_group("server"), defaults)
    add_limits(parser.add_argument_group("limits of the venue"), SETTABLE, dict(LIMITS))
    given = parser.parse_args(arguments)
    settings = server_settings(given)
    settings["symbols"] = tuple(symbol.upper() for symbol in given.symbols)
    settings["wait"] = given.wait or bool(given.playback)
    return SimulatorConfig(
        **settings,
        product=given.product,
        playback=tuple(given.playback),
        limits=given_limits(given, LIMITS[given.product]),
    )
