"""A source has one name: what is recorded under it is derived, stored and found under it."""

import json
import time
from typing import Any

import pytest
from tests.arrivals import records_all, wait

from tapeworks.simulators import start_simulator

pytestmark = pytest.mark.timeout(180)

TABLES = ("trades", "quotes", "bars")


@pytest.mark.slow
def test_source_that_is_renamed_is_derived_stored_and_queried(tape: Any):
    # `source = "mine"` in the settings: tapes, states, lake and ledger all bear that name, and no
    # other folder is made.
    with start_simulator(
        "binance", "--symbols", "BTCUSDT", "--rate", "60", "--levels", "50"
    ) as exchange:
        (tape.folder / "tapeworks.toml").write_text(
            '[feeds.binance-spot]\nsymbols = ["btcusdt"]\nsource = "mine"\n'
            f'ws_url = "{exchange.ws_url}"\nrest_url = "{exchange.rest_url}"\n'
        )
        assert "feed mine" in tape.run("config", "check")
        process = tape.start("up")
        lake = tape.folder / "data" / "lake"
        wait(lambda: all((lake / table).is_dir() for table in TABLES), process)
        wait(lambda: records_all(tape.folder / "data", source="mine"), process)
        shown, errors = tape.interrupt(process)
        assert process.returncode == 0, errors
    assert shown.splitlines()[-1].startswith("mine: ")
    data = tape.folder / "data"
    assert [path.name for path in (data / "tape").iterdir()] == ["mine"]
    assert [path.name for path in (data / "state").iterdir()] == ["mine"]
    topics = {path.name for path in (data / "tape" / "mine").iterdir()}
    assert topics >= {"market-data.raw", "market-data.book", "market-data.bars"}
    sql = "select venue, count(*) > 0 as some from {} group by venue"
    for table in TABLES:
        rows = tape.answer("query", sql.format(table), "--format", "json")
        assert rows == [{"venue": "mine", "some": True}]
    assert (data / "lake" / "trades" / "venue=mine").is_dir()


def settings(exchange: Any, **more: str) -> str:
    """The settings of one source, `binance-spot` or as `source` says."""
    lines = [f'{key} = "{value}"' for key, value in more.items()]
    urls = [f'ws_url = "{exchange.ws_url}"', f'rest_url = "{exchange.rest_url}"']
    return "\n".join(["[feeds.binance-spot]", 'symbols = ["BTCUSDT"]', *urls, *lines]) + "\n"


@pytest.mark.slow
def test_second_recorder_of_a_source_is_refused_whole_and_at_once(tape: Any):
    # Whatever would write the source says who does, starts nothing, changes nothing and exits with
    # 1; another source in the same folder is recorded beside it.
    with start_simulator(
        "binance", "--symbols", "BTCUSDT", "--rate", "60", "--levels", "50"
    ) as exchange:
        (tape.folder / "tapeworks.toml").write_text(settings(exchange))
        urls = ("--set", f"ws_url={exchange.ws_url}", "--set", f"rest_url={exchange.rest_url}")
        (tape.folder / "capture.txt").write_text("1763700000000000000 {}\n")
        (tape.folder / "data").mkdir()
        first = tape.start("up")
        assert first.stdout is not None
        assert first.stdout.readline().startswith("recording into data")
        told = f"tape: binance-spot in data is written already, by process {first.pid}"
        for words in (
            ["up"],
            ["record", "binance", "BTCUSDT", *urls],
            ["import", "binance-spot", "capture.txt"],
            ["worker", "recorder", "binance-spot"],
        ):
            assert tape.refuse(*words, code=1).startswith(told), words
        other = tape.start("record", "binance", "BTCUSDT", *urls, "--set", "source=b")
        data = tape.folder / "data"
        for source, process in (("b", other), ("binance-spot", first)):
            wait((data / "lake" / "trades" / f"venue={source}").is_dir, process)
            wait(lambda source=source: records_all(data, source=source), process)
        beside, errors = tape.interrupt(other)
        assert other.returncode == 0, errors
        assert "b: " in beside.splitlines()[-1]
        _, errors = tape.interrupt(first)
        assert first.returncode == 0, errors
        assert "restart" not in errors
    assert tape.answer("query", COUNTS, "--format", "json") == [
        {"venue": "b", "doubled": 0, "some": True},
        {"venue": "binance-spot", "doubled": 0, "some": True},
    ]


COUNTS = (
    "select venue, (count(*) - count(distinct trade_id))::int as doubled, count(*) > 0 as some "
    "from trades group by venue order by venue"
)


@pytest.mark.slow
def test_demo_does_not_remove_what_another_demo_writes(tape: Any):
    # The second one is refused before it makes room.
    first = tape.start("demo", "--seconds", 20, "--json")
    lake = tape.folder / "demo" / "lake" / "trades"
    until = time.monotonic() + 60
    while not lake.is_dir():
        assert time.monotonic() < until
        time.sleep(0.1)
    line = tape.refuse("demo", "--seconds", 1, "--json", code=1)
    assert "another demo or recorder uses demo" in line
    assert str(first.pid) in line
    shown, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    assert json.loads(shown)["holds"]
