"""The contract of a view that runs for as long as `tape up` does: a page, a screen, an exporter.

A view reads a data folder and changes nothing in it. Name it in the settings, and `tape up` runs it
in a process of its own; `tape worker view NAME` runs it alone, also beside a recorder on another
machine that shares the folder:

    [views.board]
    kind = "my_package.my_module:MyView"

A view that fails is started again, one that hangs is killed, and neither touches what is recorded.
It looks at `stop` at least every few seconds: that is its sign of life, and how it is asked to end.
It may start before anything is recorded, and is stopped last. What it logs is in its own log.
`examples/own_view.py` is a whole one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tapeworks.errors import ConfigError
from tapeworks.source_symbols import SourceSymbols
from tapeworks.stopping import Stop
from tapeworks.tape import taped_sources
from tapeworks.views.config import ViewConfig
from tapeworks.views.lake import Lake
from tapeworks.views.lake_check import sources as lake_sources

SymbolsBySource = Mapping[str, tuple[str, ...]]


class View(ABC):
    """A reader of a data folder that runs until it is asked to stop.

    A class that needs settings of its own names their dataclass as `Config`.
    """

    Config: ClassVar[type[ViewConfig]] = ViewConfig

    def __init__(self, config: Any, data: Path, symbols: SymbolsBySource, stop: Stop) -> None:
        self.config = config
        self.data = data
        self.lake = Lake(data)
        """Reads the folder, the newest records included; never writes."""
        self.symbols = symbols
        """Source -> the symbols that it records."""
        self.stop = stop
        """Whether to end: `while not self.stop.wait(1.0): ...`."""

    @abstractmethod
    def run(self) -> None:
        """Shows what is stored until `stop` says to end, and returns then.

        Raises:
            ConfigError: a setting is wrong; it is not started again.
        """


def recorded_sources(data: Path) -> list[str]:
    """Returns the sources of which `data` holds a tape, or something in the lake."""
    return sorted({*lake_sources(data / "lake"), *taped_sources(data)})


def resolve_symbols(
    data: Path, named: SymbolsBySource, sources: Sequence[str], symbols: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Returns source -> symbols: of `sources` (none: all) those in `symbols` (none: all).

    A source that has none of `symbols` is left out, unless none of its own are known yet.
    `named` holds what the settings record. Sources that it lacks, and those of which it names no
    symbol, are looked up in the folder `data`; without `sources` it need not be complete.

    Raises:
        ConfigError: there is no such source or symbol; the message lists those that there are.
        TapeworksError: a tape or the lake is damaged.
    """
    chosen = choose_sources(sources, list(named) or recorded_sources(data), data)
    found = {name: named.get(name) or _recorded_symbols(data, name) for name in chosen}
    known = {symbol for one in found.values() for symbol in one}
    # What is not recorded yet has no symbols to compare with.
    if known and (wrong := sorted(set(symbols) - known)):
        raise ConfigError(f"expected symbols of {', '.join(sorted(known))}, got {', '.join(wrong)}")
    if not symbols:
        return found
    return {
        name: mine
        for name, one in found.items()
        if (mine := tuple(symbol for symbol in one if symbol in symbols)) or not one
    }


def choose_sources(sources: Sequence[str], known: Sequence[str], data: Path) -> list[str]:
    """Returns `sources`, or all that are `known` where it names none.

    Raises:
        ConfigError: one is neither known nor recorded in `data`; the message lists the others.
    """
    if not sources:
        return list(known)
    names = sorted({*known, *recorded_sources(data)})
    for source in sources:
        if source not in names:
            raise ConfigError(f"expected a source of {', '.join(names) or 'none'}, got {source!r}")
    return list(dict.fromkeys(sources))


def _recorded_symbols(data: Path, source: str) -> tuple[str, ...]:
    return tuple(sorted(set(SourceSymbols(data, source).names().values())))
