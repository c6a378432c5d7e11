"""A job on this machine: one process of Java that is cluster and job, and is kept running.

A process that dies is started again from the newest whole checkpoint, as often as it takes. Two on
the same checkpoints are refused.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tapeworks._core import FolderLock
from tapeworks.errors import ConfigError, ProcessorError
from tapeworks.flink.job import JAR, as_text, built, job_properties
from tapeworks.settings import Config

log = logging.getLogger("tapeworks.flink")

JOB = "tapeworks.flink.Job"
HEAP = "768m"
STOP_S_MAX = 30.0
POLL_S = 0.1
RESTART_S = 0.5
# One that ended so soon after its start, with no checkpoint made, will not run by being started.
FAILURES_MAX = 5
# What Flink needs of Java 17, as its own scripts give it.
OPENED = (
    *("java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio"),
    *("java.base/sun.nio.ch", "java.base/java.lang.reflect", "java.base/java.text"),
    *("java.base/java.time", "java.base/java.util", "java.base/java.util.concurrent"),
    *("java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks"),
)
LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.job.name = tapeworks
logger.job.level = INFO
logger.tokens.name = org.apache.flink.runtime.security.token
logger.tokens.level = ERROR
logger.web.name = org.apache.flink.runtime.webmonitor
logger.web.level = ERROR
logger.metrics.name = org.apache.flink.runtime.metrics
logger.metrics.level = ERROR
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n%ex{8}
"""


class LocalJob:
    """The job of `config` on this machine."""

    def __init__(self, config: Config, *, bounded: bool = False) -> None:
        flink = config.flink
        if "://" in flink.checkpoints and not flink.checkpoints.startswith("file://"):
            raise ConfigError(
                f"checkpoints: expected a folder for a local run, got {flink.checkpoints}"
            )
        self._java = shutil.which("java")
        if self._java is None:
            raise ConfigError("expected Java 17 or newer, got none: `java` is not on the PATH")
        self._folder = built()
        self._checkpoints = _folder_of(flink.checkpoints)
        self._config = config
        self._bounded = bounded
        self._lock: FolderLock | None = None
        self._settings: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        """How often it was started."""

    def start(self, restore: Path | None = None) -> None:
        """Starts the process, from `restore` or else the newest checkpoint there is.

        Raises:
            ConfigError: a setting is wrong, or another job has the checkpoints.
        """
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = FolderLock(self._checkpoints)
        properties = job_properties(self._config, "local")
        properties["bounded"] = str(self._bounded).lower()
        found = restore or newest_checkpoint(self._checkpoints)
        if found is not None:
            properties["flink.execution.state-recovery.path"] = found.as_uri()
            log.info("going on from %s", found)
        if self._settings is None:
            self._settings = Path(tempfile.mkdtemp(prefix="tapeworks-flink-"))
        (self._settings / "job.properties").write_text(as_text(properties))
        (self._settings / "log4j2.properties").write_text(LOGGING)
        self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        self.starts += 1

    def _command(self) -> list[str]:
        assert self._java is not None
        assert self._settings is not None
        path = f"{self._folder / JAR}:{self._folder / 'libraries'}/*"
        opened = [f"--add-opens={name}=ALL-UNNAMED" for name in OPENED]
        return [
            self._java,
            f"-Xmx{HEAP}",
            "-XX:+UseParallelGC",
            f"-Dlog4j2.configurationFile={self._settings / 'log4j2.properties'}",
            *opened,
            *("-cp", path, JOB, "--settings", str(self._settings / "job.properties")),
        ]

    def run(self, is_stopping: Callable[[], bool], restore: Path | None = None) -> None:
        """Starts the job, from `restore` where it is given, and keeps it running until
        `is_stopping`, or until it has read all that is bounded.

        Raises:
            ProcessorError: it ends again and again without making a checkpoint.
        """
        failures, before = 0, newest_checkpoint(self._checkpoints)
        self.start(restore)
        while not is_stopping():
            assert self.process is not None
            code = self.process.poll()
            if code == 0:
                return
            if code is not None:
                now = newest_checkpoint(self._checkpoints)
                failures = failures + 1 if now == before else 0
                before = now
                if failures >= FAILURES_MAX:
                    raise ProcessorError(
                        f"the job ended {failures} times in a row with {code} and made no "
                        "checkpoint in between: what it said stands above"
                    )
                log.warning("the job ended with %d; it is started again", code)
                time.sleep(RESTART_S)
                self.start()
            time.sleep(POLL_S)

    def close(self) -> None:
        """Stops the process; the next start goes on from its last checkpoint."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        if self._settings is not None:
            shutil.rmtree(self._settings, ignore_errors=True)
            self._settings = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _folder_of(place: str) -> Path:
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return Path(place).resolve()


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest whole checkpoint below `folder`; none if there is none.

    Its `_metadata` is put in place when it is whole.
    """
    found = []
    for path in folder.glob("*/chk-*/_metadata"):
        with contextlib.suppress(OSError):
            found.append((os.stat(path).st_mtime_ns, path.parent))
    return max(found, default=(0, None))[1]
