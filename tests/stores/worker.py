"""The process of a worker in the campaign: apart, as it is loaded once and forked many times."""

import logging
import sys
from pathlib import Path
from typing import Any

from tapeworks.pipeline import Config
from tapeworks.sinks import feeder, worker

SOURCES = ("binance-spot", "binance-futures")
TOPIC = "market-data.normalized"


def run_sink(data: Path, name: str, settings: Any, log: Path) -> None:
    """Runs a sink over all sources, as `tape worker sink` does, with a log of its own."""
    logging.basicConfig(filename=log, level="INFO", format="%(asctime)s %(message)s")
    # What an operator would have to look at is tried again at once, and a server that was down
    # soon: a sink that waits is not attacked.
    worker.FAILED_S = 0.5
    feeder.BACKOFF_S_MAX = 2.0
    feeds = dict.fromkeys(SOURCES)
    sys.exit(worker.run_worker(Config(data, feeds, sinks={name: settings}), name))
