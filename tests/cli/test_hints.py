"""What commands say beside an answer, and where an answer is none."""

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, Command
from tapeworks.config import parse


@pytest.fixture
def tape(spine, maker):
    """The command line, and a data folder with a gap in the trades of ETHUSDT."""
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    gap = maker.rows("marker", 1, instrument=2, code=3, ts_event=START + 9, ts_recv=START + 9)
    gap["channel"], gap["cause"], gap["ts_start"], gap["count"], gap["state"] = 1, 1, START, 1, 2
    spine.append(gap, "market-data.gaps")
    command = Command(spine.path.parent)
    yield command
    command.close()


def told(tape, *words):
    process = tape.start(*words)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, shown + errors
    return errors


@pytest.mark.slow
def test_gaps_are_told_where_they_touch(tape):
    # Told under every query, nobody would read it.
    assert "1 gap touches" in told(tape, "query", "select count(*) from trades")
    assert "1 gap touches" in told(tape, "query", "select 1 from trades where symbol = 'ETHUSDT'")
    for sql in (
        "select 1 from trades where symbol = 'BTCUSDT'",
        "select count(*) from quotes",
        "select count(*) from gaps",
        "select 1",
        "show tables",
    ):
        assert "gap" not in told(tape, "query", sql), sql


@pytest.mark.slow
def test_a_symbol_in_lower_case_is_told(tape):
    # Every command takes it; SQL compares texts as they are.
    errors = told(tape, "query", "select * from trades where symbol = 'btcusdt'")
    assert "'btcusdt' is 'BTCUSDT'" in errors
    assert "stored" not in told(tape, "query", "select * from trades where symbol = 'BTCUSDT'")


def test_bars_say_of_which_length_there_are_some(spine, maker):
    # A short recording has no whole minute.
    spine.append(maker.definitions())
    ts = START + np.arange(5) * 10**9
    bars = maker.rows("bar", 5, instrument=1, ts_event=ts, interval_ms=1_000, closed=1)
    spine.append(bars, "market-data.bars")
    spine.append(
        maker.rows("bar", 1, instrument=1, ts_event=START, interval_ms=60_000), "market-data.bars"
    )
    lake = tw.open(spine.path)
    shown = repr(lake.bars("BTCUSDT"))
    assert "none of 1m is whole; there are finished ones of 1s" in shown
    assert len(lake.bars("BTCUSDT", interval="1s")) == 5


def test_names_are_hinted(tape):
    assert "did you mean 'trades'?" in tape.refuse("export", "trade", "x.csv", code=2)
    assert "did you mean 'trades'?" in tape.refuse("replay", "--kinds", "trade", code=2)
    assert "missing argument '{recorder|derive|sink|view}'" in tape.refuse("worker", code=2)


def test_empty_variables_are_as_if_not_set(tape):
    # What Compose makes of `TAPEWORKS_DATA: ${DATA}`: not the working directory.
    assert parse(None, {"TAPEWORKS_DATA": ""}).entries == {}


def test_config_check_takes_the_file(tape):
    (tape.folder / "my.toml").write_text('data = "here"\n[feeds.binance-spot]\nsymbols = ["A"]\n')
    assert "data in" in tape.run("config", "check", "my.toml")
    assert "none.toml" in tape.refuse("config", "check", "none.toml", code=2)


def test_config_check_warns_of_what_has_no_value_without_parameters(tape):
    feeds = '[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\n[metrics]\nsets = ["l1", "hawkes"]\n'
    rules = ""
    for name, metric in (("hot", "hawkes_lambda"), ("mid", "mid")):
        rules += f'[[alerts]]\nname = "{name}"\nrule = "metric"\nmetric = "{metric}"\nabove = 1\n'
    path = tape.folder / "my.toml"
    path.write_text(feeds + rules)
    shown = tape.run("config", "check", "my.toml").splitlines()
    assert [line for line in shown if line.startswith("warning")] == [
        "warning: [metrics] sets: all values of hawkes are null without its parameters, `hawkes`",
        "warning: the rule hot: finds nothing: hawkes_lambda is null without `hawkes` of [metrics]",
    ]
    path.write_text(f'{feeds}hawkes = "0.2,0.5,1.0"\n{rules}')
    assert "warning:" not in tape.run("config", "check", "my.toml")


def test_config_check_warns_of_kinds_that_no_topic_of_a_sink_has(tape):
    # All tapes of it have to be of other kinds.
    gaps, bars, records = (f'"market-data.{name}"' for name in ("gaps", "bars", "normalized"))
    path = tape.folder / "my.toml"
    text = ""
    for number, (topics, kinds) in enumerate(
        [
            ([gaps], '"trade", "quote"'),
            ([gaps, bars], '"trade"'),
            ([gaps], '"marker"'),
            ([gaps], '"gap", "trade"'),
            ([gaps, records], '"trade"'),
        ]
    ):
        text += f'[sinks.s{number}]\nkind = "kafka"\ntopic_prefix = "{number}."\n'
        text += f"topics = [{', '.join(topics)}]\nkinds = [{kinds}]\n"
    path.write_text(text)
    shown = tape.run("config", "check", "my.toml").splitlines()
    assert [line for line in shown if line.startswith("warning")] == [
        "warning: [sinks.s0] kinds: market-data.gaps has none of quote, trade",
        "warning: [sinks.s1] kinds: market-data.gaps, market-data.bars have none of trade",
    ]


def test_config_check_warns_of_symbols_that_no_feed_records(tape):
    # A typo in one rule, and a symbol of another source in one; the other feed knows it. Of a feed
    # of all symbols nobody knows which there are.
    feeds = '[feeds.binance-spot]\nsymbols = ["BTCUSDT", "SOLUSDT"]\n'
    feeds += '[feeds.binance-usdm]\nsymbols = ["ETHUSDT"]\n'
    rules = '[metrics]\nsets = ["l1"]\nsymbols = ["NOPE", "SOLUSDT"]\n'
    for name, symbol in (("a", "BTCUSD"), ("b", "ETHUSDT"), ("c", "SOLUSDT")):
        rules += f'[[alerts]]\nname = "{name}"\nrule = "spread"\nsymbols = ["{symbol}"]\n'
    rules += '[[alerts]]\nname = "d"\nrule = "gap"\nsymbols = ["ETHUSDT"]\n'
    rules += 'sources = ["binance-spot"]\n'
    rules += '[sinks.one]\nkind = "kafka"\nsymbols = ["btcusdt", "ETHUSDT"]\n'
    path = tape.folder / "my.toml"
    path.write_text(feeds + rules)
    shown = tape.run("config", "check", "my.toml").splitlines()
    assert [line for line in shown if line.startswith("warning")] == [
        "warning: [metrics] symbols: no feed of it records NOPE",
        "warning: the rule a: no feed of it records BTCUSD: did you mean BTCUSDT?",
        "warning: the rule d: no feed of it records ETHUSDT",
        "warning: [sinks.one] symbols: no feed of it records btcusdt",
    ]
    assert shown[-1].endswith("configuration OK")
    path.write_text(
        '[feeds.itch]\nlines = ["127.0.0.1:9"]\n'
        + rules.replace('sources = ["binance-spot"]\n', "")
    )
    assert "warning:" not in tape.run("config", "check", "my.toml")
