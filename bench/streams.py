"""A venue's simulator at a rate, recorded by `tape up` into a lake: is every message there, once?

Sketch: an event has 130 bytes of JSON and makes one record of 64; at 20 k/s that is 3 MB/s in, and
with the raw tape, the records, what is derived of them and the lake some 15 MB/s to the disk. Far
below what each of these can do: the point is that nothing is lost, in five processes that share two
cores with the simulator.

What is compared is said in `tapeworks.simulators.proof`: each message that the simulator gave to a
connection is on the raw tape and in the lake exactly once, and each book is the simulator's own.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapeworks.simulators.base import Simulator, start_simulator
from tapeworks.simulators.proof import Proof, prove

WAIT_S_MAX = 60.0
# Both encodings of Alpaca and its books; both markets of Massive.
SETTINGS = {
    "alpaca": """
[feeds.stocks]
kind = "alpaca"
symbols = ["AAPL", "MSFT"]
ws_url = "{ws}"
[feeds.coins]
kind = "alpaca"
product = "crypto"
symbols = ["BTC/USD", "ETH/USD"]
channels = ["trades", "quotes", "orderbooks"]
encoding = "msgpack"
ws_url = "{ws}"
""",
    "massive": """
[feeds.stocks]
kind = "massive"
symbols = ["AAPL", "MSFT"]
ws_url = "{ws}"
[feeds.coins]
kind = "massive"
product = "crypto"
symbols = ["BTC-USD", "ETH-USD"]
ws_url = "{ws}"
""",
    "binance": """
[feeds.coins]
kind = "binance"
symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"]
ws_url = "{ws}"
rest_url = "{rest}"
""",
}
SINK = "[sinks.parquet]\nflush_seconds = 1\n"
# Orders a second and symbol of which come over 20 k messages a second.
RATES = {"alpaca": 6_500.0, "massive": 9_000.0, "binance": 6_500.0}
KEYS = {"MASSIVE_API_KEY": "any", "APCA_API_KEY_ID": "any", "APCA_API_SECRET_KEY": "any"}


@dataclass(frozen=True)
class Recorded:
    """Symbols of one source, and how many streams it subscribes."""

    symbols: tuple[str, ...]
    streams: int


SOURCES: Mapping[str, Mapping[str, Recorded]] = {
    "alpaca": {
        "stocks": Recorded(("AAPL", "MSFT"), 4),
        "coins": Recorded(("BTC/USD", "ETH/USD"), 6),
    },
    "massive": {
        "stocks": Recorded(("AAPL", "MSFT"), 4),
        "coins": Recorded(("BTC-USD", "ETH-USD"), 4),
    },
    "binance": {"coins": Recorded(("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"), 12)},
}


def part_of(oracle: Mapping[str, Any], symbols: tuple[str, ...]) -> dict[str, Any]:
    """Returns what the oracle says of the symbols of one source."""
    delivered = {
        name: of
        for name, of in oracle["delivered"].items()
        if str(of["symbol"]).partition("@")[0] in symbols
    }
    facts = {symbol: of for symbol, of in oracle["symbols"].items() if symbol in symbols}
    return {**oracle, "delivered": delivered, "symbols": facts}


def until(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Waits until something is so.

    Raises:
        SystemExit: it was not in time, or the recorder ended.
    """
    ends = time.monotonic() + WAIT_S_MAX
    while not is_so():
        if process.poll() is not None or time.monotonic() > ends:
            raise SystemExit(f"the recorder ended with {process.poll()}, or nothing came of it")
        time.sleep(0.05)


def record(venue: str, simulator: Simulator, folder: Path) -> tuple[dict[str, Any], float]:
    """Records from the first message to the last; returns the oracle, and seconds it sent for."""
    settings = SETTINGS[venue].format(ws=simulator.ws_url, rest=simulator.rest_url) + SINK
    (folder / "tapeworks.toml").write_text(settings)
    wanted = sum(of.streams for of in SOURCES[venue].values())
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from tapeworks.cli import main; main()", "up"],
            cwd=folder,
            env={**os.environ, **KEYS},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: simulator.state()["streams"] >= wanted, process)
        simulator.start()
        started = time.monotonic()
        until(lambda: bool(simulator.state()["done"]), process)
        until(lambda: not simulator.state()["unread_bytes"], process)
        sent_s = time.monotonic() - started
        time.sleep(1.0)
        oracle = simulator.oracle()
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(WAIT_S_MAX)
    if code:
        raise SystemExit(f"tape up ended with {code}: {(folder / 'up.log').read_text()[-800:]}")
    return oracle, sent_s


def run(venue: str, rate: float, seconds: float, folder: Path) -> tuple[Proof, int, float]:
    """Returns what was proved, messages that were sent, and seconds that it took."""
    symbols = [symbol for of in SOURCES[venue].values() for symbol in of.symbols]
    arguments = ["--symbols", *symbols, "--seed", "7", "--rate", str(rate), "--wait"]
    arguments += ["--settle", "600", "--duration", str(seconds)]
    with start_simulator(venue, *arguments, log=folder / "simulator.log") as simulator:
        oracle, sent_s = record(venue, simulator, folder)
    oracles = {source: part_of(oracle, of.symbols) for source, of in SOURCES[venue].items()}
    sent = sum(of["count"] for part in oracles.values() for of in part["delivered"].values())
    return prove(folder / "data", oracles), sent, sent_s


def main() -> int:
    """Prints the figures; fails if a message is missing or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("venue", choices=sorted(SOURCES))
    parser.add_argument("--rate", type=float, help="orders a second and symbol (over 20 k/s)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--scale", type=float, default=1.0, help="of seconds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    given = parser.parse_args()
    seconds = max(2.0, given.seconds * given.scale)
    with tempfile.TemporaryDirectory(prefix="bench-streams-") as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        rate = given.rate or RATES[given.venue]
        proof, sent, sent_s = run(given.venue, rate, seconds, folder)
    wrong = [name for name, is_same in proof.books.items() if not is_same]
    figures = {
        "messages_per_s": round(sent / sent_s),
        "messages": sent,
        "lost": sum(stream.lost for stream in proof.streams),
        "doubled": sum(stream.duplicated for stream in proof.streams),
        "gaps": proof.gaps,
        "books_wrong": len(wrong),
    }
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:,}")
    return 0 if proof.holds and not proof.gaps else 1


if __name__ == "__main__":
    sys.exit(main())
