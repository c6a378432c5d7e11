"""Surveillance on the labelled stream: the alerts are those of an independent reference.

Ten minutes of order events with five episodes that were put in. Beside hits and misses, each alert
has the times and the evidence that the reference has.
"""

import json
from pathlib import Path

import pytest
from tests.surveillance.score import (
    LABELS,
    LOT,
    START,
    TICK,
    alerts_of,
    closed,
    definition,
    orders_of,
    read_episodes,
    rules_text,
    score,
)

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "metrics"
EVENTS = DATA / "synthetic" / "labelled_l3.csv.gz"
EPISODES = DATA / "synthetic" / "labelled_l3_episodes.csv"

pytestmark = pytest.mark.usefixtures("real_data")


@pytest.fixture(scope="module")
def orders():
    return orders_of(EVENTS)


@pytest.fixture(scope="module")
def alerts(orders):
    return alerts_of([definition().tobytes(), orders.tobytes()], rules_text())


@pytest.fixture(scope="module")
def expected():
    return json.loads((DATA / "expected" / "anomalies.json").read_text())["alerts"]


def spans(found) -> list[tuple[int, int]]:
    return [(int(one["ts_start"]) - START, int(one["ts_end"]) - START) for one in found]


def test_times_and_evidence_are_those_of_the_reference(alerts, expected):
    # One alert of each kind that was put in; times to the nanosecond.
    [(_, start, end)] = expected["crossed_locked"]
    assert spans(closed(alerts, "crossed")) == [(start, end)]

    [(start, end, peak)] = expected["stuffing"]
    found = closed(alerts, "stuffing")
    assert (spans(found), found["count"].tolist()) == ([(start, end)], [peak])

    [(start, end, _, size, levels)] = expected["layering"]
    found = closed(alerts, "layering_like")
    assert spans(found) == [(start, end)]
    assert (int(found["size"][0]) // LOT, int(found["count"][0])) == (size, levels)
    assert found["side"].tolist() == [2]

    [(start, end, run, size)] = expected["wash_like"]
    found = closed(alerts, "wash_like")
    assert spans(found) == [(start, end)]
    assert (int(found["count"][0]), int(found["size"][0]) // LOT) == (run, size)

    [(start, price, median, back)] = expected["price_spike"]
    found = closed(alerts, "price_spike")
    assert spans(found) == [(start, back)]
    assert int(found["price"][0]) // TICK == price
    assert f"median={median:.0f} confirmed" in found["detail"][0].decode()


def test_no_rule_is_worse_than_the_reference(alerts, orders):
    # Every episode is found, and nothing else is told in ten minutes.
    scores = score(alerts, read_episodes(EPISODES), int(orders["ts_event"][-1]) - START)
    assert {one.kind for one in scores if one.hits} == set(LABELS.values())
    assert [(one.kind, one.misses, one.false_alerts) for one in scores] == [
        (one.kind, 0, 0) for one in scores
    ]


def test_evidence_names_the_records_that_caused_it(alerts, orders):
    # Offsets are those of the tape: the definition is its first record.
    [wash] = closed(alerts, "wash_like")
    rows = orders[int(wash["first_offset"]) - 1 : int(wash["last_offset"])]
    fills = rows[rows["action"] == 4]
    assert len(fills) == 8
    assert set(fills["size"].tolist()) == {777 * LOT}
