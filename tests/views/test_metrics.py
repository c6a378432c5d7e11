"""The view `metrics`: what it says is what the status says, in a form that Prometheus reads."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tapeworks.replicas import worker as replica_worker
from tapeworks.replicas.base import TopicReader
from tapeworks.settings import Config
from tapeworks.sinks import worker as sink_worker
from tapeworks.sinks.parquet import ParquetConfig
from tapeworks.topics import NORMALIZED
from tapeworks.views.metrics import metrics_text
from tapeworks.views.status import PipelineState, SourceState, Status, WorkerState

# The grammar of the text format: a name, labels with escaped values, a number.
LABEL = r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
ESCAPE = re.compile(r"\\(.)")
ESCAPED = {"n": "\n"}


def parse(text: str) -> dict[tuple[str, ...], float]:
    """Reads the text format as strictly as it is written down; by name and sorted labels."""
    assert text.endswith("\n")
    found: dict[tuple[str, ...], float] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name not in kinds
            assert kind in ("counter", "gauge")
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        name, labels = match[1], match[2] or ""
        assert name == list(kinds)[-1]
        values = [
            f"{label}={ESCAPE.sub(lambda at: ESCAPED.get(at[1], at[1]), value)}"
            for label, value in re.findall(LABEL, labels)
        ]
        key = (name.removeprefix("tapeworks_"), *sorted(values))
        assert key not in found, line
        found[key] = float(match.groups()[-1])
    return found


def test_numbers_are_those_of_the_status(spine, maker):
    # Each tape of a folder, its sink and its disk.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    spine.drain()
    state = Status(spine.path).sample()
    found = parse(metrics_text(state))
    [tape] = state.sources[0].tapes
    where = ("source=binance-spot", "topic=market-data.normalized")
    assert (tape.items, tape.durable) == (103, 103)
    assert found["tape_items_total", *where] == tape.items
    assert found["tape_durable_items_total", *where] == tape.durable
    assert found["tape_bytes", *where] == tape.bytes
    assert found["recording", "source=binance-spot"] == 0
    files, size = state.lake["trades"]
    assert found["lake_files", "table=trades"] == files
    assert found["lake_bytes", "table=trades"] == size
    assert found[("disk_free_bytes",)] == state.free_bytes


class QuietReader(TopicReader):
    """A reader of a topic with one partition, of which nothing more comes."""

    def __init__(self, address, context):
        self.lag = 7

    def poll(self, timeout_s):
        return 0

    def checkpoint(self):
        pass

    def local_sources(self):
        return []

    def status(self):
        told = {"position": 40, "lag": self.lag, "unreadable": 2, "repeated": 3, "rebalances": 1}
        return {"4": told}

    @property
    def troubles(self):
        return ["Kafka: no answer"]

    def close(self):
        pass


def test_sinks_and_readers_of_topics_say_how_far_they_are(spine, maker, tmp_path):
    # A sink that stored all of a tape, then has more to store; a partition that is read. What was
    # written long ago is of a process that does not run.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    config = Config(spine.path, {spine.source: None}, sinks={"parquet": ParquetConfig()})
    members = [sink_worker.Member(one) for one in sink_worker.feeders(config, "parquet")]
    [normalized] = [one for one in members if one.feeder.topic == NORMALIZED]
    assert normalized.feeder.drain(20)
    spine.append(maker.trades(10, 100))
    sink_worker.tell(spine.path / "state", "parquet", members)
    normalized.close()
    replica_worker.tell(spine.path / "replicas" / NORMALIZED, QuietReader(None, None))
    state = Status(spine.path).sample()
    found = parse(metrics_text(state))
    where = ("sink=parquet", "source=binance-spot", f"topic={NORMALIZED}")
    assert found["sink_stored_items_total", *where] == 103
    assert found["sink_lag_items", *where] == 10
    assert found["sink_errors_total", *where] == 0
    assert found["sink_rejected_items_total", *where] == 0
    assert found["sink_lag_seconds", *where] > 0
    partition = ("partition=4", f"topic={NORMALIZED}")
    names = ("position_total", "lag", "unreadable_total", "repeated_total", "rebalances_total")
    assert [found[f"replica_{name}", *partition] for name in names] == [40, 7, 2, 3, 1]
    assert "Kafka: no answer" in state.troubles
    for path in spine.path.rglob("s*.json"):
        if "ts" in (told := json.loads(path.read_text())):
            path.write_text(json.dumps(told | {"ts": told["ts"] - 60 * 10**9}))
    assert not Status(spine.path).sample().replicas
    assert "sink_lag_items" not in metrics_text(Status(spine.path).sample())


def test_books_gaps_and_workers_are_told_whatever_they_are_called():
    # Labels that need to be escaped, numbers that do not fit 32 bits, and nothing that is unknown.
    source = SourceState("a", gaps={"sequence closed": 2, "disconnect open": 1})
    source.books = {'A"B\\C\nD': "continuous", "E": "line down"}
    source.recorder = {"reconnects": 7, "shed": 2**53 + 2, "connections": [{}, {}]}
    workers = [WorkerState("sink-x", "failing", 5), WorkerState("derive-a", "running", 1)]
    found = parse(metrics_text(PipelineState(Path(), [source], workers=workers)))
    assert found["book_verified", "source=a", 'symbol=A"B\\C\nD'] == 1
    assert found["book_verified", "source=a", "symbol=E"] == 0
    assert found["gaps", "cause=sequence", "source=a", "state=closed"] == 2
    assert found["gaps", "cause=disconnect", "source=a", "state=open"] == 1
    assert found["shed_frames_total", "source=a"] == 2**53 + 2
    assert found["reconnects_total", "source=a"] == 7
    assert found["connections", "source=a"] == 2
    assert found["worker_running", "worker=sink-x"] == 0
    assert found["worker_running", "worker=derive-a"] == 1
    assert found["worker_restarts_total", "worker=sink-x"] == 5


def first_url(process: "subprocess.Popen[str]") -> str:
    """Where a worker says that it listens."""
    assert process.stderr is not None
    for line in iter(process.stderr.readline, ""):
        if match := re.search(r"serving (\S+)/metrics", line):
            return match[1]
    raise AssertionError(f"it ended with {process.wait()}")


@pytest.mark.parametrize("is_writable", [True, False])
def test_worker_of_a_view_runs_alone(tape: Any, spine, maker, is_writable: bool):
    # `tape worker view`, without a feed in the settings, and where it cannot enter itself into the
    # folder, as on a volume that is mounted read-only. A second one on its port is refused.
    spine.append(maker.definitions())
    if not is_writable:
        # Whatever rights a test has: nothing can be made below a file.
        (spine.path / "run").write_text("")
    (tape.folder / "tapeworks.toml").write_text("[views.metrics]\nport = 0\n")
    process = tape.start("worker", "view", "metrics", "--data", spine.path)
    url = first_url(process)
    with urllib.request.urlopen(f"{url}/status", timeout=20) as answer:
        told = json.load(answer)
    assert [source["name"] for source in told["sources"]] == ["binance-spot"]
    assert [one["name"] for one in told["workers"]] == ["view-metrics"] * is_writable
    if is_writable:
        port = url.rpartition(":")[2]
        (tape.folder / "tapeworks.toml").write_text(f"[views.metrics]\nport = {port}\n")
        second = tape.start("worker", "view", "metrics", "--data", spine.path)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; `port`" in errors
        assert tape.run("down", "--data", spine.path) == (
            f"stopped process {process.pid}: view-metrics\n"
        )
        _, errors = process.communicate(timeout=20)
    else:
        _, errors = tape.interrupt(process)
    assert process.returncode == 0, errors


def test_worker_of_an_unknown_view_lists_those_that_there_are(tape: Any):
    # As for the other kinds.
    (tape.folder / "tapeworks.toml").write_text("[views.metrics]\nport = 0\n")
    told = tape.refuse("worker", "view", "metric", code=2)
    assert told.endswith("expected a worker of sink parquet, view metrics, got view metric")
