"""Some modes of the hostile venue; `scripts/campaign hostile_venue` has all of them."""

import pytest
from tests.campaigns.hostile_venue import play
from tests.hostile.modes import MODES

QUICK = ("cut_body",)
SLOW = ("far_snapshots", "empty_fragments", "redirects")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_recorder_outlives_the_attack_and_loses_nothing_in_silence(name, tmp_path):
    # An attack of some seconds: bounded memory, no end, and afterwards every trade that was sent is
    # on the tape or in the ledger, with verified books.
    assert play(MODES[name], len(name), tmp_path).complaints == []
