"""Which rules looked at what: no alerts where nobody looked is said, and rules can be tried."""

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, SYMBOLS
from tapeworks._core import numbers
from tapeworks.alert_watches import note_watches, read_watches
from tapeworks.cli.alert_trial import chosen_rules, trial
from tapeworks.cli.alert_watches import check_rule, told, watches_of, written_rules
from tapeworks.config import parse
from tapeworks.errors import ArgumentError
from tapeworks.pipeline import processors_of
from tapeworks.processors.derive import Derivation
from tapeworks.processors.derive_status import write_lags
from tapeworks.settings import resolve_config
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import ALERTS
from tapeworks.views.symbols import Chosen
from tapeworks.views.watched import unwatched

SECOND = 10**9
WIDE = '[[alerts]]\nname = "wide"\nrule = "spread"\nabove_bps = 50\nfor_ms = 0\n'
CROSSED = '[[alerts]]\nname = "crossed"\nrule = "crossed"\n'


def settings(folder, text):
    path = folder / "tapeworks.toml"
    path.write_text(text, encoding="utf-8")
    return resolve_config(parse(path, {}))


def quotes(maker, first, asks):
    """Returns a quote of BTCUSDT a second, with a bid of 10,000 and these asks."""
    count = len(asks)
    ts = [START + (first + number) * SECOND for number in range(count)]
    return maker.rows(
        "quote",
        count,
        instrument=1,
        ts_event=ts,
        ts_recv=ts,
        bid_price=10_000 * 10**9,
        ask_price=[ask * 10**9 for ask in asks],
        bid_size=10**8,
        ask_size=10**8,
        flags=1,
    )


def derive(spine, config):
    derivation = Derivation(
        processors_of(config, spine.source), TapeConfig("never"), spine.path, spine.source
    )
    assert derivation.drain(60.0)
    derivation.close()


def unlooked(spine, first=None, last=None, symbols=None, **of):
    """Returns what no rule looked at."""
    chosen = Chosen([spine.source], symbols and {spine.source: symbols})
    with tw.open(spine.path) as lake:
        return unwatched(lake._engine, spine.path, chosen, first, last, **of)


@pytest.fixture
def grown(spine, maker):
    """A folder over which `crossed` ran, then `wide` beside it; wide before and after."""
    spine.append(maker.definitions())
    spine.append(quotes(maker, 0, [10_001, 10_100, 10_001, 10_100, 10_001]))
    derive(spine, settings(spine.path.parent, CROSSED))
    spine.append(quotes(maker, 5, [10_001, 10_200, 10_001]))
    derive(spine, settings(spine.path.parent, CROSSED + WIDE))
    return spine


def test_a_rule_that_came_later_says_since_when_it_looks(grown):
    # What it would have found before is on no tape: the trial alone tells of it, and writes none.
    before = len(SYMBOLS) + 5
    crossed, wide = read_watches(grown.path, grown.source)
    assert (crossed.rule, crossed.since, crossed.last) == ("crossed", None, None)
    assert (wide.rule, wide.first, wide.since) == ("wide", before, START + 4 * SECOND)
    lines = told(watches_of(grown.path, [grown.source], None))
    assert lines == [
        "binance-spot: crossed looks at all that is derived; wide looks from "
        "2023-11-17T23:00:04Z on"
    ]
    config = settings(grown.path.parent, CROSSED + WIDE)
    end = TapeReader(grown.tape(ALERTS)).end
    found = trial(config, grown.path, chosen_rules(config, None), [grown.source], (None, None))
    rows = {row["rule"]: row for row in found.to_pylist()}
    assert (rows["wide"]["symbol"], rows["wide"]["opened"]) == ("BTCUSDT", 3)
    assert rows["wide"]["value"] == pytest.approx(198.02, abs=0.01)
    assert (rows["wide"]["unit"], rows["crossed"]["unit"]) == ("bps", None)
    assert (rows["crossed"]["symbol"], rows["crossed"]["opened"]) == (None, 0)
    bounds = (START + 2 * SECOND, START + 6 * SECOND)
    [row] = trial(
        config, grown.path, chosen_rules(config, "wide"), [grown.source], bounds
    ).to_pylist()
    assert (row["opened"], row["first"]) == (1, row["last"])
    assert TapeReader(grown.tape(ALERTS)).end == end


def test_a_rule_that_is_changed_or_removed_ends_its_watch(grown, maker):
    config = settings(grown.path.parent, CROSSED + WIDE.replace("50", "500"))
    grown.append(quotes(maker, 8, [10_200]))
    derive(grown, config)
    wide = [one for one in read_watches(grown.path, grown.source) if one.rule == "wide"]
    assert [one.is_over for one in wide] == [True, False]
    assert wide[0].last == wide[1].first == len(SYMBOLS) + 8
    # Again with the same rules: nothing changes. Without rules: all watches are over.
    stored = read_watches(grown.path, grown.source)
    derive(grown, config)
    assert read_watches(grown.path, grown.source) == stored
    derive(grown, settings(grown.path.parent, ""))
    assert all(one.is_over for one in read_watches(grown.path, grown.source))


def test_where_nobody_looked_no_alerts_are_not_known(spine, maker):
    spine.append(maker.definitions())
    derive(spine, settings(spine.path.parent, ""))
    nobody = "binance-spot: no rule has looked at it"
    assert told(watches_of(spine.path, [spine.source], None)) == [nobody]
    assert unlooked(spine) == [nobody]
    with tw.open(spine.path) as lake:
        assert nobody in lake.alerts().notices()
        assert lake.sql("select * from alerts").notices()[0] == nobody
    derive(spine, settings(spine.path.parent, WIDE))
    assert not unlooked(spine, rule="wide")
    assert unlooked(spine, rule="crossed") == [nobody]
    assert unlooked(spine, severity="critical") == [nobody]


@pytest.mark.slow
def test_no_alerts_are_not_known_of_what_no_rule_looked_at(grown, maker):
    # Range, symbol and what the tape of alerts covers count, not that some rule ran some time.
    at = [START + second * SECOND for second in range(3_000)]
    # `wide` came behind second 4, `crossed` looked at all.
    assert not unlooked(grown, at[0], at[5])
    assert not unlooked(grown, at[5], at[6], rule="wide")
    early = "binance-spot: no rule looked from 2023-11-17T23:00:00Z"
    assert unlooked(grown, at[0], at[3], rule="wide") == [f"{early} on"]
    [line] = unlooked(grown, at[0], at[6], rule="wide")
    assert line.startswith(f"{early} to 2023-11-17T23:00:04")
    assert unlooked(grown, at[9]) == [
        "binance-spot: nothing was recorded after 2023-11-17T23:00:07Z"
    ]
    # What comes from here on no worker derives: an hour of a wide spread.
    grown.append(quotes(maker, 8, [12_000] * 1_000))
    behind = ["binance-spot: no rule looked from 2023-11-17T23:00:08Z on"]
    assert unlooked(grown) == unlooked(grown, at[5], at[60]) == behind
    assert not unlooked(grown, at[5], at[8])
    with tw.open(grown.path) as lake:
        found = lake.alerts("BTCUSDT", at[9], at[60])
        assert (len(found), found.coverage().is_complete) == (0, False)
        assert found.notices()[0] == "binance-spot: no rule looked at BTCUSDT from " + (
            "2023-11-17T23:00:09Z on"
        )
    # Rules for other symbols, or for a source as a whole, say nothing of one symbol.
    only = WIDE + 'symbols = ["ETHUSDT"]\n[[alerts]]\nname = "late"\nrule = "lag"\n'
    derive(grown, settings(grown.path.parent, only))
    grown.append(quotes(maker, 1_008, [10_001]))
    derive(grown, settings(grown.path.parent, only))
    of_btc = unlooked(grown, at[1_008], at[1_010], symbols=["BTCUSDT"])
    assert of_btc == ["binance-spot: no rule looked at BTCUSDT from 2023-11-17T23:16:48Z on"]
    assert not unlooked(grown, at[1_008], at[1_010], symbols=["ETHUSDT"])
    assert not unlooked(grown, at[1_008], at[1_010])
    [line] = told(watches_of(grown.path, [grown.source], "wide"))
    assert line.endswith("on (ETHUSDT only)")
    # A derivation that runs is a little behind all the time; one that stands still is not asked.
    grown.append(quotes(maker, 1_009, [10_001] * 3))
    write_lags(grown.path / "state" / grown.source / "derive.json", {}, {})
    assert not unlooked(grown, at[1_008])
    grown.append(quotes(maker, 1_012, [10_001] * 10))
    assert unlooked(grown, at[1_008])


def test_of_a_time_at_which_nothing_was_recorded_no_alerts_are_not_known(grown, maker, tape):
    # Both rules are there, one from the first record on: years before it, an hour before it, and
    # up to a second of it. A day that is to come says so already.
    day = START // (86_400 * SECOND) * 86_400 * SECOND
    early = "not recorded: 2020-01-01T00:00:00Z to {} (binance-spot)"
    year = 1_577_836_800 * SECOND
    for rule in (None, "crossed"):
        asked = unlooked(grown, year, year + 86_400 * SECOND, rule=rule)
        assert asked == [early.format("2020-01-02T00:00:00Z")]
        assert unlooked(grown, None, year, rule=rule) == [
            "not recorded: before 2020-01-01T00:00:00Z (binance-spot)"
        ]
        begun = unlooked(grown, day, START + 2 * SECOND, rule=rule)
        assert begun[-1].startswith("not recorded: 2023-11-17T00:00:00Z to 2023-11-17T23:00:00")
    assert not unlooked(grown, None, START + 2 * SECOND, rule="crossed")
    # Behind the last record, where no pipeline runs: up to the end of the range, or up to now.
    assert not unlooked(grown, START, START + 9 * SECOND, rule="crossed")
    behind = "not recorded: 2023-11-17T23:00:07.000001Z to {} (binance-spot)"
    asked = unlooked(grown, START, START + 3_600 * SECOND, rule="crossed")
    assert asked == [behind.format("2023-11-18T00:00:00Z")]
    assert unlooked(grown, None, START + 3_600 * SECOND, rule="crossed") == asked
    [line] = unlooked(grown, START, None, rule="crossed")
    assert line.startswith(behind.partition(" to ")[0])
    write_lags(grown.path / "state" / grown.source / "derive.json", {}, {})
    assert not unlooked(grown, START, None, rule="crossed")
    (grown.path / "state" / grown.source / "derive.json").unlink()
    with tw.open(grown.path) as lake:
        found = lake.alerts(start=year, end=year + SECOND)
        assert found.notices() == [early.format("2020-01-01T00:00:01Z")]
    # What is received while a recorder ends, behind the note of it, is no time without one.
    end = maker.rows("marker", 1, code=numbers("marker_code")["end_of_session"])
    end["ts_event"] = end["ts_recv"] = START + 8 * SECOND
    grown.append(end)
    grown.append(quotes(maker, 9, [10_001]))
    derive(grown, settings(grown.path.parent, CROSSED + WIDE))
    assert not unlooked(grown, START, START + 10 * SECOND, rule="crossed")
    words = ("alerts", "list", "--from", "2020-01-01", "--to", "2020-01-02", "--check")
    process = tape.start(*words, "--data", grown.path)
    shown, _ = process.communicate(timeout=60)
    assert (process.returncode, shown.splitlines()[0]) == (3, "not known")


@pytest.mark.slow
def test_an_alert_is_in_every_range_that_its_life_touches(grown, maker):
    # Open from second 8 to second 600; the newest change alone would be in one of these ranges.
    grown.append(quotes(maker, 8, [10_100] * 592 + [10_001]))
    derive(grown, settings(grown.path.parent, CROSSED + WIDE))
    ranges = [(8, 9, 1), (300, 310, 1), (600, 700, 1), (601, 700, 0), (2, 6, 0)]
    with tw.open(grown.path) as lake:
        for low, high, count in ranges:
            found = lake.alerts("BTCUSDT", START + low * SECOND, START + high * SECOND)
            assert len(found) == count, (low, high)


def test_what_a_repair_took_back_was_looked_at_by_nobody(tmp_path):
    note_watches(tmp_path, "it", {"a": "1"}, 0, None)
    note_watches(tmp_path, "it", {"a": "1", "b": "1"}, 100, START)
    [begun] = note_watches(tmp_path, "it", {"a": "1", "b": "1"}, 50, START)
    assert (begun.rule, begun.first) == ("b", 50)
    assert [(one.rule, one.first) for one in read_watches(tmp_path, "it")] == [("a", 0), ("b", 50)]


def test_a_name_that_no_rule_has_is_refused_with_the_nearest(tmp_path):
    text = '[[alerts]]\nname = "busy"\n[[alerts]]\nname = 7\n[latency]\npublish_ms = 5\n'
    path = tmp_path / "tapeworks.toml"
    path.write_text(text, encoding="utf-8")
    known = written_rules(parse(path, {}))
    assert known == ["busy", "latency-publish"]
    check_rule("busy", known)
    with pytest.raises(ArgumentError, match="no rule 'buzy': did you mean busy"):
        check_rule("buzy", known)
    with pytest.raises(ArgumentError, match="there are no rules"):
        check_rule("buzy", [])


def test_a_trial_up_to_a_time_has_what_was_received_long_behind_it(spine, maker):
    # A capture of a year ago, in more batches than one: receipt tells nothing of when it happened.
    count = 70_000
    rows = quotes(maker, 0, [10_001] * count)
    rows["ts_event"] = START + np.arange(count) * 10**6
    rows["ts_recv"] = START + 365 * 86_400 * SECOND + np.arange(count)
    rows["ask_price"][-1] = 10_100 * 10**9
    spine.append(maker.definitions())
    spine.append(rows)
    config = settings(spine.path.parent, WIDE)
    bounds = (None, START + 86_400 * SECOND)
    [row] = trial(
        config, spine.path, chosen_rules(config, None), [spine.source], bounds
    ).to_pylist()
    assert row["opened"] == 1


def test_a_trial_refuses_what_no_tape_can_tell(tmp_path):
    config = settings(tmp_path, '[[alerts]]\nname = "full"\nrule = "disk"\n' + WIDE)
    assert [rule.name for rule in chosen_rules(config, None)] == ["wide"]
    with pytest.raises(ArgumentError, match="latency, disk follow from the host"):
        chosen_rules(config, "full")
    with pytest.raises(ArgumentError, match="did you mean wide"):
        chosen_rules(config, "wid")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_command_line_says_who_looked(grown, tape):
    words = ("--data", grown.path)
    shown = tape.run("alerts", "list", "--rule", "crossed", "--check", *words)
    assert shown.splitlines() == [
        "no alerts",
        "binance-spot: crossed looks at all that is derived",
    ]
    assert "did you mean wide" in tape.refuse("alerts", "list", "--rule", "wid", *words, code=2)
    (tape.folder / "stricter.toml").write_text(WIDE.replace("wide", "wider"))
    [row] = tape.answer("alerts", "try", "-c", "stricter.toml", "--json", *words)
    assert (row["rule"], row["opened"]) == ("wider", 3)
    assert "wide looks from" in tape.run("alerts", "list", "--rule", "wide", *words)
    [found] = tape.answer("alerts", "list", "--rule", "wide", "--json", *words)
    refused = tape.refuse("alerts", "ack", found["id"], "--source", "nope", *words, code=2)
    assert "nope" in refused
    assert "closed" in tape.refuse("alerts", "ack", f"binance-spot#{found['id']}", *words, code=1)
