"""The job `iceberg`: publishes days of the lake that are over, once or again and again.

What does so needs pyiceberg, and is loaded when it runs.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapeworks._core import FolderLock
from tapeworks.durable import make_folder
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.jobs.base import INCOMPLETE, Job, JobOutcome
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.views.base import recorded_sources

PUBLISHER = "tapeworks.jobs.iceberg.publisher"
FOLDER = "iceberg"
RETRY_S, RETRY_S_MAX = 5.0, 300.0


class Unavailable(TapeworksError):
    """The store or the catalog does not answer, or refuses: it may work later."""


class IcebergJob(Job):
    """Publish days of the lake that are over to Apache Iceberg tables, exactly once."""

    Config = IcebergConfig
    config: IcebergConfig
    is_resumable = True

    def run(self) -> JobOutcome:
        """Publishes all that is to be published: once, or again and again.

        Raises:
            TapeLockedError: another process publishes this data folder.
            TapeReplacedError: the tables hold rows of another tape.
            LakeError: the lake is damaged, or older than what was published of it.
            Unavailable: store or catalog do not answer, or refuse.
            ConfigError: pyiceberg is not installed, or a setting is wrong.
        """
        sources = self.sources
        folder = self.data / FOLDER
        make_folder(folder)
        with FolderLock(folder):
            publisher = load_publisher(self.config, self.data, folder, self.tell)
            if not self.config.every_minutes:
                return self._once(publisher, sources)
            return self._again_and_again(publisher)

    def _again_and_again(self, publisher: Any) -> JobOutcome:
        delay = RETRY_S
        while not self.stop:
            try:
                outcome = self._once(publisher, self.config.sources or recorded_sources(self.data))
                pause, delay = self.config.every_minutes * 60.0, RETRY_S
                self.tell(outcome.told)
            except Unavailable as error:
                self.tell(f"{error}; next attempt in {delay:.0f} s")
                pause, delay = delay, min(2 * delay, RETRY_S_MAX)
            if self.stop.wait(pause):
                break
        return JobOutcome()

    def _once(self, publisher: Any, sources: Sequence[str]) -> JobOutcome:
        rows, refused = publisher.publish(sources)
        for told in refused:
            self.tell(told)
        if refused:
            days = "1 day was" if len(refused) == 1 else f"{len(refused)} days were"
            return JobOutcome(INCOMPLETE, f"{days} not published")
        return JobOutcome(told=f"{rows:,} rows published" if rows else "nothing to publish")


def load_publisher(config: IcebergConfig, data: Path, folder: Path, tell: Any) -> Any:
    """Returns what publishes.

    Raises:
        ConfigError: pyiceberg is not installed.
    """
    try:
        module = importlib.import_module(PUBLISHER)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the job iceberg needs {error.name}, which is not installed: "
            "pip install 'tapeworks[iceberg]'"
        ) from None
    return module.Publisher(config, data, folder, tell)
