"""A campaign of faults: each seed is a market, a recorder and a list of things that go wrong.

A simulated exchange (its own process, real sockets) drops, repeats, swaps, delays, mutes, breaks
and skips frames, cuts and slows connections, and serves late and stale books, as its seed says; one
of packets loses, repeats and swaps them on each of its lines, and has them again, some or all. The
venues take turns, seed by seed. What the recorder made of it is compared with the frames themselves
and with the exchange's oracle: `numbered.py`, `events.py` and `packets.py` say how.
"""

import argparse
import asyncio
import functools
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.check import Check, Outcome
from tests.faults.events import EventsCheck
from tests.faults.numbered import NumberedCheck
from tests.faults.packets import PacketsCheck
from tests.faults.packets import plan as plan_of_packets

from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.binance.config import BinanceConfig
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.session import record
from tapeworks.simulators.alpaca.server import AlpacaServer
from tapeworks.simulators.base import Simulator, start_simulator
from tapeworks.simulators.binance.server import BinanceServer
from tapeworks.simulators.faults import seeded_faults
from tapeworks.simulators.massive.server import MassiveServer
from tapeworks.tape import TapeConfig

VENUES = ("massive", "alpaca", "binance", "itch")
KEYS = {"MASSIVE_API_KEY": "any", "APCA_API_KEY_ID": "any", "APCA_API_SECRET_KEY": "any"}
SERVERS = {"binance": BinanceServer, "massive": MassiveServer, "alpaca": AlpacaServer}
COINS = ("BTC", "ETH", "SOL")
STOCKS = ("AAPL", "MSFT", "SPY")
DURATION_S, FAULTS_S, SETTLE_S, FAULTS = 10.0, 5.0, 1.0, 5
# Generous: how fast the machine is, and what else it does, is no finding.
START_S_MAX, DONE_S_MAX, READ_S_MAX = 180.0, 240.0, 120.0


@dataclass(frozen=True)
class Plan:
    """What one seed simulates and records."""

    venue: str
    symbols: tuple[str, ...]
    streams: tuple[str, ...]
    """Those that faults hit."""
    check: type[Check]
    simulated: tuple[str, ...] = ()
    """Arguments of the simulator of that venue alone."""
    settings: tuple[tuple[str, Any], ...] = ()
    """Of the feed, beside symbols and where the exchange is."""

    def config(self, simulator: Simulator) -> Any:
        """Returns the settings of the feed."""
        settings: dict[str, Any] = {
            "symbols": self.symbols,
            "ws_url": simulator.ws_url,
            **dict(self.settings),
        }
        if self.venue == "binance":
            return BinanceConfig(rest_url=simulator.rest_url, **settings)
        return (MassiveConfig if self.venue == "massive" else AlpacaConfig)(**settings)


def plan_of(venue: str, chance: random.Random) -> Plan:
    """Returns what a seed simulates of its venue."""
    if venue == "binance":
        product = chance.choice(["spot", "usdm"])
        symbols = tuple(f"{coin}USDT" for coin in COINS)
        streams = tuple(f"{s.lower()}@{c}" for s in symbols for c in ("trade", "depth@100ms"))
        connections = chance.choice([1, 1, 2])
        settings = (("product", product), ("connections", connections), ("weight_share", 1.0))
        # What is fetched would leave nothing to compare: `tests/feeds/test_backfill.py` does so.
        settings += (("backfill_s", 0.0),)
        return Plan(venue, symbols, streams, NumberedCheck, ("--product", product), settings)
    is_crypto = chance.choice([False, True])
    mark = "-" if venue == "massive" else "/"
    symbols = tuple(f"{coin}{mark}USD" for coin in COINS) if is_crypto else STOCKS
    if venue == "massive":
        channels = ("XT", "XQ") if is_crypto else ("T", "Q")
        product, encoding = ("crypto" if is_crypto else "stocks"), ()
    else:
        channels = ("trades", "quotes", *(("orderbooks",) if is_crypto else ()))
        product = "crypto" if is_crypto else "iex"
        encoding = (("encoding", chance.choice(["json", "msgpack"])),)
    settings = (("product", product), ("channels", channels), *encoding)
    streams = tuple(f"{channel}.{symbol}" for symbol in symbols for channel in channels)
    return Plan(venue, symbols, streams, EventsCheck, settings=settings)


async def record_until_done(
    config: Any, data: Path, simulator: Simulator, settle_s: float = SETTLE_S
) -> dict[str, Any]:
    """Records until the simulated market is over and what it caused has settled.

    Returns the last status.
    """
    stop, listens = asyncio.Event(), asyncio.Event()

    def report(status: Mapping[str, Any]) -> None:
        if status["connections"]:
            listens.set()

    recorder = asyncio.create_task(
        record(config, data, stop, tape=TapeConfig(interval_ms=1000), report=report)
    )
    try:
        if isinstance(config, ItchConfig):
            # No exchange knows who listens to packets.
            async with asyncio.timeout(START_S_MAX):
                await listens.wait()
            await asyncio.to_thread(simulator.start)
        await until_state(simulator, recorder, lambda state: bool(state["done"]), DONE_S_MAX)
        await until_state(simulator, recorder, lambda state: not state["unread_bytes"], READ_S_MAX)
        await asyncio.sleep(settle_s)
    finally:
        stop.set()
        status = await recorder
    return status


async def until_state(
    simulator: Simulator,
    recorder: asyncio.Task[dict[str, Any]],
    holds: Callable[[dict[str, Any]], bool],
    seconds: float,
) -> None:
    """Waits until the state of the exchange is as it should be, or the recorder ends."""
    deadline = time.monotonic() + seconds
    while not recorder.done():
        state = await asyncio.to_thread(simulator.state)
        if holds(state):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the exchange did not get so far in {seconds:.0f} s: {state}")
        await asyncio.sleep(0.2)


def run_seed(seed: int, only: str = "") -> Outcome:
    """Runs one seed and checks it."""
    outcome = Outcome(seed)
    venue = only or VENUES[seed % len(VENUES)]
    folder = Path(tempfile.mkdtemp(prefix=f"tapeworks-faults-{seed}-"))
    try:
        (run_packets if venue == "itch" else run_frames)(venue, seed, folder, outcome)
    except Exception:
        outcome.complaints.append(traceback.format_exc(limit=-3))
    if not outcome.complaints:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        outcome.complaints.append(f"{venue}; kept in {folder}")
    return outcome


def run_packets(venue: str, seed: int, folder: Path, outcome: Outcome) -> None:
    """Runs a seed of an exchange that sends packets."""
    arguments, config = plan_of_packets(random.Random(seed), seed)
    data, log = folder / "data", folder / "simulator.log"
    with start_simulator(venue, *arguments, log=log, start_s_max=START_S_MAX) as simulator:
        # What is given up is given up after it was waited for, by what comes behind it.
        settle_s = SETTLE_S + config.hold_ms / 1000
        status = asyncio.run(record_until_done(config, data, simulator, settle_s))
        oracle = simulator.oracle()
    told = {"dead_letters": status["dead_letters"], "hold_ms": config.hold_ms}
    for line in oracle["lines"]:
        outcome.hits += line["dropped"] + line["duplicated"] + line["reordered"]
    PacketsCheck(outcome, data, config.name, oracle | told).run()


def run_frames(venue: str, seed: int, folder: Path, outcome: Outcome) -> None:
    """Runs a seed of an exchange with connections."""
    plan = plan_of(venue, random.Random(seed))
    kinds = SERVERS[plan.venue].fault_kinds
    faults = seeded_faults(seed, FAULTS, FAULTS_S, plan.streams, kinds)
    path = folder / "faults.json"
    path.write_text(json.dumps([asdict(fault) for fault in faults]))
    arguments = [*plan.simulated, "--symbols", *plan.symbols, "--seed", str(seed)]
    arguments += ["--rate", "60", "--levels", "150", "--duration", str(DURATION_S)]
    arguments += ["--wait", "--faults", str(path)]
    log = folder / "simulator.log"
    with start_simulator(plan.venue, *arguments, log=log, start_s_max=START_S_MAX) as simulator:
        config = plan.config(simulator)
        data = folder / "data"
        status = asyncio.run(record_until_done(config, data, simulator))
        oracle = simulator.oracle() | {"dead_letters": status["dead_letters"]}
    outcome.hits = sum(int(fault["hits"]) for fault in oracle.get("faults", ()))
    plan.check(outcome, data, source_of(config), oracle).run()


def source_of(config: Any) -> str:
    """Returns the name of the source that a feed writes."""
    return str(config.feed if isinstance(config, BinanceConfig) else config.name)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/faults",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, default=500, help="how many (500)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument(
        "--venue", choices=VENUES, default="", help="this one alone (they take turns)"
    )
    parser.add_argument("--at-once", type=int, default=6, help="how many at the same time (6)")
    arguments = parser.parse_args()
    os.environ.update(KEYS)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    run = functools.partial(run_seed, only=arguments.venue)
    total, bad = Outcome(0), 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(arguments.at_once, len(seeds)), maxtasksperchild=25) as pool:
        for done, outcome in enumerate(pool.imap_unordered(run, seeds), 1):
            for name in ("frames", "trades", "lost_ids", "entries", "hits", "resyncs"):
                setattr(total, name, getattr(total, name) + getattr(outcome, name))
            if outcome.complaints:
                bad += 1
                print(f"seed {outcome.seed}:", *outcome.complaints, sep="\n  ", flush=True)
            if sys.stdout.isatty() or done % 25 == 0:
                end = "\r" if sys.stdout.isatty() else "\n"
                print(f"{done} of {len(seeds)} seeds, {bad} bad", end=end, flush=True)
    print(
        f"{len(seeds)} seeds from {seeds[0]}: {total.hits:,} fault hits, {total.frames:,} frames, "
        f"{total.trades:,} trades stored, {total.lost_ids:,} lost, "
        f"{total.entries:,} ledger entries, {total.resyncs:,} book proofs; "
        f"{bad} seeds with a complaint"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
