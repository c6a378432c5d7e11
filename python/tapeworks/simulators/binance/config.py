"""What the simulator of Binance is told: its market or recording, its pace, the venue's limits."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapeworks.errors import ConfigError

FEEDS = {"spot": "binance-spot", "usdm": "binance-usdm"}


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


LIMITS = {
    "spot": Limits(weight_per_minute=6000, messages_per_s=5, ping_s=20.0, pong_s=60.0),
    "usdm": Limits(weight_per_minute=2400, messages_per_s=10, ping_s=180.0, pong_s=600.0),
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


def parse_arguments(arguments: Sequence[str]) -> SimulatorConfig:
    """Reads the command line.

    Raises:
        ConfigError: a value makes no sense.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tapeworks.simulators.binance",
        description="Binance on loopback; prints one JSON line with its port when it is ready.",
    )
    defaults = SimulatorConfig()
    parser.add_argument("--product", choices=sorted(FEEDS), default=defaults.product)
    parser.add_argument("--symbols", nargs="+", default=list(defaults.symbols))
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument("--rate", type=float, default=defaults.rate)
    parser.add_argument("--levels", type=int, default=defaults.levels)
    parser.add_argument("--speed", type=float, default=defaults.speed)
    parser.add_argument("--start-ns", type=int, default=0)
    parser.add_argument("--duration", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--wait", action="store_true", help="let time begin with a listener")
    parser.add_argument("--settle", type=float, default=defaults.settle_s, metavar="SECONDS")
    parser.add_argument("--exit-at-end", action="store_true")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input does")
    parser.add_argument("--playback", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--faults", default="", metavar="seed:COUNT|FILE")
    parser.add_argument("--full", type=Path)
    parser.add_argument("--oracle", type=Path)
    for name in ("ping", "pong", "age", "ban"):
        parser.add_argument(f"--{name}-s", type=float)
    for name in ("weight-per-minute", "messages-per-s", "ban-after", "streams-max"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args(arguments)
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


def _limits(given: argparse.Namespace) -> Limits:
    base = LIMITS[given.product]
    changed = {
        name: getattr(given, name)
        for name in Limits.__dataclass_fields__
        if getattr(given, name, None) is not None
    }
    return Limits(**{**base.__dict__, **changed})
