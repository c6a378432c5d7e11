"""How long records take from their receipt to each stage, as the workers of a source tell it.

    data/state/<source>/times-<worker>.json

Each worker replaces its file once a second: of each of its stages the durations since it started,
and those of the last seconds. A file that is old is of a worker that does not run.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tapeworks.durable import replace_file

STAGES = ("receive", "publish", "normalize", "book", "metrics", "sink")
"""The stages of a record's way, in its order."""
OLD_S = 15.0


@dataclass(frozen=True)
class Durations:
    """How many records, and how long they took, in ns."""

    count: int = 0
    p50: int = 0
    p99: int = 0
    max: int = 0

    def quantile(self, name: str) -> int:
        """Returns `p50`, `p99` or `max`."""
        return int(getattr(self, name))


@dataclass(frozen=True)
class StageTimes:
    """The durations of one stage, of one or more workers: those of the slowest."""

    total: Durations = field(default_factory=Durations)
    recent: Durations = field(default_factory=Durations)


Told = tuple[int, int, int, int]


def write_times(
    data: Path, source: str, worker: str, times: Mapping[str, tuple[Told, Told]]
) -> None:
    """Replaces what `worker` tells of its stages. A full disk leaves it as it is."""
    stages = {
        name: asdict(StageTimes(Durations(*total), Durations(*recent)))
        for name, (total, recent) in times.items()
    }
    with contextlib.suppress(OSError):
        folder = data / "state" / source
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"ts": time.time_ns(), "stages": stages})
        replace_file(folder / f"times-{worker}.json", content, sync=False)


def read_times(data: Path, source: str, old_s: float = OLD_S) -> dict[str, StageTimes]:
    """Returns the times of each stage as its workers told them in the last `old_s` seconds.

    Of several stores, those of the slowest of late.
    """
    found: dict[str, StageTimes] = {}
    for name, _, times in worker_times(data, source, old_s):
        known = found.get(name)
        if known is None or known.recent.p99 < times.recent.p99:
            found[name] = times
    return found


def worker_times(
    data: Path, source: str, old_s: float = OLD_S
) -> list[tuple[str, str, StageTimes]]:
    """Returns stage, worker and times, told in the last `old_s` seconds, by the stages' order."""
    found: list[tuple[str, str, StageTimes]] = []
    for path in sorted((data / "state" / source).glob("times-*.json")):
        try:
            told = json.loads(path.read_bytes())
            # One of the future is of before the clock was set back: nobody knows how old it is.
            if abs(time.time_ns() - told["ts"]) > old_s * 1e9:
                continue
            for name, one in told["stages"].items():
                times = StageTimes(Durations(**one["total"]), Durations(**one["recent"]))
                found.append((name, path.stem.removeprefix("times-"), times))
        except (OSError, KeyError, TypeError, ValueError):
            # It is being replaced, or is no file of ours.
            continue
    known = [one for one in found if one[0] in STAGES]
    return sorted(known, key=lambda one: STAGES.index(one[0]))


def has_recent(data: Path, source: str, worker: str, stage: str) -> bool:
    """Whether `worker` told a duration of `stage` of late."""
    try:
        told = json.loads((data / "state" / source / f"times-{worker}.json").read_bytes())
        is_old = abs(time.time_ns() - told["ts"]) > OLD_S * 1e9
        return not is_old and bool(told["stages"][stage]["recent"]["count"])
    except (OSError, KeyError, TypeError, ValueError):
        return False
