"""Alerts from the settings to the lake and the command line: found, followed, acknowledged."""

import importlib
import itertools
import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import tapeworks as tw
from conftest import START, SYMBOLS
from tapeworks._core import Processor, Records, Symbols, dtype_descr, numbers
from tapeworks.alert_notes import AlertNote, leave_note, left_notes
from tapeworks.config import parse, write_toml
from tapeworks.errors import ConfigError
from tapeworks.pipeline import processors_of
from tapeworks.processors.alerts import AlertRule
from tapeworks.processors.derive import Derivation
from tapeworks.processors.host_rules import HostRules
from tapeworks.processors.own_alerts import AlertsProcessor
from tapeworks.settings import resolve_config
from tapeworks.stage_times import write_times
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import ALERTS
from tapeworks.views.found_alerts import NEWEST
from tapeworks.views.metrics import metrics_text
from tapeworks.views.status import Status

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ALERT = np.dtype(dtype_descr("alert"))
SECOND = 10**9
RULES = """
[[alerts]]
name = "wide"
rule = "spread"
above_bps = 50
symbols = ["BTCUSDT"]

[[alerts]]
name = "crossed"
rule = "crossed"
severity = "critical"

[[alerts]]
name = "quiet"
rule = "stale"
after_ms = 5000
kinds = "quote"

[[alerts]]
name = "large"
kind = "own_rule:LargeTrades"
size = 1e6
"""


def settings(folder: Path, text: str):
    path = folder / "tapeworks.toml"
    path.write_text(text, encoding="utf-8")
    return resolve_config(parse(path, {}))


def market(maker) -> np.ndarray:
    """Quotes of BTCUSDT, one a second: at 3 s it is wide for 2 s, at 7 s it is crossed for 1 s.

    ETHUSDT has one quote, and then none for 12 s. One trade is large.
    """
    seconds = np.arange(12)
    ts = START + seconds * SECOND
    asks = np.full(12, 10_001)
    asks[3:5], asks[7] = 10_100, 9_999
    quotes = maker.rows(
        "quote",
        12,
        instrument=1,
        ts_event=ts,
        ts_recv=ts + 1_000,
        bid_price=10_000 * 10**9,
        ask_price=asks * 10**9,
        bid_size=10**8,
        ask_size=2 * 10**8,
        flags=1,
    )
    other = maker.rows(
        "quote",
        1,
        instrument=2,
        ts_event=START,
        ts_recv=START + 2_000,
        bid_price=10**9,
        ask_price=2 * 10**9,
        flags=1,
    )
    trade = maker.rows(
        "trade",
        1,
        instrument=1,
        ts_event=START + 5 * SECOND,
        ts_recv=START + 5 * SECOND + 2_000,
        price=10_000 * 10**9,
        size=2_000_000 * 10**8,
        channel=1,
        count=1,
        side=1,
        flags=1,
    )
    return [maker.definitions(), quotes[:1], other, quotes[1:6], trade, quotes[6:]]


@pytest.fixture
def told(spine, maker, monkeypatch):
    """A folder whose alerts were derived, half of them in the lake."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    config = settings(spine.path.parent, RULES)
    for number, part in enumerate(market(maker)):
        spine.append(part)
        if number in (4, 5):
            derivation = Derivation(
                processors_of(config, spine.source), TapeConfig("never"), spine.path, spine.source
            )
            assert derivation.drain(60.0)
            derivation.close()
            if number == 4:
                spine.drain()
                spine.drain(ALERTS)
    return spine


def test_alerts_are_rows_with_their_evidence(told):
    # Each rule at the time at which the market breaks it, half of the rows in files.
    rows = tw.open(told.path).sql(
        "select rule, state, symbol, severity, epoch_ns(ts_start) as start, epoch_ns(ts_end) as "
        "ends, value, threshold, price, first_offset from alerts order by id, tape_offset"
    )
    found = {}
    for row in rows.to_pylist():
        found.setdefault((row["rule"], row["symbol"]), []).append(row)
    wide = found["wide", "BTCUSDT"]
    assert [row["state"] for row in wide] == ["opened", "closed"]
    assert (wide[-1]["start"] - START, wide[-1]["ends"] - START) == (3 * SECOND, 5 * SECOND)
    assert wide[0]["value"] == pytest.approx(99.5, abs=0.1)
    assert wide[0]["threshold"] == 50
    # Definitions are three records; the quotes before it are four.
    assert wide[0]["first_offset"] == len(SYMBOLS) + 4
    crossed = found["crossed", "BTCUSDT"]
    assert [row["state"] for row in crossed] == ["opened", "closed"]
    assert {row["severity"] for row in crossed} == {"critical"}
    assert (crossed[0]["start"] - START, crossed[1]["ends"] - START) == (7 * SECOND, 8 * SECOND)
    quiet = found["quiet", "ETHUSDT"]
    assert quiet[0]["state"] == "opened"
    assert all(row["ends"] is None for row in quiet)
    large = found["large", "BTCUSDT"]
    assert [(row["state"], row["value"]) for row in large] == [("opened", 2e6), ("closed", 2e6)]
    assert set(found) == {
        *(("wide", "BTCUSDT"), ("crossed", "BTCUSDT")),
        *(("quiet", "ETHUSDT"), ("large", "BTCUSDT")),
    }


def test_alerts_are_asked_for_in_python(told):
    with tw.open(told.path) as lake:
        assert [row["rule"] for row in lake.alerts(is_open=True).to_pylist()] == ["quiet"]
        [crossed] = lake.alerts("BTCUSDT", severity="critical").to_pylist()
        assert (crossed["rule"], crossed["state"], crossed["acknowledged"]) == (
            *("crossed", "closed"),
            None,
        )
        assert len(lake.alerts(["BTCUSDT", "ETHUSDT"])) == 4
        assert not len(lake.alerts(start=START + 60 * SECOND, rule="wide"))
        with pytest.raises(tw.errors.QueryError, match="expected a severity of info"):
            lake.alerts(severity="bad")


def test_alerts_that_are_open_are_in_the_status_and_the_metrics(told):
    look = Status(told.path)
    for _ in range(2):
        # The second look reads nothing anew.
        [source] = [one for one in look.sample().sources if one.name == told.source]
        found = {(one.rule, one.open, one.opened) for one in source.alerts}
        assert found == {("crossed", 0, 1), ("large", 0, 1), ("quiet", 1, 1), ("wide", 0, 1)}
    served = metrics_text(look.sample())
    labels = f'{{source="{told.source}",rule="quiet",severity="warning"}}'
    assert f"tapeworks_alerts_open{labels} 1\n" in served
    assert f"tapeworks_alerts_opened_total{labels} 1\n" in served


def test_same_tape_gives_the_same_alerts_at_any_batch_size(told):
    # By the processor itself, with a restart in between; and as it was derived.
    processors = processors_of(settings(told.path.parent, RULES), told.source)
    rules, whole = processors.settings("alerts"), TapeReader(told.tape()).read(1_000)
    expected = b"".join(_batches(told.tape(ALERTS)))
    for size, cut in itertools.product((1, 7, 4_096), (0, 3)):
        own = list(processors.own_rules.values())
        runner, made = AlertsProcessor(rules, own), []
        for first in range(0, len(whole), size):
            if first >= cut:
                state, runner = runner.snapshot(), AlertsProcessor(rules, own)
                runner.restore(state)
            part = whole.slice(first, min(first + size, len(whole)))
            made.append(bytes(runner.process(part)))
        assert b"".join(made) == expected, size


def test_rule_of_the_example_passes_over_what_the_history_gave(maker, monkeypatch):
    # Two large trades, one of them of the venue's history: a rule of one's own is given both.
    monkeypatch.syspath_prepend(EXAMPLES)
    rule = AlertRule("large", kind="own_rule:LargeTrades", parameters={"size": 2.0})
    trades = maker.rows("trade", 2, instrument=1, channel=1, price=10**9, size=3 * 10**8)
    trades["flags"] = [1, 1 | 4]
    batch = Records.from_bytes(trades.tobytes())
    found = importlib.import_module("own_rule").LargeTrades(rule).process(batch)
    assert [one.value for one in found] == [3.0]


def _batches(tape: Path) -> list[bytes]:
    reader = TapeReader(tape)
    return [bytes(memoryview(batch)) for batch in iter(lambda: reader.read(1_000), None)]


def test_replay_gives_alerts_from_files_and_tape(told):
    # What is in the lake is made again as the same records.
    made = b"".join(
        batch.records.numpy("alert") for batch in tw.open(told.path).replay(kinds=["alerts"])
    )
    assert made == b"".join(_batches(told.tape(ALERTS)))


def test_alert_that_the_settings_know_no_more_is_closed_with_the_reason(spine, maker):
    # One alert is open at the end of the tape. Its rule waits longer, is put back, is taken out:
    # the state is made anew each time, and what is other than was told is said once.
    rules = RULES[: RULES.rindex("[[alerts]]")]
    for part in market(maker):
        spine.append(part)

    def derived(text: str) -> list[tuple]:
        config = settings(spine.path.parent, text)
        derivation = Derivation(
            processors_of(config, spine.source), TapeConfig("never"), spine.path, spine.source
        )
        assert derivation.drain(60.0)
        derivation.close()
        rows = np.frombuffer(b"".join(_batches(spine.tape(ALERTS))), ALERT)
        states = {number: name for name, number in numbers("alert_state").items()}
        return [
            (
                int(row["id"]),
                states[int(row["state"])],
                row["rule"].decode(),
                row["detail"].decode(),
            )
            for row in rows
        ]

    first = derived(rules)
    quiet = [one for one in first if one[2] == "quiet"]
    assert [one[1] for one in quiet] == ["opened", "updated"]
    assert derived(rules) == first
    longer = derived(rules.replace("after_ms = 5000", "after_ms = 500000"))
    closed = (quiet[0][0], "closed", "quiet", "reason=settings-changed")
    assert longer == [*first, closed]
    # Told once more under the first settings: of a number that no alert had.
    again = derived(rules)
    newest = max(one[0] for one in first) + 1
    assert [one[:3] for one in again[len(longer) :]] == [(newest, "opened", "quiet")]
    without = derived(rules[: rules.index('[[alerts]]\nname = "quiet"')])
    assert without[len(again) :] == [(newest, "closed", "quiet", "reason=rule-removed")]
    rows = np.frombuffer(b"".join(_batches(spine.tape(ALERTS))), ALERT)
    last = rows[-1]
    assert last["ts_end"] == last["ts_event"] == START + 11 * SECOND + 1_000
    assert last["ts_start"] <= last["ts_end"]


def test_silence_ends_with_the_session_and_never_before_it_began(maker):
    # Nothing comes after noon; the market closes a minute later, the next record is of 13:00. The
    # other silence, of the source, ends by a record whose venue's clock is behind.
    noon = START - START % (86_400 * SECOND) + 12 * 3_600 * SECOND
    quiet = "quiet\tstale\twarning\t{}\t\tafter_ms=5000{}"

    def ends(text: str, quotes: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
        rows = maker.rows(
            "quote",
            len(quotes),
            instrument=[one for one, *_ in quotes],
            ts_event=[noon + ts * SECOND for _, ts, _ in quotes],
            ts_recv=[noon + ts * SECOND for *_, ts in quotes],
            bid_price=10**9,
            ask_price=2 * 10**9,
            flags=1,
        )
        made = Processor("alerts", {"rules": text}).process(Records.from_bytes(rows.tobytes()))
        found = np.frombuffer(memoryview(made), ALERT)
        over = found[found["state"] == numbers("alert_state")["closed"]]
        return [
            ((int(one["ts_start"]) - noon) // SECOND, (int(one["ts_end"]) - noon) // SECOND)
            for one in over
        ]

    beats = [(2, second, second) for second in range(60)]
    hours = quiet.format("", "\thours=00:00-12:01")
    later = [(2, 3_600 + second, 3_600 + second) for second in range(4)]
    assert (0, 60) in ends(hours, [(1, 0, 0), *beats, *later])
    assert ends(quiet.format("source", ""), [(1, 9, 9), (2, 15, 15), (1, 3, 30)]) == [
        (9, 15),
        (15, 15),
    ]


@pytest.mark.slow
def test_command_line_lists_and_acknowledges(told, tape):
    shown = json.loads(tape.run("alerts", "list", "--json", "--data", told.path))
    units = {row["rule"]: row["unit"] for row in shown}
    assert units == {"wide": "bps", "large": None, "crossed": None, "quiet": "s"}
    [quiet] = json.loads(tape.run("alerts", "list", "--open", "--json", "--data", told.path))
    assert (quiet["rule"], quiet["symbol"]) == ("quiet", "ETHUSDT")
    tape.run("alerts", "list", "--open", "--check", "--data", told.path, code=3)
    refused = tape.refuse("alerts", "ack", "999", "--data", told.path, code=1)
    assert "there is no alert 999" in refused
    line = tape.told("alerts", "ack", quiet["id"], "--note", "seen", "--data", told.path)
    assert "not recorded at the moment" in line
    [(_, note)] = left_notes(told.path, told.source)
    assert (note.state, note.id) == ("acknowledged", quiet["id"])
    assert note.detail.endswith("seen")


def test_a_list_keeps_who_acknowledged():
    rows = [(1, 0, "opened", "a"), (1, 1, "acknowledged", "by=me"), (1, 2, "updated", "b")]
    rows += [(2, 3, "opened", "c")]
    with duckdb.connect() as base:
        base.sql(
            "create table alerts (venue int, id int, tape_offset int, state text, detail text)"
        )
        base.executemany("insert into alerts values (7, ?, ?, ?, ?)", rows)
        found = base.sql(f"select id, state, detail, acknowledged from ({NEWEST}) order by id")
        assert found.fetchall() == [(1, "updated", "b", "by=me"), (2, "opened", "c", None)]


def test_what_is_noted_is_told_in_its_place(maker):
    # A note of the host opens and closes an alert of its rule; an acknowledgement is told once.
    rules = "full\tdisk\tcritical\t\t\nlost\tgap\tinfo\t\t"
    processor = Processor("alerts", {"rules": rules})

    def note(ts, state, rule="full", **columns):
        states = {"opened": 1, "closed": 3, "acknowledged": 4}
        row = maker.rows("alert", 1, ts_event=ts, ts_recv=ts, ts_start=START, rule=rule.encode())
        row["state"] = states[state]
        for name, value in columns.items():
            row[name] = value
        made = processor.process(Records.from_bytes(row.tobytes()))
        return np.frombuffer(memoryview(made), ALERT)

    [opened] = note(START + SECOND, "opened", value=3.0, threshold=5.0)
    assert (opened["state"], opened["severity"], opened["value"]) == (1, 3, 3.0)
    [seen] = note(START + 2 * SECOND, "acknowledged", "", id=opened["id"], detail=b"by=me")
    assert (seen["state"], seen["id"], seen["detail"]) == (4, opened["id"], b"by=me")
    assert not len(note(START + 3 * SECOND, "acknowledged", "", id=opened["id"]))
    assert not len(note(START + 3 * SECOND, "opened", "other"))
    [closed] = note(START + 4 * SECOND, "closed")
    assert (closed["state"], closed["ts_end"]) == (3, START + 4 * SECOND)


def test_notes_are_taken_in_order_and_rubbish_is_removed(tmp_path):
    for value in (1.0, 2.0):
        leave_note(tmp_path, "it", AlertNote("full", "opened", value=value))
    folder = tmp_path / "state" / "it" / "alert-notes"
    (folder / f"{0:020}-1.json").write_text('{"rule": 7, "state": "gone"}')
    assert [note.value for _, note in left_notes(tmp_path, "it")] == [1.0, 2.0]
    assert len(list(folder.iterdir())) == 2


def test_rules_about_the_host_are_told_once_and_end_when_they_are_over(tmp_path):
    # A disk that can never be free enough; a stage that is slow for a second, then is not.
    rules = [
        AlertRule("full", "disk", parameters={"free_gb": 1e9, "free_share": 1.0}),
        AlertRule("slow", "latency", parameters={"stage": "sink", "above_ms": 5.0}),
    ]
    host = HostRules(rules, tmp_path, "it")

    def look(now, p99):
        times = (100, 1_000, p99, p99)
        write_times(tmp_path, "it", "sink-lake", {"sink": (times, times)})
        host.look(now)
        found = []
        for path, note in left_notes(tmp_path, "it"):
            found.append((note.rule, note.state, note.subject))
            path.unlink()
        return found

    slow = 7_000_000
    assert look(1.0, slow) == [("full", "opened", "data"), ("slow", "opened", "sink")]
    assert look(2.0, slow) == []
    assert look(3.0, 3 * slow) == [("slow", "updated", "sink")]
    assert look(4.0, 1_000) == []
    assert look(14.0, 1_000) == [("slow", "closed", "")]
    assert look(15.0, slow) == [("slow", "opened", "sink")]


def notes_of(host, path, *times):
    for at in times:
        host.look(float(at))
    found = [(note.rule, note.state) for _, note in left_notes(path, "it")]
    for note, _ in left_notes(path, "it"):
        note.unlink()
    return found


@pytest.mark.parametrize(
    ("given", "is_short"),
    [
        ({}, False),
        ({"free_gb": 1e9}, True),
        ({"free_share": 1.0}, True),
        ({"free_gb": 1e9, "free_share": 1e-9}, False),
    ],
)
def test_a_disk_is_short_of_what_its_rule_names(tmp_path, given, is_short):
    # One that is named has its own say; of two, both must be short, and so where none is named.
    host = HostRules([AlertRule("full", "disk", parameters=given)], tmp_path, "it")
    assert notes_of(host, tmp_path, 1) == ([("full", "opened")] if is_short else [])


@pytest.mark.parametrize("is_removed", [False, True])
def test_what_the_host_had_open_is_closed_after_a_restart(tmp_path, is_removed):
    full = AlertRule("full", "disk", parameters={"free_gb": 1e9, "free_share": 1.0})
    fine = AlertRule("full", "disk", parameters={"free_gb": 1e-9, "free_share": 1e-9})
    assert notes_of(HostRules([full], tmp_path, "it"), tmp_path, 1) == [("full", "opened")]
    assert notes_of(HostRules([full], tmp_path, "it"), tmp_path, 1, 2) == [("full", "updated")]
    again = HostRules([] if is_removed else [fine], tmp_path, "it")
    assert notes_of(again, tmp_path, 100, 111, 122) == [("full", "closed")]
    assert notes_of(HostRules([fine], tmp_path, "it"), tmp_path, 1, 20, 40) == []


def test_a_stage_that_stands_still_is_beyond_its_budget(tmp_path):
    rule = AlertRule("slow", "latency", parameters={"stage": "sink", "above_ms": 3_000.0})
    host = HostRules([rule], tmp_path, "it")
    state = tmp_path / "state" / "it"

    def tell(lag, samples):
        times = (samples, 1_000, 1_000, 1_000)
        write_times(tmp_path, "it", "sink-far", {"sink": (times, times)})
        # Another store that is well hides nothing.
        write_times(tmp_path, "it", "sink-near", {"sink": ((9, 1, 2, 3), (9, 1, 2, 3))})
        told = {"tapes": {"market-data.bars": {"lag": lag}}}
        (state / "sink-far.json").write_text(json.dumps(told))

    tell(0, 0)
    assert notes_of(host, tmp_path, 1, 5, 9) == []
    tell(7, 5)
    assert notes_of(host, tmp_path, 10, 15) == []
    tell(7, 0)
    assert notes_of(host, tmp_path, 20, 29) == []
    assert notes_of(host, tmp_path, 31, 95) == [("slow", "opened"), ("slow", "updated")]
    assert notes_of(HostRules([rule], tmp_path, "it"), tmp_path, 100, 102) == []
    tell(5, 0)
    assert notes_of(host, tmp_path, 97) == []
    tell(0, 3)
    assert notes_of(host, tmp_path, 98, 120) == [("slow", "closed")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "a"', "expected a name, and a rule or a kind"),
        ('name = "a"\nrule = "spred"', "did you mean spread"),
        ('name = "a"\nrule = "spread"\nabove = 3', "did you mean above_bps"),
        ('name = "a"\nrule = "spread"\nabove_bps = -1', "expected a number above 0, got -1"),
        ('name = "a"\nrule = "stuffing"\ncancels = 2', "expected a number from 0 to 1, got 2"),
        ('name = "a"\nrule = "spread"\nabove_bps = "wide"', "expected a number, got 'wide'"),
        ('name = "a"\nrule = "spread"\nseverity = "bad"', "severity: expected info"),
        (
            'name = "a"\nrule = "metric"\nmetric = "mid"\n[metrics]\nsets = ["l1"]',
            "expected above, below or deviations",
        ),
        ('name = "a"\nrule = "metric"\nmetric = "mid"\nabove = 1', "nothing makes mid"),
        ('name = "a"\nrule = "volatility"\nabove = 1', "nothing makes rv_60s"),
        (
            'name = "a"\nrule = "metric"\nmetric = "ofi_9s"\nabove = 1\n[metrics]\nsets = ["ofi"]',
            'makes no "ofi_9s"',
        ),
        ('name = "a"\nrule = "rate"', "expected above or below"),
        (
            'name = "a"\nrule = "gap"\nsources = ["nowhere"]\n'
            '[feeds.binance-spot]\nsymbols = ["BTCUSDT"]',
            "sources: expected any of",
        ),
        ('name = "a"\nrule = "marking_close_like"', "expected hours"),
        ('name = "a"\nrule = "stale"\nhours = "9"', "such as 09:30-16:00"),
        ('name = "a"\nkind = "nowhere:Rule"', "cannot import nowhere"),
        ('name = "a"\nrule = "gap"\n[[alerts]]\nname = "a"\nrule = "gap"', "expected one rule 'a'"),
    ],
)
def test_a_wrong_rule_is_named_before_anything_runs(tmp_path, text, told):
    with pytest.raises(ConfigError) as error:
        settings(tmp_path, f"[[alerts]]\n{text}\n")
    assert told in str(error.value)
    assert "alerts" in str(error.value)


def test_settings_with_rules_are_written_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    config = settings(tmp_path, RULES)
    again = settings(tmp_path, write_toml(config))
    assert again.alerts == config.alerts
    assert len(again.alerts) == 4


LONG = """\
from tapeworks.processors.own_alerts import Finding, Rule

class Long(Rule):
    def process(self, batch):
        text, state = "x" + "\\u00e9" * 100 + "\\ud800", self.rule.parameters["state"]
        yield Finding(batch.first_offset, 1, state, subject=text, detail=text)
"""


def test_texts_of_own_rules_are_cut_at_a_character_and_their_states_known(
    tmp_path, monkeypatch, maker
):
    # Both fields end within a character of two bytes.
    (tmp_path / "long_rule.py").write_text(LONG)
    monkeypatch.syspath_prepend(str(tmp_path))

    refused = []

    def found(state: str) -> pa.RecordBatch:
        rule = AlertRule("long", kind="long_rule:Long", parameters={"state": state})
        batch = Records.from_bytes(maker.trades(1).tobytes(), next_offset=1)
        runner = AlertsProcessor({}, [rule])
        made = bytes(runner.process(batch))
        refused.extend(runner.take_endings())
        return pa.record_batch(Records.from_bytes(made).arrow("alert", Symbols()))

    rows = found("instant")
    assert rows["state"].to_pylist() == ["opened", "closed"]
    assert rows["subject"].to_pylist() == ["x" + "\u00e9" * 19] * 2
    assert rows["detail"].to_pylist() == ["x" + "\u00e9" * 51] * 2
    assert not refused
    assert not len(found("told"))
    assert "expected a state of opened, updated, closed" in refused[0].why
