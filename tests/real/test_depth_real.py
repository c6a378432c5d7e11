"""Depth of a recorded book equals the values that an independent reference calculated.

The first 999 rows of the AAPL day of LOBSTER, ten levels a side: the first row is a snapshot, and
each row behind it the update that makes it of the one before. What a row holds is then the book.
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import Processor, Records

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "metrics"
PRICE, SIZE = 10**5, 10**8
METRIC, LEVEL = (np.dtype(_core.dtype_descr(kind)) for kind in ("metric", "level"))
CHANNEL, CODE = _core.numbers("channel"), _core.numbers("marker_code")
SIDES = _core.numbers("side")
SETTINGS = {
    "sets": "depth,mlofi",
    "windows_ms": [86_400_000],
    "interval_ms": 0,
    "partial": 1,
    "bands_bps": [5, 10, 25, 50],
    "levels": [5, 10],
    "sizes": [100 * SIZE, 500 * SIZE, 1_000 * SIZE, 5_000 * SIZE],
}

pytestmark = pytest.mark.usefixtures("real_data")

Book = dict[tuple[str, int], int]


def row_of(kind: str, **fields: object) -> bytes:
    row = np.zeros(1, np.dtype(_core.dtype_descr(kind)))
    row["length"], row["kind"] = row.dtype.itemsize // 8, _core.kind_of(kind)
    row["feed"], row["instrument"] = 1, 1
    for name, value in fields.items():
        row[name] = value
    return row.tobytes()


def levels(changes: Book, channel: str, number: int, ts: int) -> bytes:
    """Returns the levels of one event, which are all that it changes."""
    last = len(changes)
    return b"".join(
        row_of(
            "level",
            price=price * PRICE,
            size=size * SIZE,
            side=SIDES[side],
            channel=CHANNEL[channel],
            sequence=number,
            previous=number - 1,
            ts_event=ts,
            ts_recv=ts,
            flags=int(at == last),
        )
        for at, ((side, price), size) in enumerate(changes.items(), 1)
    )


def books() -> tuple[list[int], list[Book]]:
    """Returns the times and books of all rows."""
    name = "lobster/AAPL_2012-06-21_{}_10_head.csv.gz"
    with gzip.open(DATA / name.format("message"), "rt") as file:
        whole = [line.split(",")[0].partition(".") for line in file]
    times = [int(seconds) * 10**9 + int(rest.ljust(9, "0")) for seconds, _, rest in whole]
    found = []
    with gzip.open(DATA / name.format("orderbook"), "rt") as file:
        for line in file:
            cells = [int(text) for text in line.split(",")]
            book: Book = {}
            for at in range(0, len(cells), 4):
                book["ask", cells[at]] = cells[at + 1]
                book["bid", cells[at + 2]] = cells[at + 3]
            found.append({place: size for place, size in book.items() if size > 0})
    return times, found


def recorded(times: list[int], found: list[Book]) -> tuple[bytes, np.ndarray]:
    """Returns the records, and of each row how many updates there were up to it."""
    first = {
        "sequence": 1,
        "ts_event": times[0],
        "ts_recv": times[0],
        "channel": CHANNEL["snapshot"],
    }
    parts = [row_of("definition", tick_size=100 * PRICE, symbol=b"AAPL")]
    parts.append(row_of("marker", code=CODE["snapshot_begin"], first=1, count=20, **first))
    parts.append(levels(found[0], "snapshot", 1, times[0]))
    parts.append(row_of("marker", code=CODE["snapshot_end"], first=1, count=20, **first))
    number, updates = 1, [0]
    for ts, before, after in zip(times[1:], found, found[1:], strict=False):
        changes = dict.fromkeys(before.keys() - after.keys(), 0)
        changes |= {place: size for place, size in after.items() if before.get(place) != size}
        if changes:
            number += 1
            parts.append(levels(changes, "depth", number, ts))
        updates.append(number - 1)
    return b"".join(parts), np.array(updates)


def test_a_band_that_ends_behind_the_snapshot_is_not_complete() -> None:
    # Every tenth row as a snapshot that is cut where it has ten levels, of an instrument each: what
    # it holds of a band is the whole of it where its last level lies outside.
    times, found = books()
    with (DATA / "expected" / "AAPL_L10_depth_rows.csv").open() as file:
        table = list(csv.DictReader(file))
    parts = []
    for number, row in enumerate(table, 1):
        book, ts = found[int(row["row"])], times[int(row["row"])]
        sides = [side for side, _ in book]
        cut = (sides.count("bid") >= 10) + 2 * (sides.count("ask") >= 10)
        of = {"instrument": number, "sequence": 1, "ts_event": ts, "ts_recv": ts}
        ends = {"first": 1, "last": 1, "count": len(book), "channel": CHANNEL["snapshot"]} | of
        told = levels(book, "snapshot", 1, ts)
        rows = np.frombuffer(told, LEVEL).copy()
        rows["instrument"] = number
        verified = {"channel": CHANNEL["depth"], "first": 2, "last": 2, "ts_start": 1}
        parts += [
            row_of("marker", code=CODE["snapshot_begin"], state=cut, **ends),
            rows.tobytes(),
            row_of("marker", code=CODE["snapshot_end"], state=cut, **ends),
            row_of("marker", code=CODE["empty_update"], **(of | {"sequence": 2} | verified)),
        ]
    out = Processor("metrics", SETTINGS).process(Records.from_bytes(b"".join(parts)))
    rows = np.frombuffer(out, METRIC)
    checked = set()
    for x in (5, 10, 25, 50):
        for side in ("bid", "ask"):
            of_band, depth = (
                rows[rows["metric"] == f"{name}_{side}_{x}bps".encode()]
                for name in ("depth_complete", "depth")
            )
            wanted = np.array([float(row[f"{side}_complete_{x}bps"]) for row in table])
            sizes = np.array([float(row[f"{side}_depth_{x}bps"]) for row in table])
            np.testing.assert_array_equal(of_band["value"], wanted)
            np.testing.assert_array_equal(depth["value"], sizes)
            # The depth itself says so, too.
            np.testing.assert_array_equal(depth["flags"] & 32 == 0, wanted == 1)
            checked |= set(wanted.tolist())
    assert checked == {0.0, 1.0}


def test_depth_cost_shape_and_flow_of_levels() -> None:
    # Every tenth row: bands, costs, slopes, imbalances; and what each row adds to each level.
    times, found = books()
    data, updates = recorded(times, found)
    out = Processor("metrics", SETTINGS).process(Records.from_bytes(data))
    rows = np.frombuffer(out, METRIC)
    # The first update verifies the snapshot; from then on each makes a sample.
    samples = np.flatnonzero(rows["metric"] == b"depth_bid_5bps")
    assert len(samples) == updates[-1]
    values = {
        name.decode(): rows["value"][rows["metric"] == name]
        for name in set(rows["metric"].tolist())
    }
    with (DATA / "expected" / "AAPL_L10_depth_rows.csv").open() as file:
        table = [row for row in csv.DictReader(file) if updates[int(row["row"])] > 0]
    picked = updates[[int(row["row"]) for row in table]] - 1
    pairs = {f"imbalance_L{n}": f"imbalance_L{n}" for n in (5, 10)}
    for side, action in (("bid", "sell"), ("ask", "buy")):
        pairs |= {f"depth_{side}_{x}bps": f"{side}_depth_{x}bps" for x in (5, 10, 25, 50)}
        pairs |= {f"fill_{action}_{q}": f"{action}_{q}_filled" for q in (100, 500, 1000, 5000)}
        pairs |= {f"cost_{action}_{q}": f"{action}_{q}_cost_bps" for q in (100, 500, 1000, 5000)}
        pairs |= {
            f"slope_ns_{side}": f"{side}_ns_slope",
            f"slope_depth_{side}": f"{side}_depth_slope",
        }
    for ours, theirs in pairs.items():
        wanted = np.array([float(row[theirs]) if row[theirs] else np.nan for row in table])
        np.testing.assert_allclose(values[ours][picked], wanted, rtol=1e-9, err_msg=ours)
    for rank in range(1, 11):
        total = values[f"mlofi_{rank}_86400s"]
        flow = np.diff(total, prepend=0)
        moved = (
            updates[[int(row["row"]) for row in table]]
            > updates[[int(row["row"]) - 1 for row in table]]
        )
        wanted = np.array([float(row[f"mlofi_{rank}"]) for row in table])
        assert np.where(moved, flow[picked], 0).round(6).tolist() == wanted.tolist()
