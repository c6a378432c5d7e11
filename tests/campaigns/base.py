"""The contract of campaigns and their table.

A campaign is a module with one function, `run(seed, folder) -> Outcome`. It builds everything that
it needs below `folder`, does to it what its docstring says, and compares what is left with an
oracle. All chance comes from `seed`. A run that found nothing wrong has no complaints.
"""

import importlib
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast


@dataclass
class Outcome:
    """What one run showed."""

    complaints: list[str] = field(default_factory=list)
    """Every way in which the product was wrong: lost, doubled, changed, hung, false success."""
    figures: Counter[str] = field(default_factory=Counter)
    """Counts that are summed over all runs and printed."""

    def expect(self, condition: bool, complaint: str) -> None:
        """Adds `complaint` unless `condition` holds."""
        if not condition:
            self.complaints.append(complaint)


Run = Callable[[int, Path], Outcome]

# Longer than any run takes on a machine under load.
RUN_S_MAX = 300

# Runs at once on two cores, where a campaign waits more than it computes.
AT_ONCE = 4


def names() -> list[str]:
    """Returns the campaigns that there are: the modules of this folder but for this contract."""
    folder = Path(__file__).parent
    own = {"__init__", "__main__", "base", "pipelines"}
    return sorted(path.stem for path in folder.glob("*.py") if path.stem not in own)


def load(name: str) -> Run:
    """Returns the function that runs the campaign `name` once."""
    return cast(Run, importlib.import_module(f"tests.campaigns.{name}").run)


def summary(name: str) -> str:
    """Returns the first line of what the campaign `name` says of itself."""
    module = importlib.import_module(f"tests.campaigns.{name}")
    return (module.__doc__ or "").strip().splitlines()[0]


class RunHangsError(BaseException):
    """A run did not end in time; no `except Exception` of a campaign takes it for its own."""


def _hangs(*_: object) -> None:
    raise RunHangsError


def run_once(job: tuple[str, int]) -> tuple[str, int, Outcome]:
    """Runs one campaign with one seed; the folder of a run with complaints is kept.

    A run that does not end within `RUN_S_MAX` is ended, with a complaint that says where it was.
    """
    name, seed = job
    folder = Path(tempfile.mkdtemp(prefix=f"tapeworks-{name}-{seed}-"))
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(RUN_S_MAX)
    try:
        outcome = load(name)(seed, folder)
    except RunHangsError:
        where = traceback.format_exc(limit=-4)
        outcome = Outcome([f"expected an end within {RUN_S_MAX} s, got none:\n{where}"])
    except Exception:
        outcome = Outcome([traceback.format_exc(limit=-4)])
    finally:
        signal.alarm(0)
    if outcome.complaints:
        outcome.complaints.append(f"kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return name, seed, outcome
