"""What a derive worker tells once a second, for those who look at it."""

import contextlib
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from tapeworks.durable import replace_file
from tapeworks.hot_path import Aside
from tapeworks.processors.host_rules import HostRules
from tapeworks.stage_times import Told, write_times

TELL_S = 1.0
INDEX_S = 10.0
# Beside the topics: what has stopped, and why.
STOPPED = "stopped"


class HasStages(Protocol):
    """The stages of a source, as `Derivation` keeps them."""

    def lags(self) -> Mapping[str, int]:
        """Returns, by topic, how many published items each stage has yet to take."""

    def times(self) -> Mapping[str, tuple[Told, Told]]:
        """Returns how long records took to each stage that is measured: in all, and of late."""

    def stopped(self) -> Mapping[str, str]:
        """Returns which processors and rules of the user's own stopped, and why, by name."""

    def index_books(self) -> None:
        """Notes where the checkpoints of the book tape lie."""


class DeriveStatus:
    """Tells by a thread of its own: while a disk is slow, records must not wait."""

    def __init__(self, host: HostRules, data: Path, source: str) -> None:
        self._host = host
        self._data = data
        self._source = source
        self._told = self._indexed = 0.0
        self._aside = Aside()

    def tell_if_due(self, stages: HasStages) -> None:
        """Tells how far the stages are, and looks at the host, if it is time to."""
        now = time.monotonic()
        # Times of late are gone once they are taken: not before somebody can tell them.
        if now - self._told < TELL_S or not self._aside.is_free:
            return
        self._told = now
        told = dict(stages.lags()), dict(stages.stopped())
        self._aside.begin(partial(self._tell, stages, told, stages.times(), now))

    def close(self) -> None:
        """Waits until all is told."""
        self._aside.close()

    def _tell(
        self,
        stages: HasStages,
        told: tuple[Mapping[str, int], Mapping[str, str]],
        times: Mapping[str, tuple[Told, Told]],
        now: float,
    ) -> None:
        write_lags(self._data / "state" / self._source / "derive.json", *told)
        write_times(self._data, self._source, "derive", times)
        self._host.look()
        if now - self._indexed >= INDEX_S:
            self._indexed = now
            stages.index_books()


def write_lags(path: Path, lags: Mapping[str, int], stopped: Mapping[str, str]) -> None:
    """Replaces the file that status screens read. A tape without news does not say how far it is.

    A full disk must not end the derivation of what still fits: the file is then left as it is.
    """
    told = {**lags, STOPPED: stopped}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(told), sync=False)
