"""The process of one view."""

import logging
from pathlib import Path

from tapeworks.errors import TapeworksError
from tapeworks.registry import load_member
from tapeworks.stopping import Stop, on_stop
from tapeworks.views.base import SymbolsBySource, resolve_symbols
from tapeworks.views.config import ViewConfig

log = logging.getLogger("tapeworks.views")


def run_worker(config: ViewConfig, data: Path, name: str, named: SymbolsBySource) -> int:
    """Runs the view `name` until SIGTERM. `named` holds the symbols that the settings record.

    Raises:
        ConfigError: a setting is wrong.
        TapeworksError: the view ended before it was asked to.
    """
    stop = Stop()
    on_stop(stop.set)
    symbols = resolve_symbols(data, named, config.sources, config.symbols)
    load_member("view", config.kind or name)(config, data, symbols, stop).run()
    if not stop:
        raise TapeworksError(
            f"view {name} ended by itself: expected `run` to return when `stop` says so"
        )
    return 0
