"""Settings of rules that change: each alert has an end and a number of its own."""

import sys

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, SYMBOLS
from tapeworks._core import Processor, Records, TapeWriter, dtype_descr, numbers
from tapeworks.alert_watches import read_watches
from tapeworks.cli.alert_trial import chosen_rules, trial
from tapeworks.config import parse
from tapeworks.pipeline import processors_of
from tapeworks.processors.alerts import AlertRule
from tapeworks.processors.base import loss_gap
from tapeworks.processors.derive import Derivation
from tapeworks.processors.own_alerts import AlertsProcessor
from tapeworks.settings import resolve_config
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import ALERTS, METRICS, NORMALIZED

ALERT = np.dtype(dtype_descr("alert"))
STATES = {number: name for name, number in numbers("alert_state").items()}
SECOND = 10**9
WIDE = '[[alerts]]\nname = "wide"\nrule = "spread"\nabove_bps = 50\nfor_ms = 0\n'
ANY = '[[alerts]]\nname = "any"\nrule = "spread"\nabove_bps = 1.5\nfor_ms = 0\n'
OWN = '[[alerts]]\nname = "high"\nkind = "high_asks:HighAsks"\nabove = {}\n'
HIGH_ASKS = """\
import pyarrow as pa
from tapeworks.processors.own_alerts import Finding, Rule

class HighAsks(Rule):
    def __init__(self, rule):
        super().__init__(rule)
        self.is_open = False

    def process(self, batch):
        rows = pa.record_batch(batch.arrow("quote", offsets=True)).to_pylist()
        for row in rows:
            is_high = row["ask_price"] > self.rule.parameters["above"]
            if is_high != self.is_open:
                self.is_open = is_high
                ts = round(row["ts_event"].timestamp()) * 10**9
                state = "opened" if is_high else "closed"
                yield Finding(row["tape_offset"], ts, state, instrument=row["instrument"])

    def snapshot(self):
        return self.is_open

    def restore(self, state):
        self.is_open = state
"""


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


class Rig:
    """A folder whose alerts are derived under one setting after another."""

    def __init__(self, spine, maker):
        self.spine, self.maker, self.count = spine, maker, 0
        self.seconds = 0
        spine.append(maker.definitions())

    def quotes(self, *asks):
        """Appends a quote of BTCUSDT a second, with a bid of 10,000."""
        ts = [START + (self.seconds + number) * SECOND for number in range(len(asks))]
        rows = self.maker.rows("quote", len(asks), instrument=1, ts_event=ts, ts_recv=ts, flags=1)
        rows["bid_price"], rows["ask_price"] = 10_000 * 10**9, np.array(asks) * 10**9
        rows["bid_size"] = rows["ask_size"] = 10**8
        self.seconds += len(asks)
        self.spine.append(rows)

    def acknowledge(self, number):
        ts = START + self.seconds * SECOND
        self.seconds += 1
        row = self.maker.rows("alert", 1, ts_event=ts, ts_recv=ts, ts_start=ts)
        row["state"], row["id"], row["detail"] = 4, number, b"by=me"
        self.spine.append(row)

    def derive(self, text, *, is_killed=False):
        """Derives all under these settings; returns what was told by it."""
        spine = self.spine
        processors = processors_of(self.settings(text), spine.source)
        derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
        assert derivation.drain(60.0)
        if is_killed:
            for stage in derivation._stages.values():
                stage.close()
        else:
            derivation.close()
        told = self.told()[self.count :]
        self.count += len(told)
        return told

    def settings(self, text):
        path = self.spine.path.parent / "tapeworks.toml"
        path.write_text(text, encoding="utf-8")
        return resolve_config(parse(path, {}))

    def told(self):
        reader = TapeReader(self.spine.tape(ALERTS))
        data = b"".join(bytes(memoryview(one)) for one in iter(lambda: reader.read(1_000), None))
        rows = np.frombuffer(data, ALERT)
        names = ("rule", "detail")
        texts = [[row[name].decode() for name in names] for row in rows]
        return [
            (int(row["id"]), STATES[int(row["state"])], rule, detail)
            for row, (rule, detail) in zip(rows, texts, strict=True)
        ]

    def check(self, *, is_open):
        """Asserts that no number means two, and which rules have an alert open."""
        opened = [one[0] for one in self.told() if one[1] == "opened"]
        assert len(opened) == len(set(opened)) == len(tw.open(self.spine.path).alerts())
        rows = tw.open(self.spine.path).alerts(is_open=True).to_pylist()
        assert sorted(row["rule"] for row in rows) == sorted(is_open)


@pytest.fixture
def rig(spine, maker, tmp_path, monkeypatch):
    (tmp_path / "high_asks.py").write_text(HIGH_ASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Rig(spine, maker)


@pytest.mark.parametrize(
    ("own", "is_killed"),
    [("", True), slow("", False), slow(OWN.format(10_050), True), slow(OWN.format(10_050), False)],
)
def test_settings_that_are_put_back_close_what_others_opened(rig, own, is_killed):
    # A state of the first settings is there and fits: the output in between is of others. With a
    # kill the others left no state, and so it is with what was made of putting them back.
    rig.quotes(10_001, 10_100, 10_001, 10_100)
    rig.derive(WIDE + own)
    rig.quotes(10_030, 10_001, 10_030)
    rig.derive(WIDE.replace("50", "20") + ANY + own.replace("10050", "10020"), is_killed=is_killed)
    again = rig.derive(WIDE + own, is_killed=is_killed)
    assert {one[2:] for one in again if one[1] == "closed"} == {
        ("any", "reason=rule-removed"),
        ("wide", "reason=settings-changed"),
        *([("high", "reason=settings-changed")] if own else []),
    }
    assert rig.derive(WIDE + own, is_killed=is_killed) == []
    rig.check(is_open=[])
    rig.quotes(10_001, 10_100, 10_001, 10_100)
    more = rig.derive(WIDE + own)
    assert [one[1:3] for one in more if one[2] == "wide"] == [
        (state, "wide") for state in ("opened", "closed", "opened")
    ]
    rig.check(is_open=["wide", "high"] if own else ["wide"])


@pytest.mark.parametrize("own", [slow(""), slow(OWN.format(20_000))])
def test_who_has_seen_an_alert_is_not_put_to_another_one(rig, own):
    # Under other rules an alert that nobody saw has, in the rebuild, the number of the one that
    # somebody did.
    rig.quotes(10_001, 10_100)
    [opened] = rig.derive(WIDE + own)
    rig.acknowledge(opened[0])
    rig.quotes(10_100, 10_100)
    assert "acknowledged" in [one[1] for one in rig.derive(WIDE + own)]
    found = rig.derive(ANY + WIDE + own)
    assert [one[1:3] for one in found] == [("opened", "any")]
    rows = tw.open(rig.spine.path).alerts().to_pylist()
    assert {row["rule"]: row["acknowledged"] for row in rows} == {"wide": "by=me", "any": None}
    rig.acknowledge(found[0][0])
    [seen] = [one for one in rig.derive(ANY + WIDE + own) if one[1] == "acknowledged"]
    assert seen == (found[0][0], "acknowledged", "any", "by=me")


@pytest.mark.parametrize("rules", [slow(WIDE), slow(OWN.format(10_050))])
def test_a_severity_that_changes_is_told_of_what_is_open(rig, rules):
    rig.quotes(10_001, 10_100)
    [opened] = rig.derive(rules)
    [updated] = rig.derive(rules + 'severity = "critical"\n')
    assert updated[:2] == (opened[0], "updated")
    [row] = tw.open(rig.spine.path).alerts(severity="critical", is_open=True).to_pylist()
    assert row["id"] == opened[0]


@pytest.mark.slow
def test_an_alert_of_a_rule_of_ones_own_is_seen_once(rig):
    rig.quotes(10_001, 10_100)
    [opened] = rig.derive(OWN.format(10_050))
    rig.acknowledge(opened[0])
    rig.acknowledge(opened[0])
    assert rig.derive(OWN.format(10_050)) == [(opened[0], "acknowledged", "high", "by=me")]
    rig.quotes(10_100, 10_001)
    rig.acknowledge(opened[0])
    assert [one[:2] for one in rig.derive(OWN.format(10_050))] == [(opened[0], "closed")]
    [row] = tw.open(rig.spine.path).alerts().to_pylist()
    assert (row["state"], row["acknowledged"]) == ("closed", "by=me")


def test_rules_of_the_core_hear_of_a_loss_beside_one_in_python(rig, maker):
    # By the processor: what the stage gives it is the marker that it writes.
    gap = Records.from_bytes(loss_gap(10, 20, START, "retention"))
    settings = {"rules": "lost\tgap\tcritical\tsource\t"}
    rule = AlertRule("high", kind="high_asks:HighAsks", parameters={"above": 1.0})
    made = bytes(AlertsProcessor(settings, [rule]).take_loss(gap))
    assert made == bytes(Processor("alerts", settings).lost(gap))
    assert np.frombuffer(made, ALERT)["rule"].tolist() == [b"lost", b"lost"]


@pytest.mark.parametrize("own", ["", slow(OWN.format(20_000))])
def test_rules_for_symbols_know_them_when_retention_took_the_definitions(spine, maker, rig, own):
    # The rule, and the metrics of a symbol, are new: they begin at what retention left, and the
    # definitions before it are in the lake's copy. Without one it is said.
    path, small = spine.tape(), {"segment_bytes": 64 << 10, "durability": "never"}
    spine.close()
    spine._writers[NORMALIZED] = TapeWriter(path, retention_bytes=128 << 10, wait_ms_max=0, **small)
    for count in (1, 3_000, 3_000):
        rig.quotes(*[10_001] * count)
        spine.drain()
    assert TapeReader(path).first > len(SYMBOLS)
    rig.quotes(10_001, 10_100)
    metrics = '[metrics]\nsets = ["l1"]\nsymbols = ["BTCUSDT"]\n'
    rules = WIDE + 'symbols = ["BTCUSDT"]\n' + own + metrics
    assert [one[1:3] for one in rig.derive(rules)] == [("opened", "wide")]
    # Of a symbol that is not known there is none.
    assert TapeReader(spine.tape(METRICS)).end > 0
    config = rig.settings(rules)
    found = trial(config, spine.path, chosen_rules(config, "wide"), [spine.source], (None, None))
    [row] = found.to_pylist()
    assert (row["symbol"], row["opened"]) == ("BTCUSDT", 1)


def test_a_rule_about_a_metric_looks_where_metrics_are_not_recorded(rig):
    # Metrics that rules name are made beside the rules, of what each rule is for.
    measured = '[metrics]\nsets = ["l1"]\nsymbols = ["ETHUSDT"]\n'
    metric = '[[alerts]]\nname = "far"\nrule = "metric"\nmetric = "spread_bps"\nabove = 50\n'
    other = metric.replace("far", "eth") + 'symbols = ["ETHUSDT"]\n'
    named = metric + 'symbols = ["BTCUSDT"]\n'
    for rules, symbols in (
        (metric, ""),
        (metric + other, ""),
        (other, "ETHUSDT"),
        (named + other, "BTCUSDT,ETHUSDT"),
    ):
        settings = processors_of(rig.settings(measured + rules), rig.spine.source).alerted
        assert settings["symbols"] == symbols
    rig.quotes(10_001, *[10_100] * 4)
    told = rig.derive(measured + named)
    assert told[0][:3] == (1, "opened", "far")
    assert TapeReader(rig.spine.tape(METRICS)).end == 0


@pytest.mark.slow
def test_what_a_rule_that_began_anew_has_open_outlives_another_rule(rig, tmp_path):
    # It stopped at a record of long ago, which a rebuild with other settings meets again. An alert
    # that it opened since goes on under its number, and what it remembers is of since then.
    own = OWN.format(10_050)
    path = tmp_path / "high_asks.py"
    bad = "            if row['ask_price'] == 10666:\n                raise KeyError('bad data')\n"
    path.write_text(HIGH_ASKS.replace("            is_high =", bad + "            is_high ="))
    sys.modules.pop("high_asks", None)
    rig.quotes(10_001, 10_666, 10_001)
    spine = rig.spine
    processors = processors_of(rig.settings(own), spine.source)
    derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
    derivation.drain(60.0)
    assert list(derivation.stopped()) == ["rule high"]
    derivation.close()
    assert rig.derive(own) == []
    rig.quotes(10_100)
    [opened] = rig.derive(own)
    assert opened[:3] == (1_000_000_001, "opened", "high")
    for text in (own + WIDE, own, own + ANY):
        assert not [one for one in rig.derive(text) if one[2] == "high"]
    watches = [one for one in read_watches(spine.path, spine.source) if one.rule == "high"]
    assert [one.is_over for one in watches] == [True, False]
    rig.quotes(10_001)
    [closed] = [one for one in rig.derive(own + ANY) if one[2] == "high"]
    assert closed == (1_000_000_001, "closed", "high", "")
