"""The recorder against the simulated Binance: what its oracle knows to be lost is in the ledger."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tapeworks._core import TapeReader
from tapeworks.feeds import session as recorder
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.simulators.base import Simulator, start_simulator

TRADE, MARKER = 1, 8
GAP, DEAD_LETTER = 3, 9
SEQUENCE = 1
TRADES = {"spot": "trade", "usdm": "aggTrade", "coinm": "aggTrade"}
SYMBOLS = {
    "spot": ("BTCUSDT", "ETHUSDT"),
    "usdm": ("BTCUSDT", "ETHUSDT"),
    "coinm": ("BTCUSD_PERP", "ETHUSD_PERP"),
}


def record_until_done(
    simulator: Simulator, data: Path, **fields: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Records a simulator until everything was sent; returns the last status and the oracle."""
    config = BinanceConfig(
        symbols=SYMBOLS[fields.get("product", "spot")],
        source="x",
        ws_url=simulator.ws_url,
        rest_url=simulator.rest_url,
        # The ledger is compared with what was lost: nothing of it is fetched.
        backfill_s=0.0,
        **fields,
    )

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        stop = asyncio.Event()
        task = asyncio.create_task(recorder.record(config, data, stop))
        await asyncio.to_thread(simulator.wait_done, 60.0)
        await asyncio.sleep(1.0)
        oracle = await asyncio.to_thread(simulator.oracle)
        stop.set()
        return await task, oracle

    return asyncio.run(main())


def tally(data: Path) -> tuple[list[tuple[int, int]], int, int]:
    """Returns (instrument, id) of all trades, the ids missing by the ledger, and dead letters."""
    reader = TapeReader(data / "tape" / "x" / "market-data.normalized")
    trades, missing, dead = [], 0, 0
    while (batch := reader.read(100_000)) is not None:
        view, at = bytes(batch), 0
        while at < len(view):
            record = view[at : at + view[at] * 8]
            at += len(record)
            if record[1] == TRADE:
                instrument = int.from_bytes(record[4:8], "little")
                trades.append((instrument, int.from_bytes(record[24:32], "little")))
            elif record[1] == MARKER and record[32] == DEAD_LETTER:
                dead += 1
            elif record[1] == MARKER and record[32:34] == bytes((GAP, SEQUENCE)):
                # Channels 1 and 2 are trades and aggregates.
                is_trade = record[35] in (1, 2)
                missing += int.from_bytes(record[36:40], "little") * is_trade
    return trades, missing, dead


def lost_trades(oracle: dict[str, Any], channel: str) -> int:
    losses = [loss for loss in oracle["losses"] if loss["stream"].endswith(f"@{channel}")]
    return sum(loss["count"] for loss in losses if loss["after"] is not None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "product",
    ["spot", *(pytest.param(name, marks=pytest.mark.slow) for name in ("usdm", "coinm"))],
)
def test_what_the_venue_dropped_is_in_the_ledger_and_nothing_else(product, tmp_path):
    # Dropped, doubled and malformed frames: every trade that was given once is there once, every
    # other one is counted by a gap, and the books are continuous in the end.
    trades = TRADES[product]
    with start_simulator(
        "binance",
        "--product",
        product,
        "--symbols",
        *SYMBOLS[product],
        "--seed",
        "11",
        "--duration",
        "8",
        "--wait",
        "--rate",
        "100",
    ) as simulator:
        simulator.fault("drop", stream=f"*@{trades}", at_s=2, count=3)
        simulator.fault("drop", stream=f"{SYMBOLS[product][0].lower()}@depth*", at_s=3, count=1)
        simulator.fault("duplicate", stream=f"*@{trades}", at_s=4, count=5)
        simulator.fault("malformed", stream="*@bookTicker", at_s=5, count=2)
        status, oracle = record_until_done(
            simulator, tmp_path, product=product, channels=(trades, "bookTicker", "depth")
        )
    found, missing, dead = tally(tmp_path)
    sent = sum(
        of["count"] for name, of in oracle["delivered"].items() if name.endswith(f"@{trades}")
    )
    assert len(found) == len(set(found)) == sent
    assert missing == lost_trades(oracle, trades) == 3
    assert dead == status["dead_letters"] > 0
    assert status["unsynchronised"] == []


@pytest.mark.slow
def test_two_lines_carry_what_one_of_them_lost(tmp_path):
    # Frames withheld from one connection come on the other: complete, each once, no gap.
    with start_simulator(
        "binance", "--seed", "12", "--duration", "5", "--wait", "--settle", "1.5", "--rate", "100"
    ) as simulator:
        simulator.fault("drop", stream="*@trade", connection=1, at_s=1, count=20)
        simulator.fault("drop", stream="*@trade", connection=2, at_s=2.5, count=20)
        simulator.fault("cut", connection=1, at_s=3.2)
        status, oracle = record_until_done(simulator, tmp_path, connections=2)
    found, missing, _ = tally(tmp_path)
    sent = sum(of["count"] for name, of in oracle["delivered"].items() if name.endswith("@trade"))
    assert len(found) == len(set(found)) == sent
    assert missing == 0
    assert status["duplicates"] > 0
    assert status["reconnects"] == 1
