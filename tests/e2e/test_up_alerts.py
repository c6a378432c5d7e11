"""`tape up` with rules: alerts while it records, told to a web hook, acknowledged, replayed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.arrivals import wait
from tests.receivers import Hook, served

import tapeworks as tw
from tapeworks._core import Processor, dtype_descr
from tapeworks.config import parse
from tapeworks.pipeline import processors_of
from tapeworks.register import supervisors
from tapeworks.settings import resolve_config
from tapeworks.simulators import start_simulator
from tapeworks.tape import TapeReader
from tapeworks.topics import ALERTS, NORMALIZED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SOURCE = "binance-spot"
ALERT = np.dtype(dtype_descr("alert"))
RULES = """
[metrics]
sets = ["l1"]
interval_ms = 1000

[latency]
publish_ms = 0.000001

[[alerts]]
name = "busy"
rule = "rate"
kinds = "trade"
above = 1
window_ms = 500

[[alerts]]
name = "moves"
rule = "metric"
metric = "mid"
above = 0
severity = "critical"

[sinks.parquet]
flush_seconds = 0.5
"""


def test_alerts_of_a_running_pipeline(tape: Any):
    # A simulated exchange under rules that it breaks; the budget of a stage is one that nothing
    # keeps. The derivation is killed in the midst. In the end all that was told follows from the
    # normalized tape alone.
    hook = Hook()
    with start_simulator("binance", "--rate", "400") as exchange, served(hook):
        path = tape.folder / "tapeworks.toml"
        path.write_text(
            f'[feeds.{SOURCE}]\nsymbols = ["BTCUSDT", "ETHUSDT"]\nws_url = "{exchange.ws_url}"\n'
            f'rest_url = "{exchange.rest_url}"\n{RULES}[sinks.notify]\nseverity = "critical"\n'
        )
        urls = {"TAPEWORKS_SINKS__NOTIFY__URLS": hook.url}
        process = tape.start("up", environment=urls)
        data = tape.folder / "data"
        wait(lambda: found(data, "latency-publish") and found(data, "moves"), process)
        [latency] = json.loads(tape.run("alerts", "list", "--rule", "latency-publish", "--json"))
        assert (latency["subject"], latency["state"]) in {
            ("publish", "opened"),
            ("publish", "updated"),
        }
        told = [(row["stage"], row["store"]) for row in json.loads(tape.run("latency", "--json"))]
        ours = ("receive", "publish", "normalize", "book", "metrics")
        stores = ("notify", "parquet")
        assert told == [*((one, "") for one in ours), *(("sink", one) for one in stores)]
        wait(lambda: len(hook.taken) >= 1, process)
        assert hook.taken[0]["title"].startswith("[critical] moves opened: ")
        derive = [
            worker["pid"]
            for one in supervisors(data)
            for worker in one.workers
            if worker["name"] == f"derive-{SOURCE}"
        ]
        os.kill(derive[0], signal.SIGKILL)
        tape.run("alerts", "ack", latency["id"], "--note", "seen")
        wait(lambda: "acknowledged" in found(data, "latency-publish"), process)
        tape.interrupt(process)
    check_replay(path, data)


def found(data: Path, rule: str) -> set[str]:
    """Returns the states of the alerts of a rule that are told so far."""
    if not (data / "tape" / SOURCE / ALERTS).is_dir():
        return set()
    sql = f"select distinct state from alerts where rule = '{rule}'"
    with tw.open(data) as lake:
        return {row["state"] for row in lake.sql(sql).to_pylist()}


def check_replay(path: Path, data: Path) -> None:
    """Runs the rules over the whole tape once more, which must give the same bytes."""
    settings = processors_of(resolve_config(parse(path, {})), SOURCE).settings("alerts")
    processor, made = Processor("alerts", settings), []
    reader = TapeReader(data / "tape" / SOURCE / NORMALIZED)
    while (batch := reader.read(777)) is not None:
        made.append(bytes(memoryview(processor.process(batch))))
    stored, told = TapeReader(data / "tape" / SOURCE / ALERTS), []
    while (batch := stored.read(4_096)) is not None:
        told.append(bytes(memoryview(batch)))
    assert b"".join(made) == b"".join(told)
    states = np.frombuffer(b"".join(told), ALERT)["state"]
    assert {1, 4} <= set(states.tolist())
