"""The process of a worker in the campaign: apart, as it is loaded once and forked many times."""

import logging
import sys
from pathlib import Path
from typing import Any

from tapeworks.pipeline import Config
from tapeworks.sinks.worker import run_worker

SOURCES = ("binance-spot", "binance-futures")


def run_sink(data: Path, name: str, settings: Any, log: Path) -> None:
    """Runs a sink over all sources, as `tape worker sink` does, with a log of its own."""
    logging.basicConfig(filename=log, level="INFO", format="%(asctime)s %(message)s")
    feeds = dict.fromkeys(SOURCES)
    sys.exit(run_worker(Config(data, feeds, sinks={name: settings}), name))
