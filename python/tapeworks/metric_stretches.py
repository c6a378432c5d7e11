"""Which metrics were measured of which part of a source: without it, no value could mean either
that there was none, or that nobody measured it.

    data/state/<source>/metric-sets.json

It is written when the metrics of a source begin to be made with other settings than before.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tapeworks._core import Processor
from tapeworks.durable import make_folder, replace_file

_log = logging.getLogger("tapeworks.metrics")
KEPT_MAX = 1_000
"""Stretches of one source: the oldest are forgotten."""
# Of the core's metrics: counts trades that no window of trades took.
LATE_TRADES = "late_trades"
Settings = Mapping[str, int | str | Sequence[int]]


@dataclass(frozen=True)
class Stretch:
    """Settings of metrics, and from where on they hold: up to the next ones."""

    settings: Settings
    """As the core names them."""
    first: int
    """Offset on the normalized tape of the first record that is measured so."""
    since: int | None = None
    """The venue's time of the newest event before that, in ns; none: it is the first of all."""

    @property
    def symbols(self) -> frozenset[str]:
        """The venue's symbols that are measured; none: all."""
        return frozenset(filter(None, str(self.settings.get("symbols", "")).split(",")))

    def is_known(self) -> bool:
        """Says whether this version of the core takes the settings."""
        try:
            Processor("metrics", self.settings)
        except ValueError:
            return False
        return True

    def makes(self, metric: str) -> bool:
        """Says whether `metric`, such as `ofi_1s`, is among what the settings have made."""
        if metric == LATE_TRADES:
            return bool(self.settings.get("trade_windows"))
        if not metric or set("\t\n\r\0") & set(metric):
            return False
        # The core names what it makes where a rule names what it does not.
        rule = f"x\tmetric\twarning\t\t\tmetric={metric}\tabove=0.0"
        try:
            Processor("alerts", {**self.settings, "rules": rule})
        except ValueError:
            return False
        return True


def read_stretches(data: Path, source: str) -> list[Stretch]:
    """Returns all stretches of `source`, oldest first; none where nothing was noted."""
    path = _path(data, source)
    try:
        return [Stretch(**one) for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, TypeError, ValueError) as error:
        _log.error("%s cannot be read: what was measured is told by rows alone: %s", path, error)
        return []


def note_settings(
    data: Path, source: str, settings: Settings, offset: int, since: int | None
) -> None:
    """Notes that metrics are made with `settings` from `offset` on, and no more as before.

    `since` is the venue's time of the newest event before it.
    """
    stored = read_stretches(data, source)
    # Where a repair took back what is behind `offset`, it is made anew.
    stretches = [one for one in stored if one.first < offset]
    settings = json.loads(json.dumps(dict(settings)))
    if not stretches or stretches[-1].settings != settings:
        stretches.append(Stretch(settings, offset, since if offset else None))
    if stretches != stored:
        path = _path(data, source)
        make_folder(path.parent)
        replace_file(path, json.dumps([asdict(one) for one in stretches[-KEPT_MAX:]]))


def _path(data: Path, source: str) -> Path:
    return data / "state" / source / "metric-sets.json"
