"""The process that stores the lake and publishes it, in the campaign: killed like any sink."""

import logging
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tapeworks import _core, object_store
from tapeworks.errors import TapeworksError
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.job import IcebergJob
from tapeworks.pipeline import Config
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.stopping import Stop
from tapeworks.views import iceberg

from .worker import SOURCES, TOPIC

STORE_S = 0.2
PUBLISHED = "published"
"""The name of the offset up to which a tape is in the table."""


@dataclass(frozen=True)
class Publishing:
    """What is published, and where the object store is."""

    config: IcebergConfig
    environment: dict[str, str]


def run_publisher(data: Path, name: str, settings: Publishing, log: Path) -> None:
    """Stores what is on the tapes and publishes it, until it is killed."""
    logging.basicConfig(filename=log, level="INFO", format="%(asctime)s %(message)s")
    os.environ.update(settings.environment)
    # A server that is silent counts as gone soon.
    for module in (object_store, iceberg):
        module.CONNECT_TIMEOUT_S, module.REQUEST_TIMEOUT_S = 1, 2  # type: ignore[attr-defined]
    object_store.ATTEMPTS = 1
    feeders = []
    for source in SOURCES:
        config = ParquetConfig(flush_seconds=0.1, flush_rows=2_000)
        partition = ParquetPartition(config, data, source, TOPIC)
        tape = data / "tape" / source / TOPIC
        feeders.append(Feeder(partition, tape, config.policy, name="sink-parquet"))
    job = IcebergJob(settings.config, Config(data), Stop(), logging.info)

    def publish() -> None:
        tapes = [data / "tape" / source / TOPIC for source in SOURCES]
        stored = [_core.load_offset(tape, "sink-parquet") for tape in tapes]
        job.run()
        for tape, offset in zip(tapes, stored, strict=True):
            if offset is not None:
                _core.save_offset(tape, PUBLISHED, offset)

    # Who finds the lake locked, as a second instance does, publishes what the other stores.
    steps = [*(partial(feeder.drain, STORE_S) for feeder in feeders), publish]
    while True:
        for step in steps:
            try:
                step()
            except TapeworksError as error:
                logging.info("%s: %s", type(error).__name__, error)
                time.sleep(0.05)
