"""Rules of the user's own that fail: each stops alone, says so, and begins anew."""

import importlib
import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.views.test_alert_changes import ALERT, SECOND, STATES, WIDE, Rig

import tapeworks as tw
from conftest import START, SYMBOLS
from tapeworks._core import verify
from tapeworks.alert_watches import read_watches
from tapeworks.cli.alert_trial import chosen_rules, trial
from tapeworks.cli.screen import one_line
from tapeworks.errors import ConfigError, DiskFullError, ProcessorError
from tapeworks.jobs import catch_up
from tapeworks.pipeline import processors_of
from tapeworks.processors import own_alerts, python_stage
from tapeworks.processors.derive import Derivation
from tapeworks.processors.derive_status import write_lags
from tapeworks.processors.own_alerts import AlertsProcessor
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import ALERTS, NORMALIZED
from tapeworks.views.metrics import metrics_text
from tapeworks.views.status import Status
from tapeworks.views.symbols import Chosen
from tapeworks.views.watched import unwatched

FIRST = len(SYMBOLS)
OWN = '[[alerts]]\nname = "fails"\nkind = "failing_rule:Fails"\n'
STEADY = '[[alerts]]\nname = "steady"\nkind = "failing_rule:Steady"\n'
MODULE = """\
import time
from pathlib import Path
import pyarrow as pa
from tapeworks.processors.own_alerts import Finding, Rule

FOLDER = Path(__file__).parent

class Steady(Rule):
    seen = 0
    def process(self, batch):
        for row in pa.record_batch(batch.arrow("quote", offsets=True)).to_pylist():
            self.check(row)
            self.seen += 1
            if self.seen == 1:
                yield Finding(row["tape_offset"], self.seen, instrument=row["instrument"])
            else:
                yield Finding(row["tape_offset"], self.seen, "instant", value=self.seen)
    def check(self, row):
        pass
    def snapshot(self):
        return self.seen
    def restore(self, state):
        self.seen = state

class Fails(Steady):
    def check(self, row):
        if row["ask_price"] == 10_666 and not (FOLDER / "fixed").exists():
            raise KeyError("oops")

class Slow(Steady):
    def check(self, row):
        path = FOLDER / "slow"
        if path.exists() and row["ask_price"] == 10_666:
            left = int(path.read_text())
            path.write_text(str(left - 1))
            while left > 0:
                time.sleep(0.01)

class Named(Steady):
    defaults = {"size": 1.0, "side": "bid"}

class Odd(BaseException):
    def __str__(self):
        return 5

class Panics(Steady):
    def check(self, row):
        raise Odd

class Wide(Rule):
    def process(self, batch):
        table = pa.record_batch(batch.arrow("quote", offsets=True))
        pairs = zip(table["tape_offset"].to_numpy(), table["instrument"].to_numpy())
        for offset, instrument in pairs:
            yield Finding(offset, offset, instrument=instrument)

class Forgets(Steady):
    def restore(self, state):
        raise RuntimeError("no restore")

class Strange(Steady):
    def snapshot(self):
        return self
"""


@pytest.fixture
def rig(spine, maker, tmp_path, monkeypatch):
    (tmp_path / "failing_rule.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "failing_rule", raising=False)
    return Rig(spine, maker)


def derive(rig, text, *, is_killed=False):
    """Derives all under these settings; returns the failures and what was told by it."""
    spine = rig.spine
    processors = processors_of(rig.settings(text), spine.source)
    derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
    derivation.drain(60.0)
    failures, stopped = dict(derivation.failures), derivation.stopped()
    write_lags(spine.path / "state" / spine.source / "derive.json", derivation.lags(), stopped)
    if is_killed:
        for stage in derivation._stages.values():
            stage.close()
    else:
        derivation.close()
    told = rig.told()[rig.count :]
    rig.count += len(told)
    return failures, told


@pytest.mark.slow
@pytest.mark.parametrize("text", [WIDE, WIDE + STEADY])
def test_a_tape_on_which_nothing_comes_does_not_grow(rig, text):
    # A rule of the core, and a stage of Python. Nothing is found for a while: the tape says how far
    # it is, and has no frame more for that. Killed, it goes on where it was and misses nothing.
    spine = rig.spine
    processors = processors_of(rig.settings(text), spine.source)
    rig.quotes(10_100, 10_100)
    derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
    assert derivation.drain(60.0)
    reader = TapeReader(spine.tape(ALERTS))
    frames = verify(spine.tape(ALERTS))["frames"]
    for _ in range(5):
        spine.append(rig.maker.rows("bar", 1, instrument=1, ts_event=START, ts_recv=START))
        assert derivation.drain(60.0)
        derivation.cover()
        assert reader.covered == TapeReader(spine.tape(NORMALIZED)).end
    assert verify(spine.tape(ALERTS))["frames"] == frames
    for stage in derivation._stages.values():
        stage.close()
    rig.count = len(rig.told())
    rig.quotes(10_001)
    _, told = derive(rig, text)
    assert [state for state, _ in of(told, "wide")] == ["closed"]
    assert len(of(told, "steady")) == (2 if STEADY in text else 0)
    derive(rig, text)
    assert reader.covered == TapeReader(spine.tape(NORMALIZED)).end


def of(told, rule):
    return [(state, detail) for _, state, name, detail in told if name == rule]


@pytest.mark.slow
def test_a_rule_that_raises_stops_alone_and_all_say_so(rig):
    # It raises at the third quote; the core's rule and another own one see that and what follows.
    rig.quotes(10_001, 10_100, 10_666, 10_001, 10_100)
    failures, told = derive(rig, WIDE + OWN + STEADY)
    assert list(failures) == ["rule fails"]
    at = FIRST + 2
    why = r"the rule fails stopped at the record 5: KeyError: 'oops' \(failing_rule.py, line \d+\)"
    with pytest.raises(ProcessorError, match=why):
        raise failures["rule fails"]
    assert of(told, "fails") == [
        ("opened", ""),
        ("opened", ""),
        ("closed", ""),
        ("closed", "reason=rule-stopped"),
    ]
    assert len(of(told, "steady")) == 1 + 2 * 4
    assert [state for state, _ in of(told, "wide")] == ["opened", "updated", "closed", "opened"]
    rows = np.frombuffer(_output(rig), ALERT)
    [last] = [row for row in rows if row["rule"] == b"fails"][-1:]
    assert (last["sequence"], last["ts_event"]) == (at, START + 2 * SECOND)
    assert np.all(np.diff(rows["sequence"].astype(np.int64)) >= 0)
    # Nobody is told that it looks: not the screens, not those who ask for its alerts.
    state = Status(rig.spine.path).sample()
    [source] = state.sources
    assert source.stopped["rule fails"].startswith("at the record 5: KeyError: 'oops'")
    assert "binance-spot: rule fails is stopped: at the record 5: KeyError" in one_line(state)
    assert 'tapeworks_stopped{source="binance-spot",part="rule fails"} 1' in metrics_text(state)
    [watch] = [one for one in read_watches(rig.spine.path, source.name) if one.rule == "fails"]
    assert (watch.first, watch.last, watch.until) == (0, at, START + SECOND)


def _output(rig):
    reader = TapeReader(rig.spine.tape(ALERTS))
    return b"".join(bytes(memoryview(one)) for one in iter(lambda: reader.read(1_000), None))


@pytest.mark.slow
def test_a_rule_stops_at_the_same_record_at_any_batch_size(rig):
    # By the processor itself, with a restart at each batch or none.
    rig.quotes(10_001, 10_100, 10_001, 10_666, 10_001)
    processors = processors_of(rig.settings(WIDE + OWN + STEADY), rig.spine.source)
    rules, own = processors.settings("alerts"), list(processors.own_rules.values())
    whole, outputs = TapeReader(rig.spine.tape()).read(1_000), set()
    for size, is_restored in itertools.product((1, 2, 3, 5, 1_000), (False, True)):
        runner, made = AlertsProcessor(rules, own), []
        for first in range(0, len(whole), size):
            if is_restored:
                state, runner = runner.snapshot(), AlertsProcessor(rules, own)
                runner.restore(state)
            part = whole.slice(first, min(first + size, len(whole)))
            made.append(bytes(runner.process(part)))
        outputs.add(b"".join(made))
    [output] = outputs
    states = [STATES[row["state"]] for row in np.frombuffer(output, ALERT) if row["id"] > 10**9]
    assert states.count("closed") == states.count("opened") - 1


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [True, False])
def test_a_rule_that_stopped_begins_anew_at_the_next_start(rig, tmp_path, is_killed):
    # A kill right behind the failure: the state that was kept says that it stopped, so that what
    # it would find there now is not told, whether it is mended or not.
    rig.quotes(10_001, 10_100, 10_666, 10_001)
    derive(rig, OWN, is_killed=is_killed)
    assert derive(rig, OWN, is_killed=is_killed) == ({}, [])
    (tmp_path / "fixed").touch()
    assert derive(rig, OWN, is_killed=is_killed) == ({}, [])
    rig.quotes(10_666)
    failures, told = derive(rig, OWN, is_killed=is_killed)
    assert (failures, of(told, "fails")) == ({}, [("opened", "")])
    # It goes on, under its number.
    assert derive(rig, OWN, is_killed=is_killed) == ({}, [])
    rig.check(is_open=["fails"])
    watches = read_watches(rig.spine.path, rig.spine.source)
    assert [(one.first, one.last) for one in watches] == [(0, FIRST + 2), (FIRST + 4, None)]
    assert "KeyError: 'oops'" in watches[0].why


@pytest.mark.slow
def test_a_slow_rule_is_tried_again_as_if_it_had_not_been_asked(rig, tmp_path, monkeypatch, caplog):
    # The first two tries for the batch end by their limits; then the third counts each quote once.
    # A rule that is always slow stops where the batch begins, and the others have all of it.
    monkeypatch.setattr(own_alerts, "LIMITS_S", (0.1, 0.1, 0.3))
    rig.quotes(10_001, 10_666, 10_001)
    own = STEADY + OWN.replace("Fails", "Slow").replace("fails", "slow")
    (tmp_path / "slow").write_text("2")
    failures, told = derive(rig, own)
    assert failures == {}
    assert of(told, "slow") == of(told, "steady") != []
    slow = "the rule slow is slow: for one batch it did not return within 0.1 s"
    assert caplog.messages.count(slow) == 2
    (tmp_path / "slow").write_text("99")
    rig.quotes(10_001, 10_666)
    failures, told = derive(rig, own)
    assert "CallTimeoutError: it did not return within 0.3 s" in str(failures["rule slow"])
    assert of(told, "slow") == [("closed", "reason=rule-stopped")]
    assert len(of(told, "steady")) == 4


@pytest.mark.slow
def test_a_rule_whose_state_cannot_be_kept_or_taken_in_stops_alone(rig, tmp_path):
    rig.quotes(10_001, 10_001)
    strange = STEADY + OWN.replace("Fails", "Strange").replace("fails", "strange")
    _, told = derive(rig, strange)
    assert of(told, "strange")[0] == ("opened", "")
    failures, told = derive(rig, strange)
    assert (failures, of(told, "strange")) == ({}, [("closed", "reason=rule-stopped")])
    assert of(told, "steady") == []


@pytest.mark.slow
def test_a_rule_that_cannot_take_in_its_state_begins_anew(rig):
    # Another version of it keeps another state, under the same settings.
    rig.quotes(10_001, 10_001)
    derive(rig, OWN + STEADY)
    kept = failing_rule().Fails.restore
    failing_rule().Fails.restore = lambda rule, state: state["seen"]
    failures, told = derive(rig, OWN + STEADY)
    assert (failures, told) == ({}, [(told[0][0], "closed", "fails", "reason=rule-stopped")])
    failing_rule().Fails.restore = kept
    rig.quotes(10_001)
    _, told = derive(rig, OWN + STEADY)
    assert of(told, "fails") == [("opened", "")]


def failing_rule():
    return importlib.import_module("failing_rule")


def test_a_trial_names_the_rule_that_raises(rig):
    rig.quotes(10_001, 10_100, 10_666)
    config = rig.settings(WIDE + OWN)
    stopped = []
    found = trial(
        config,
        rig.spine.path,
        chosen_rules(config, None),
        [rig.spine.source],
        (None, None),
        stopped,
    ).to_pylist()
    assert {row["rule"]: row["opened"] for row in found if row["symbol"]} == {"wide": 1, "fails": 1}
    assert stopped[0].startswith("binance-spot: the rule fails stopped at the record 5: KeyError")


def test_a_trial_gives_a_rule_batches_as_it_has_them_where_it_runs(rig, monkeypatch):
    # What a call may take is of a batch: a trial of larger ones would end a rule that runs well.
    sizes = []
    look = failing_rule().Fails.process

    def process(self, batch):
        sizes.append(len(batch))
        return look(self, batch)

    monkeypatch.setattr(failing_rule().Fails, "process", process)
    rig.quotes(10_001, 10_100, *[10_001] * 7)
    config = rig.settings("[processors]\nbatch_items = 4\n" + OWN)
    bounds = (None, None)
    trial(config, rig.spine.path, chosen_rules(config, None), [rig.spine.source], bounds)
    assert sum(sizes) >= 9
    assert max(sizes) <= 4


def test_a_setting_that_a_rule_does_not_name_is_refused_with_the_nearest(rig):
    # One that names none takes any, as it reads them itself.
    named = STEADY.replace("Steady", "Named")
    config = rig.settings(named + "size = 2.5\n")
    made = failing_rule().Named(config.alerts[0])
    assert made.parameters == {"size": 2.5, "side": "bid"}
    for wrong, said in (
        ("sizze = 4.0", r"\(steady\): sizze is not a setting of Named: did you mean size\?"),
        ('size = "big"', "size: expected a number, got 'big'"),
        ("side = 1", "side: expected a text, got 1"),
        ("size = nan", "size: expected a number, got nan"),
    ):
        with pytest.raises(ConfigError, match=said):
            rig.settings(f"{named}{wrong}\n")
    assert rig.settings(STEADY + "sizze = 4.0\n").alerts[0].parameters == {"sizze": 4.0}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Panics", "Wide"])
def test_what_is_no_exception_and_numbers_of_numpy_harm_no_other_rule(rig, kind):
    # As a library in Rust panics, with an error that cannot be told; offsets as Arrow gives them.
    rig.quotes(10_001, 10_100, 10_001)
    failures, told = derive(rig, WIDE + OWN.replace("Fails", kind) + STEADY)
    if kind == "Panics":
        with pytest.raises(ProcessorError, match=r"stopped at the record 3: Odd \(failing_rule"):
            raise failures["rule fails"]
    else:
        assert not failures
        assert [state for state, _ in of(told, "fails")] == ["opened", "updated", "updated"]
    assert len(of(told, "steady")) == 5
    assert [state for state, _ in of(told, "wide")] == ["opened", "closed"]
    # The state was saved: the next start goes on there.
    rig.quotes(10_001)
    failures, told = derive(rig, WIDE + OWN.replace("Fails", kind) + STEADY)
    assert len(of(told, "steady")) == 2


@pytest.mark.slow
def test_to_make_a_rule_anew_is_no_part_of_its_time(rig, tmp_path, monkeypatch):
    # It saw thousands of batches of one record: together they take longer than one call may.
    monkeypatch.setattr(own_alerts, "LIMITS_S", (0.5, 1.0, 2.0))
    (tmp_path / "slow").write_text("1")
    rig.quotes(*[10_001] * 2_000, 10_666)
    module = importlib.import_module("failing_rule")
    check = module.Slow.check

    def pause(self, row):
        module.time.sleep(0.0012)
        check(self, row)

    monkeypatch.setattr(module.Slow, "check", pause)
    slow = AlertsProcessor({}, chosen_rules(rig.settings(OWN.replace("Fails", "Slow")), None))
    reader = TapeReader(rig.spine.tape())
    while (batch := reader.read(1)) is not None:
        slow.process(batch)
    assert not slow.take_endings()


@pytest.mark.slow
def test_a_rule_that_cannot_take_in_its_state_is_told_once_however_often_it_is_killed(
    rig, monkeypatch
):
    # What it had open is closed; then the disk refuses the state of that, three times. Nobody is
    # told of an alert that never was.
    text = WIDE + STEADY
    rig.quotes(10_001)
    assert of(derive(rig, text)[1], "steady") == [("opened", "")]
    module = rig.spine.path.parent / "failing_rule.py"
    module.write_text(module.read_text().replace("class Steady(Rule)", "class Base(Rule)"))
    edited = module.read_text().replace("(Steady)", "(Base)") + "\nSteady = Forgets\n"
    module.write_text(edited)
    monkeypatch.delitem(sys.modules, "failing_rule")

    with monkeypatch.context() as full:
        full.setattr(python_stage, "replace_file", _refuse)
        for _ in range(3):
            processors = processors_of(rig.settings(text), rig.spine.source)
            place = rig.spine.path, rig.spine.source
            derivation = Derivation(processors, TapeConfig("never"), *place)
            with pytest.raises(DiskFullError, match="no space"):
                derivation.drain(60.0)
            for stage in derivation._stages.values():
                stage.close()
    told = rig.told()[rig.count :]
    assert of(told, "steady") == [("closed", "reason=rule-stopped")]
    rig.count += len(told)
    rig.quotes(10_001)
    assert of(derive(rig, text)[1], "steady") == [("opened", "")]


@pytest.mark.slow
def test_what_cannot_be_noted_of_a_rule_is_noted_later_and_until_then_nothing_is_all_clear(rig):
    # A folder stands where the file of watches is to be, as on a disk that refuses to write.
    spine, text = rig.spine, WIDE + OWN
    chosen = Chosen([spine.source], None)
    notes = spine.path / "state" / spine.source / "alert-rules.json"
    rig.quotes(10_001, 10_001)
    derive(rig, text)
    processors = processors_of(rig.settings(text), spine.source)
    derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
    assert derivation.drain(60.0)
    kept = notes.read_text()
    notes.unlink()
    notes.mkdir()
    rig.quotes(10_666, 10_001)
    derivation.drain(60.0)
    assert list(derivation.failures) == ["rule fails"]
    write_lags(notes.parent / "derive.json", derivation.lags(), derivation.stopped())
    notes.rmdir()
    notes.write_text(kept)
    with tw.open(spine.path) as lake:
        found = unwatched(lake._engine, spine.path, chosen, rule="fails")
        assert found == [f"{spine.source}: no rule looked"]
        assert unwatched(lake._engine, spine.path, chosen, rule="wide") == []
    derivation.cover()
    [watch] = [one for one in read_watches(spine.path, spine.source) if one.rule == "fails"]
    assert (watch.last, watch.until) == (FIRST + 2, START + SECOND)
    derivation.close()


@pytest.mark.slow
def test_closing_lets_go_of_every_tape_and_notes_what_its_last_states_ended(rig):
    # The state of one rule cannot be had when all is closed; then a disk refuses every state.
    spine, text = rig.spine, WIDE + '[[alerts]]\nname = "odd"\nkind = "failing_rule:Strange"\n'
    rig.quotes(10_001)
    failures, _ = derive(rig, text)
    assert failures == {}
    [watch] = [one for one in read_watches(spine.path, spine.source) if one.rule == "odd"]
    assert watch.is_over
    assert "not JSON serializable" in watch.why
    processors = processors_of(rig.settings(text), spine.source)
    derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
    rig.quotes(10_001)
    derivation.drain(60.0)
    with pytest.MonkeyPatch.context() as full:
        full.setattr(python_stage, "replace_file", _refuse)
        with pytest.raises(DiskFullError, match="no space"):
            derivation.close()
    derive(rig, text)


@pytest.mark.slow
def test_catching_up_says_what_stopped_and_that_the_rest_is_not_derived(rig, monkeypatch):
    # There is time for one batch, in which the rule of the user's own raises.
    spine = rig.spine
    rig.quotes(10_666, *([10_001] * 5_000))
    config = replace(rig.settings(OWN), data=spine.path, feeds={spine.source: None}, sinks={})
    monkeypatch.setattr(catch_up, "DERIVE_S_MAX", 0.0)
    told = r"the rule fails stopped .*KeyError.*; .*: not everything is derived: there was no time"
    with pytest.raises(ProcessorError, match=told):
        catch_up.catch_up(config)
    monkeypatch.undo()
    # It has time now, and the rule begins anew.
    catch_up.catch_up(config)


def _refuse(*_):
    raise DiskFullError("no space left")
