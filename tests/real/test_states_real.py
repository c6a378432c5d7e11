"""State vectors of a recorded day, and their scaling, equal those of an independent reference."""

import numpy as np
import pytest
from tests.real.truth import CLOSE, DATA, OPEN, Day, close, expected, expected_rows

from tapeworks.research import states

pytestmark = [pytest.mark.usefixtures("real_data"), pytest.mark.slow]

SECOND = 10**9
EVERY = 20


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """The vectors of each five seconds, from a minute behind the open on."""
    day = Day(DATA)
    wanted = expected("AMZN_state_vector.json")
    at = np.arange(OPEN + 60 * SECOND, CLOSE + 1, wanted["step_ns"])
    assert len(at) == wanted["decision_times"]
    assert list(states.COMPONENTS) == wanted["components"]
    traded = day.is_trade
    return states.vectors_of(
        at,
        states.Quotes(day.ts, day.bid, day.bid_size, day.ask, day.ask_size),
        states.Trades(day.ts[traded], day.size[traded], -day.direction[traded]),
        100,
        adds=day.ts[day.kind == 1],
        cancels=day.ts[np.isin(day.kind, (2, 3))],
    )


@pytest.fixture(scope="module")
def scaled(vectors: np.ndarray) -> np.ndarray:
    given = expected("AMZN_state_vector.json")["parameters"]
    return states.scaled(vectors, given["scale_samples"], given["scale_min"])


def test_every_component_of_every_twentieth_vector(vectors: np.ndarray) -> None:
    rows = expected_rows("AMZN_state_raw.csv")
    for at, name in enumerate(states.COMPONENTS):
        close(vectors[::EVERY, at], [row[name] for row in rows])


def test_scaling_knows_the_vectors_before_alone(vectors: np.ndarray, scaled: np.ndarray) -> None:
    rows = expected_rows("AMZN_state_z.csv")
    for at, name in enumerate(states.COMPONENTS):
        close(scaled[::EVERY, at], [row[name] for row in rows])
    wanted = expected("AMZN_state_vector.json")
    known = np.isfinite(scaled).all(axis=1)
    assert (~known).sum() == wanted["warm_up_null_rows"]
    np.testing.assert_allclose(scaled[known].mean(axis=0), wanted["z_mean"], rtol=1e-9)
    clipped = (np.abs(scaled[known]) >= wanted["parameters"]["clip"]).sum(axis=0)
    assert (clipped / len(scaled)).tolist() == wanted["z_share_clipped"]
    # With the future deleted, what was before it is the same.
    np.testing.assert_array_equal(states.scaled(vectors[:500]), scaled[:500])


def test_nearest_states_are_those_of_the_exact_search(scaled: np.ndarray) -> None:
    wanted = expected("AMZN_state_vector.json")["nearest_10_of_row_4000"]
    near = states.nearest(scaled, 4000, 10)
    assert near.rows.tolist() == wanted["rows"]
    close(near.squared, wanted["squared_distance"])
    # Those whose outcome is not known yet may be left out.
    assert (states.nearest(scaled, 4000, 10, until=1500).rows < 1500).all()
