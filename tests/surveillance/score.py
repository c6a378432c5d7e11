"""A labelled stream of orders as records, what the rules find in it, and how good that is.

The stream has a row an event: time in ns, action (A added, C cancelled, T filled), side, price in
ticks, size and order id. An episode is one kind of behaviour between two times.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeworks._core import NONE, Processor, Records, dtype_descr, kind_of, numbers

TICK, LOT = 10**9, 10**8
"""Prices and sizes of the stream are whole numbers of ours."""
START = 1_700_000_000_000_000_000
"""When the stream begins, in ns: a day is needed, and any will do."""
ALERT = np.dtype(dtype_descr("alert"))
KINDS = (
    *("locked", "crossed", "stuffing", "layering_like", "wash_like", "price_spike"),
    *("quote_flicker", "momentum_ignition_like", "fat_finger"),
)
# What the stream calls an episode, and the rule that is to find it.
LABELS = {
    "crossed": "crossed",
    "layering": "layering_like",
    "spike": "price_spike",
    "stuffing": "stuffing",
    "wash": "wash_like",
}
ACTIONS = {"A": "add", "C": "delete", "T": "execute"}
SIDES = {"B": 1, "S": 2}


@dataclass(frozen=True)
class Score:
    """How well one rule found the episodes of its kind."""

    kind: str
    hits: int
    misses: int
    false_alerts: int
    false_per_hour: float


def records_of(kind: str, count: int, /, **columns: object) -> npt.NDArray[Any]:
    """Returns records of `kind`; columns that are not given are zero."""
    rows = np.zeros(count, np.dtype(dtype_descr(kind)))
    rows["length"], rows["kind"] = rows.dtype.itemsize // 8, kind_of(kind)
    rows["feed"], rows["instrument"] = 1, 1
    for name, values in columns.items():
        rows[name] = values
    return rows


def definition() -> npt.NDArray[Any]:
    """Returns the definition of the one instrument, whose tick is one."""
    return records_of(
        "definition",
        1,
        symbol=[b"LABELLED"],
        canonical=[b"LABELLED"],
        ts_event=START,
        ts_recv=START,
        tick_size=TICK,
        lot_size=LOT,
        valid_to=NONE,
    )


def orders_of(path: Path) -> npt.NDArray[Any]:
    """Reads a stream as records of orders."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    actions = numbers("order_action")
    ts = START + np.array([int(row["ts_ns"]) for row in rows])
    prices = np.array([int(row["px"]) for row in rows]) * TICK
    sizes = np.array([int(row["size"]) for row in rows]) * LOT
    return records_of(
        "order",
        len(rows),
        ts_event=ts,
        ts_recv=ts,
        sequence=[int(row["seq"]) for row in rows],
        action=[actions[ACTIONS[row["action"]]] for row in rows],
        side=[SIDES[row["side"]] for row in rows],
        price=prices,
        order_price=prices,
        size=sizes,
        order_id=[int(row["order_id"]) for row in rows],
    )


def rules_text(kinds: Iterable[str] = KINDS) -> str:
    """Returns a rule of each kind with its defaults, as the core reads them."""
    return "\n".join(f"{kind}\t{kind}\twarning\t\t" for kind in kinds)


def alerts_of(parts: Iterable[bytes], rules: str, batch: int = 4_096) -> npt.NDArray[Any]:
    """Returns the alerts that `rules` find in whole records, given in batches of so many bytes."""
    processor = Processor("alerts", {"rules": rules})
    made = [memoryview(processor.process(Records.from_bytes(part))) for part in parts]
    return np.concatenate([np.frombuffer(part, ALERT) for part in made])


def closed(alerts: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Returns the last record of each alert of a kind."""
    is_last = alerts["state"] == numbers("alert_state")["closed"]
    return alerts[(alerts["detector"] == kind.encode()) & is_last]


def read_episodes(path: Path) -> dict[str, tuple[int, int]]:
    """Reads the first and last moment of each episode, by the rule that is to find it."""
    with path.open() as file:
        return {
            LABELS[row["label"]]: (START + int(row["min"]), START + int(row["max"]))
            for row in csv.DictReader(file)
        }


def score(
    alerts: npt.NDArray[Any], episodes: Mapping[str, tuple[int, int]], duration_ns: int
) -> list[Score]:
    """Compares alerts with episodes. A hit is an alert that begins within one of its kind."""
    scores = []
    for kind in KINDS:
        starts = [
            int(alert["ts_event"] if kind == "price_spike" else alert["ts_start"])
            for alert in alerts[alerts["state"] == numbers("alert_state")["opened"]]
            if alert["detector"] == kind.encode()
        ]
        first, last = episodes.get(kind, (1, 0))
        inside = sum(first <= start <= last for start in starts)
        wanted = int(kind in episodes)
        false = len(starts) - inside
        hits, per_hour = min(inside, wanted), false / (duration_ns / 3.6e12)
        scores.append(Score(kind, hits, wanted - hits, false, per_hour))
    return scores
