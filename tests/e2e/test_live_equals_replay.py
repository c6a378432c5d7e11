"""What was made live equals what the raw tape gives again, byte for byte, at any batch size.

Both products of a simulated exchange, two connections each, with frames dropped, repeated,
swapped, broken and late, and connections cut, are recorded by `tape up`. Then everything is made
anew from the raw tapes alone, in steps of one item, seven and thousands; one hash a tape is equal.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.arrivals import wait_until_recorded

import tapeworks as tw
from tapeworks._core import metric_sets
from tapeworks.processors.derive import NORMALIZE, RAW, STEPS, Derivation
from tapeworks.settings import MetricSetsConfig, ProcessorsConfig
from tapeworks.simulators import start_simulator
from tapeworks.tape import TapeConfig, TapeReader, tape_hash
from tapeworks.topics import ALERTS, NEWS

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

PRODUCTS = ("spot", "usdm")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
DURATION_S = 5
FAULTS: list[dict[str, object]] = [
    {"kind": "drop", "at_s": 1.2, "stream": "btcusdt@trade", "count": 5},
    {"kind": "drop", "at_s": 1.5, "stream": "ethusdt@depth*", "count": 2},
    {"kind": "malformed", "at_s": 1.8, "stream": "ethusdt@trade", "count": 3},
    {"kind": "duplicate", "at_s": 2.0, "stream": "btcusdt@bookTicker", "count": 4},
    {"kind": "reorder", "at_s": 2.2, "stream": "btcusdt@depth*", "count": 2},
    {"kind": "delay", "at_s": 2.5, "stream": "btcusdt@trade", "connection": 1, "duration_s": 0.5},
    {"kind": "cut", "at_s": 3.0, "connection": 1},
    {"kind": "cut", "at_s": 3.5},
    {"kind": "gap", "at_s": 4.2, "stream": "ethusdt@trade", "count": 7},
]


# All that is measured of a market.
SETS = tuple(name for name, _ in metric_sets())


class Again:
    """The settings of the live run with another size of steps, and those of `normalize`."""

    def __init__(self, batch_items: int, feed: str) -> None:
        self.batch_items = batch_items
        self._feed = feed
        measured = MetricSetsConfig(sets=SETS).settings("trade")
        self._live = ProcessorsConfig(measured=measured)
        self.own = self._live.own
        self.own_rules = self._live.own_rules

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` by name."""
        if processor == NORMALIZE.processor:
            return {"feed": self._feed}
        return self._live.settings(processor)


@pytest.fixture(scope="module")
def live(command: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a live run of both products."""
    tape = command(tmp_path_factory.mktemp("live"))
    plan = tape.folder / "faults.json"
    plan.write_text(json.dumps(FAULTS))
    shared = ["--symbols", *SYMBOLS, "--duration", str(DURATION_S), "--wait", "--settle", "1"]
    shared += ["--rate", "400", "--levels", "200", "--faults", str(plan)]
    with (
        start_simulator("binance", *shared, "--product", "spot", "--seed", "3") as spot,
        start_simulator("binance", *shared, "--product", "usdm", "--seed", "4") as usdm,
    ):
        (tape.folder / "tapeworks.toml").write_text(
            "".join(
                f'[feeds.binance-{product}]\nsymbols = ["BTCUSDT", "ETHUSDT"]\n'
                f'product = "{product}"\nconnections = 2\n'
                f'ws_url = "{simulator.ws_url}"\nrest_url = "{simulator.rest_url}"\n'
                for product, simulator in zip(PRODUCTS, (spot, usdm), strict=True)
            )
            + f"[metrics]\nsets = {json.dumps(SETS)}\n"
        )
        up = tape.start("up")
        for simulator in (spot, usdm):
            simulator.wait_done(60)
        for product, simulator in zip(PRODUCTS, (spot, usdm), strict=True):
            wait_until_recorded(simulator, tape.folder / "data", f"binance-{product}")
        _, errors = tape.interrupt(up)
        assert up.returncode == 0, errors
    return tape.folder / "data"


def test_live_run_had_something_to_be_equal_about(live: Path):
    # Losses, broken frames, books that broke and were verified again: else equality says little.
    lake = tw.open(live)
    for product in PRODUCTS:
        source = f"binance-{product}"
        gaps = Counter(lake.gaps(source=source).to_arrow().column("cause").to_pylist())
        assert gaps["sequence"] >= 3
        counts = {
            table: lake.sql(f"select count(*) as n from {table} where venue = '{source}'")
            for table in (
                "trades",
                "quotes",
                "book_levels",
                "bars",
                "ticks",
                "metrics",
                "dead_letters",
            )
        }
        rows = {table: result.to_pylist()[0]["n"] for table, result in counts.items()}
        assert rows.pop("dead_letters") >= 3
        assert min(rows.values()) > 10, rows


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("batch_items", [1, 7, 4096])
def test_tapes_rebuilt_from_the_raw_one_are_the_same(
    live: Path, tmp_path: Path, product: str, batch_items: int
):
    # Records and all that is derived of them into a fresh folder; one hash a tape.
    source = f"binance-{product}"
    again = tmp_path / "tape" / source
    again.mkdir(parents=True)
    (again / RAW).symlink_to(live / "tape" / source / RAW)
    # The venue tells no news; of alerts, `test_up_alerts.py` says the same.
    steps = (NORMALIZE, *(step for step in STEPS if step.target not in (NEWS, ALERTS)))
    settings = Again(batch_items, source)
    derivation = Derivation(settings, TapeConfig("never"), tmp_path, source, steps)
    assert derivation.drain(120.0)
    derivation.close()
    hashes = {step.target: tape_hash(again / step.target) for step in steps}
    assert hashes == {
        step.target: tape_hash(live / "tape" / source / step.target) for step in steps
    }
    assert TapeReader(again / "market-data.normalized").end > 1_000
