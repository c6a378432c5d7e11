"""The state of a data folder for Prometheus, and as JSON, over HTTP.

    [views.metrics]
    port = 9464

`/metrics` is the text format of Prometheus, `/status` what `tape status --json` prints. Both are
read from the tapes when they are asked for, at most once in `age_s_max`. Listens on this machine
alone unless `host` says otherwise: there is no password, and nothing can be changed through it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import NamedTuple

from aiohttp import web

from tapeworks.errors import TapeworksError
from tapeworks.views.base import View
from tapeworks.views.config import MetricsConfig
from tapeworks.views.status import VERIFIED, PipelineState, SourceState, Status, TapeState

log = logging.getLogger("tapeworks.views")

LOOK_S = 0.2
# What a question that is being answered may take when the view is stopped.
CLOSE_S = 1.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


class MetricsView(View):
    """Serves what `tape status` shows."""

    Config = MetricsConfig

    def run(self) -> None:
        """Serves until asked to stop.

        Raises:
            TapeworksError: the port cannot be listened on.
        """
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        reader = _StateReader(self)
        app = web.Application()
        app.router.add_get("/metrics", reader.metrics)
        app.router.add_get("/status", reader.status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S)
        await runner.setup()
        try:
            await self._listen(runner)
            # A signal's handler sets it, and cannot wake an event of the loop.
            while not self.stop:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self.config.host, self.config.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            # That of asyncio repeats the address.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise TapeworksError(
                f"cannot listen on {host} port {port}: {why}; `port` and `host` of the view name "
                "another place"
            ) from None
        host, port = runner.addresses[0][:2]
        log.info(
            "serving http://%s:%d/metrics and /status", f"[{host}]" if ":" in host else host, port
        )


class _StateReader:
    """Answers questions from one look at the folder, for as long as it is fresh."""

    def __init__(self, view: View) -> None:
        self._status = Status(view.data)
        self._config = view.config
        self._state: PipelineState | None = None
        self._read_at = 0.0

    async def metrics(self, request: web.Request) -> web.Response:
        """Answers in the text format of Prometheus."""
        return web.Response(
            body=metrics_text(self._read()).encode(), headers={"Content-Type": TEXT}
        )

    async def status(self, request: web.Request) -> web.Response:
        """Answers with all of the state, as JSON."""
        return web.json_response({**asdict(self._read()), "data": str(self._status.data)})

    def _read(self) -> PipelineState:
        now = time.monotonic()
        if self._state is None or now - self._read_at >= self._config.age_s_max:
            self._state, self._read_at = self._chosen(self._status.sample()), now
        return self._state

    def _chosen(self, state: PipelineState) -> PipelineState:
        """Leaves of `state` the sources and symbols that the settings of the view name."""
        sources, symbols = self._config.sources, self._config.symbols
        if sources:
            state.sources = [source for source in state.sources if source.name in sources]
        for source in state.sources if symbols else ():
            source.books = {name: book for name, book in source.books.items() if name in symbols}
        return state


class Metric(NamedTuple):
    """One metric: what it is called and means, and its values by labels."""

    name: str
    kind: str
    """`counter` or `gauge`."""
    doc: str
    values: Iterable[Sample]


def metrics_text(state: PipelineState) -> str:
    """Returns `state` in the text format of Prometheus, version 0.0.4."""
    lines = []
    for metric in (
        *_of_tapes(state),
        *_of_sources(state),
        *_of_faults(state),
        *_of_alerts(state),
        *_of_transfers(state),
        *_of_folder(state),
    ):
        samples = list(metric.values)
        if samples:
            name = f"tapeworks_{metric.name}"
            lines += [f"# HELP {name} {metric.doc}", f"# TYPE {name} {metric.kind}"]
            lines += [f"{name}{_labels(labels)} {value:.17g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _of_tapes(state: PipelineState) -> Iterator[Metric]:
    tapes = [
        ({"source": source.name, "topic": tape.topic}, tape)
        for source in state.sources
        for tape in source.tapes
    ]

    def values(number: Callable[[TapeState], float | None]) -> list[Sample]:
        found = [(labels, number(tape)) for labels, tape in tapes]
        return [(labels, value) for labels, value in found if value is not None]

    yield Metric(
        "tape_items_total",
        "counter",
        "Items on a tape, removed ones included.",
        values(lambda tape: tape.items),
    )
    yield Metric(
        "tape_durable_items_total",
        "counter",
        "Items that survive a loss of power.",
        values(lambda tape: tape.durable),
    )
    yield Metric(
        "tape_lag_items",
        "gauge",
        "Items of its input that a tape does not cover yet.",
        values(lambda tape: tape.lag),
    )
    yield Metric(
        "tape_bytes", "gauge", "Bytes of a tape on the disk.", values(lambda tape: tape.bytes)
    )


def _of_sources(state: PipelineState) -> Iterator[Metric]:
    def values(number: Callable[[SourceState], float]) -> list[Sample]:
        return [({"source": source.name}, number(source)) for source in state.sources]

    def told(key: str) -> list[Sample]:
        return values(lambda source: float((source.recorder or {}).get(key, 0)))

    yield Metric(
        "recording",
        "gauge",
        "Whether a recorder of the source runs.",
        values(lambda source: source.recorder is not None),
    )
    yield Metric(
        "connections",
        "gauge",
        "Connections of the recorder.",
        values(lambda source: len((source.recorder or {}).get("connections", ()))),
    )
    yield Metric(
        "reconnects_total",
        "counter",
        "Connections that had to be opened again.",
        told("reconnects"),
    )
    yield Metric(
        "shed_frames_total",
        "counter",
        "Frames shed as the tape could not be written.",
        told("shed"),
    )
    yield Metric(
        "gaps",
        "gauge",
        "Gaps in the ledger by cause and state.",
        [
            (
                {
                    "source": source.name,
                    "cause": gap.partition(" ")[0],
                    "state": gap.partition(" ")[2],
                },
                n,
            )
            for source in state.sources
            for gap, n in source.gaps.items()
        ],
    )
    yield Metric(
        "ledger_behind_frames",
        "gauge",
        "Frames of which gaps are not known yet.",
        values(lambda source: source.unknown.frames if source.unknown else 0),
    )
    yield Metric(
        "book_verified",
        "gauge",
        "Whether the book of a symbol is verified.",
        [
            ({"source": source.name, "symbol": symbol}, book == VERIFIED)
            for source in state.sources
            for symbol, book in source.books.items()
        ],
    )


def _of_faults(state: PipelineState) -> Iterator[Metric]:
    yield Metric(
        "stopped",
        "gauge",
        "A processor, or a rule of the user's own, that stopped: `tape status` says why.",
        [
            ({"source": source.name, "part": name}, 1)
            for source in state.sources
            for name in source.stopped
        ],
    )
    yield Metric(
        "troubles",
        "gauge",
        "What cannot be read or stored: `tape status` names it.",
        [({"source": source.name}, len(source.troubles)) for source in state.sources],
    )


def _of_alerts(state: PipelineState) -> Iterator[Metric]:
    rules = [
        ({"source": source.name, "rule": one.rule, "severity": one.severity}, one)
        for source in state.sources
        for one in source.alerts
    ]
    yield Metric(
        "alerts_open",
        "gauge",
        "Alerts of a rule that are not closed.",
        [(labels, one.open) for labels, one in rules],
    )
    yield Metric(
        "alerts_opened_total",
        "counter",
        "Alerts of a rule that were opened, as far as the tape has them.",
        [(labels, one.opened) for labels, one in rules],
    )


def _of_transfers(state: PipelineState) -> Iterator[Metric]:
    sinks = [
        ({"source": source.name, "sink": sink.sink, "topic": sink.topic}, sink)
        for source in state.sources
        for sink in source.sinks
    ]
    read = [({"topic": one.topic, "partition": one.partition}, one) for one in state.replicas]
    for name, unit, kind, doc in (
        ("stored", "stored_items", "counter", "Items of a tape up to which a sink has stored it."),
        ("lag", "lag_items", "gauge", "Durable items of a tape that a sink has not stored yet."),
        ("lag_s", "lag_seconds", "gauge", "How long ago the oldest of these was received."),
        ("rejected", "rejected_items", "counter", "Items that the store never takes: kept aside."),
        (
            "errors",
            "errors",
            "counter",
            "How often a sink failed to store a tape since it was started.",
        ),
    ):
        whole = f"sink_{unit}_total" if kind == "counter" else f"sink_{unit}"
        yield Metric(whole, kind, doc, [(labels, getattr(sink, name)) for labels, sink in sinks])
    for name, kind, doc in (
        ("position", "counter", "Position up to which a partition was read into tapes here."),
        ("lag", "gauge", "Positions of a partition that were not read yet."),
        ("unreadable", "counter", "Messages of a partition that are no records."),
        ("repeated", "counter", "Messages of a partition that were there more than once."),
        ("rebalances", "counter", "How often the group shared partitions out anew."),
    ):
        whole = f"replica_{name}_total" if kind == "counter" else f"replica_{name}"
        yield Metric(whole, kind, doc, [(labels, getattr(one, name)) for labels, one in read])


def _of_folder(state: PipelineState) -> Iterator[Metric]:
    workers = [({"worker": worker.name}, worker) for worker in state.workers]
    tables = [({"table": table}, found) for table, found in state.lake.items()]
    yield Metric(
        "worker_running",
        "gauge",
        "Whether a worker runs.",
        [(labels, worker.state == "running") for labels, worker in workers],
    )
    yield Metric(
        "worker_restarts_total",
        "counter",
        "How often a worker was started again.",
        [(labels, worker.restarts) for labels, worker in workers],
    )
    yield Metric(
        "lake_files",
        "gauge",
        "Files of a table.",
        [(labels, files) for labels, (files, _) in tables],
    )
    yield Metric(
        "lake_bytes", "gauge", "Bytes of a table.", [(labels, size) for labels, (_, size) in tables]
    )
    yield Metric("folder_bytes", "gauge", "Bytes of the data folder.", [({}, state.disk_bytes)])
    yield Metric("disk_free_bytes", "gauge", "Free bytes of its disk.", [({}, state.free_bytes)])


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    told = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(told) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
