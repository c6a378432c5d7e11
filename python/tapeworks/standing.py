"""Which stages stand still: their input waits, and nothing comes out of them.

A stage that moves nothing measures nothing. What waits for it is in the files that its worker
replaces once a second; that of a recorder is not known.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from tapeworks.stage_times import OLD_S, has_recent
from tapeworks.topics import BOOK, METRICS

DERIVED = {"book": BOOK, "metrics": METRICS}


class Standing:
    """Since when each stage of one source stands still, by what is looked up again and again."""

    def __init__(self, data: Path, source: str) -> None:
        self._data = data
        self._source = source
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        """By stage and its tape: since when it stands still, and how many items waited last."""

    def look(self, stage: str, now: float) -> tuple[float, int] | None:
        """Returns for how long `stage` stands still, in seconds, and how many items wait.

        None: it moves, nothing waits, or it is not known.
        """
        seen: dict[tuple[str, str], tuple[float, int]] = {}
        for worker, tape, waiting in self._waiting(stage):
            if waiting == 0 or has_recent(self._data, self._source, worker, stage):
                continue
            key = (stage, f"{worker}/{tape}")
            since, before = self._seen.get(key, (now, waiting))
            # Fewer than before: it moved, though what it moved makes no sample.
            seen[key] = (since if waiting >= before else now, waiting)
        self._seen = {key: one for key, one in self._seen.items() if key[0] != stage} | seen
        if not seen:
            return None
        since, waiting = min(seen.values())
        return now - since, waiting

    def _waiting(self, stage: str) -> Iterator[tuple[str, str, int]]:
        """Yields the workers of a stage, their tapes, and how many items wait."""
        folder = self._data / "state" / self._source
        if stage in DERIVED:
            yield "derive", DERIVED[stage], _number(_read(folder / "derive.json"), DERIVED[stage])
        if stage != "sink":
            return
        for path in sorted(folder.glob("sink-*.json")):
            tapes = _read(path).get("tapes")
            for tape, told in tapes.items() if isinstance(tapes, dict) else ():
                yield path.stem, tape, _number(told, "lag")


def _read(path: Path) -> dict[str, object]:
    """Returns what a worker tells; nothing where it does not run."""
    try:
        if time.time() - path.stat().st_mtime > OLD_S:
            return {}
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _number(told: object, name: str) -> int:
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, int) else 0
