"""A source has one name: what is recorded under it is derived, stored and found under it."""

from typing import Any

import pytest

from tapeworks.simulators import start_simulator

pytestmark = pytest.mark.timeout(180)


def test_source_that_is_renamed_is_derived_stored_and_queried(tape: Any):
    # `source = "mine"` in the settings: tapes, states, lake and ledger all bear that name, and no
    # other folder is made.
    with start_simulator("--symbols", "BTCUSDT", "--rate", "60", "--levels", "50") as exchange:
        (tape.folder / "tapeworks.toml").write_text(
            '[feeds.binance-spot]\nsymbols = ["btcusdt"]\nsource = "mine"\n'
            f'ws_url = "{exchange.ws_url}"\nrest_url = "{exchange.rest_url}"\n'
        )
        assert "feed mine" in tape.run("config", "check")
        shown = tape.run("up", "--seconds", "6")
    assert shown.splitlines()[-1].startswith("mine: ")
    data = tape.folder / "data"
    assert [path.name for path in (data / "tape").iterdir()] == ["mine"]
    assert [path.name for path in (data / "state").iterdir()] == ["mine"]
    topics = {path.name for path in (data / "tape" / "mine").iterdir()}
    assert topics >= {"market-data.raw", "market-data.book", "market-data.bars"}
    sql = "select venue, count(*) > 0 as some from {} group by venue"
    for table in ("trades", "quotes", "bars"):
        rows = tape.answer("query", sql.format(table), "--format", "json")
        assert rows == [{"venue": "mine", "some": True}]
    assert (data / "lake" / "trades" / "venue=mine").is_dir()
