"""What breaks the stream of an instrument: what its metrics say before it, and from then on."""

import math

import numpy as np
import pytest
from tests.views.test_metric_mistakes import CENT, FIRST, METRIC, SECOND, quote, row

from tapeworks import _core
from tapeworks._core import Processor, Records


def measured(records, **settings):
    processor, made = Processor("metrics", settings), []
    for part in (records[:-1], records[-1:]):
        made.append(processor.process(Records.from_bytes(b"".join(part))))
        state = processor.snapshot()
        processor = Processor("metrics", settings)
        processor.restore(state)
    return np.frombuffer(b"".join(map(bytes, made)), METRIC)


@pytest.mark.parametrize("end", ["end", "halt", "gap"])
def test_a_break_takes_nothing_from_what_was_known_before_it(end):
    # Quotes for 100 s, and silence until the stream breaks at 5,000.5 s.
    told = [quote(at + 0.2, 10_000 * CENT, 10_002 * CENT) for at in range(100)]
    code = _core.numbers("marker_code")
    at = 5_000.5
    broken = {
        "end": row("marker", at, instrument=0, code=code["end_of_session"]),
        "halt": row("status", at, status=2),
        "gap": row(
            *("marker", at + 7),
            code=code["gap"],
            state=_core.numbers("gap_state")["closed"],
            channel=_core.numbers("channel")["quote"],
            ts_start=FIRST + round(at * SECOND),
        ),
    }[end]
    # Those of another instrument say how far the time is.
    others = [
        row("marker", at, instrument=2, code=code["heartbeat"]) for at in range(101, 5_000, 50)
    ]
    settings = {"sets": "l1", "windows_ms": [10_000], "interval_ms": 1_000}
    whole = measured([*told, *others, broken, quote(6_000.2, CENT, 2 * CENT)], **settings)
    rows = whole[(whole["metric"] == b"mid") & (whole["instrument"] == 1)]
    moments = [(int(one["ts_event"]) - FIRST) / SECOND for one in rows]
    assert len(set(moments)) == len(moments)
    found = dict(zip(moments, rows["value"], strict=True))
    assert all(math.isclose(found[at], 100.01) for at in found if at < 5_000.5)
    # Once more right before the break, and nulls at its time.
    assert 5_000.0 in found
    assert math.isnan(found[5_000.5])
    assert 110.0 in found
    assert 111.0 not in found
