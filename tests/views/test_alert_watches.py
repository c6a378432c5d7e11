"""Which rules looked at what: no alerts where nobody looked is said, and rules can be tried."""

import pytest

from conftest import START, SYMBOLS
from tapeworks.alert_watches import note_watches, read_watches
from tapeworks.cli.alert_trial import chosen_rules, trial
from tapeworks.cli.alert_watches import check_rule, is_unknown, told, watches_of, written_rules
from tapeworks.config import parse
from tapeworks.errors import ArgumentError
from tapeworks.pipeline import processors_of
from tapeworks.processors.derive import Derivation
from tapeworks.settings import resolve_config
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import ALERTS

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
    found = watches_of(spine.path, [spine.source], None)
    assert is_unknown(found)
    assert told(found) == ["binance-spot: no rule has looked at it"]
    derive(spine, settings(spine.path.parent, WIDE))
    assert not is_unknown(watches_of(spine.path, [spine.source], "wide"))
    assert is_unknown(watches_of(spine.path, [spine.source], "crossed"))


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
