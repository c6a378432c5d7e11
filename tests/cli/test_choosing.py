"""A symbol that means several instruments, asked for on the command line."""

import importlib
import json

import pytest
from tests.views.test_choices import FUTURES, KRAKEN, SPOT, folder

from conftest import Command
from tapeworks.cli.app import COMMANDS
from tapeworks.cli.completion import complete

CHOOSERS = {"source", "exchange", "product"}


@pytest.fixture
def tape(tmp_path, maker):
    """The command line, and BTCUSDT of two sources in its data folder."""
    folder(tmp_path / "data", maker, SPOT, FUTURES)
    command = Command(tmp_path)
    yield command
    command.close()


def commands_by_symbol():
    """Returns the commands that complete symbols, and the names of what each takes."""
    found = {}
    for name, entry in COMMANDS.items():
        command = importlib.import_module(f"tapeworks.cli.{entry.module}").app.build(name)
        for one in [command, *getattr(command, "commands", {}).values()]:
            # What is recorded, or shown, is no choice among what was.
            names = {parameter.name for parameter in one.params}
            if names & {"symbol", "symbols"} and name not in ("record", "demo", "import"):
                found[one.name] = names
    return found


def test_every_command_that_takes_a_symbol_takes_what_chooses(tape):
    # What the message of an ambiguous symbol advises must be there.
    found = commands_by_symbol()
    assert {"book", "replay", "export", "gaps"} <= found.keys()
    assert {name: CHOOSERS - taken for name, taken in found.items() if CHOOSERS - taken} == {}


@pytest.mark.parametrize(
    "words",
    [
        ("book", "BTCUSDT"),
        ("replay", "BTCUSDT"),
        ("export", "trades", "x.csv", "--symbol", "BTCUSDT"),
    ],
)
def test_an_ambiguous_symbol_is_refused_with_the_options_that_choose(tape, words):
    # Wrong use, as a misspelt one is: 2, with both choices and what to write.
    told = tape.refuse(*words, code=2)
    assert "BTCUSDT of binance-spot, BTCUSDT of binance-usdm: choose with source=" in told
    assert "(--source) or product='spot' (--product)" in told
    assert not (tape.folder / "x.csv").exists()


@pytest.mark.slow
def test_product_and_exchange_choose(tape):
    # As in Python, and in every letter case; what there is not is told what there is.
    lines = tape.run(
        "replay", "BTCUSDT", "--kinds", "trades", "--product", "Perpetual"
    ).splitlines()
    assert {json.loads(line)["source"] for line in lines} == {"binance-usdm"}
    words = ("export", "trades", "x.csv", "--symbol", "BTC-USDT", "--exchange", "binance")
    assert tape.told(*words, "--product", "spot").startswith("150 rows")
    symbol = ("--symbol", "BTCUSDT")
    assert tape.told("export", "bars", "y.csv", *symbol, "--product", "spot").startswith("1 row ")
    assert tape.run("gaps", "BTCUSDT", "--product", "spot", "--json").count("binance-usdm") == 0
    told = tape.refuse("book", "BTCUSDT", "--product", "perpetual", code=1)
    assert "binance-usdm has no books" in told
    told = tape.refuse("book", "BTCUSDT", "--product", "swap", code=2)
    assert told.endswith("expected a product of perpetual, spot, got 'swap'")
    told = tape.refuse("replay", "BTCUSDT", "--exchange", "okx", code=2)
    assert told.endswith("expected an exchange of binance, got 'okx'")


def test_what_chooses_is_completed(tmp_path, maker):
    # By Tab, from what is recorded.
    folder(tmp_path, maker, SPOT, FUTURES, KRAKEN)
    assert complete("exchanges", tmp_path, "") == ["binance", "kraken"]
    assert complete("products", tmp_path, "S") == ["spot"]
    assert complete("sources", tmp_path, "binance-u") == ["binance-usdm"]
