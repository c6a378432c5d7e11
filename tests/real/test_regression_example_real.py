"""The example computes of a recorded day what the reference finds of it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from tests.real.truth import CLOSE, DATA, Day, expected

import tapeworks as tw
from tapeworks import _core

ROOT = Path(__file__).resolve().parents[2]
# The day of the recording, in New York; times of the file count from its midnight.
MIDNIGHT = 1_340_251_200 * 10**9

pytestmark = [pytest.mark.usefixtures("real_data"), pytest.mark.slow]


def test_regression_of_a_recorded_day_is_that_of_the_reference(spine) -> None:
    # All quotes and trades of the day, recorded, stored and asked for as a user does.
    day = Day(DATA)
    quote = np.dtype(_core.dtype_descr("quote"))
    rows = np.frombuffer(day.records[-quote.itemsize :], quote).copy()
    rows["ts_event"] = CLOSE + 1
    records = np.frombuffer(day.records + rows.tobytes(), np.uint8).copy()
    shift(records)
    spine.append(records)
    spine.drain()
    made = runpy.run_path(str(ROOT / "examples" / "flow_regression.py"))["ofi_regression"]
    with tw.open(spine.path) as lake:
        found = made(lake, "AMZN", 0.01)
    wanted = expected("AMZN_l1_summary.json")["ofi_regression"]["10s"]["whole_day"]
    for name, value in wanted.items():
        assert abs(getattr(found, name) / value - 1) < 1e-9, name


def shift(records: np.ndarray) -> None:
    """Moves times of the day to times since the epoch, in place."""
    header = np.dtype(_core.dtype_descr("quote"))
    names = ("ts_event", "ts_recv")
    places = [header.fields[name][1] for name in names]
    at = 0
    while at < len(records):
        for place in places:
            one = records[at + place : at + place + 8].view(np.int64)
            one += MIDNIGHT if one[0] else MIDNIGHT + 34_200 * 10**9
        at += int(records[at]) * 8
