"""A job on this machine: as one process, or as a JobManager and TaskManagers; kept running.

A TaskManager that dies is started again, and Flink goes on by itself. Where the process dies that
holds the job, the job is started again from the newest whole checkpoint, as often as it takes. Two
jobs on the same checkpoints are refused; so no process outlives the one that started it. A job
that refuses its state is not started again.
"""

import contextlib
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tapeworks._core import FolderLock
from tapeworks.config import FROM_ENVIRONMENT
from tapeworks.errors import ConfigError, ProcessorError
from tapeworks.flink.job import CHECKPOINTS, JAR, address, as_text, built, job_properties
from tapeworks.flink_config import FlinkConfig
from tapeworks.settings import Config

log = logging.getLogger("tapeworks.flink")

CHILD = "tapeworks.flink.Child"
JOB = "tapeworks.flink.Job"
REFUSED = 78
"""What a process ends with whose job is not to be started again as it is."""
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
HEAP = "768m"
HEAP_OF_MANAGER = "384m"
# What Flink's own scripts would compute: a TaskManager that is started without them asks for it.
MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.task.off-heap.size": "128m",
    "taskmanager.memory.managed.size": "16m",
    "taskmanager.memory.network.min": "96m",
    "taskmanager.memory.network.max": "96m",
    "taskmanager.memory.jvm-metaspace.size": "192m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
SUBMIT_S_MAX = 90.0
STOP_S_MAX = 30.0
POLL_S = 0.1
# How often a JobManager is asked whether the job is over.
ASK_S = 1.0
ANSWER_S_MAX = 5.0
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
logger.pekko.name = org.apache.pekko
logger.pekko.level = ERROR
logger.metrics.name = org.apache.flink.metrics
logger.metrics.level = ERROR
logger.groups.name = org.apache.flink.runtime.metrics
logger.groups.level = ERROR
logger.plugins.name = org.apache.flink.core.plugin
logger.plugins.level = ERROR
logger.info.name = org.apache.flink.kafka.shaded.org.apache.kafka.common.utils.AppInfoParser
logger.info.level = ERROR
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n%ex{20}
"""


class LocalJob:
    """The job of `config` on this machine: in one process, or with `task_managers` beside it."""

    def __init__(self, config: Config, *, bounded: bool = False, task_managers: int = 0) -> None:
        flink = config.flink
        checkpoints = address(config.data, flink.checkpoints or CHECKPOINTS)
        if not checkpoints.startswith("file://"):
            raise ConfigError(f"checkpoints: expected a folder for a local run, got {checkpoints}")
        if bounded and task_managers:
            raise ConfigError("expected no task managers for a run that ends")
        java = shutil.which("java")
        if java is None:
            raise ConfigError("expected Java 17 or newer, got none: `java` is not on the PATH")
        self._java = java
        self._folder = built()
        self._checkpoints = Path(unquote(urlsplit(checkpoints).path))
        self._config = config
        self._bounded = bounded
        self._cluster = _addresses(task_managers, flink.parallelism) if task_managers else {}
        self._lock: FolderLock | None = None
        self._settings: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        """The process that holds the job; with task managers, the JobManager."""
        self.task_managers: list[subprocess.Popen[bytes] | None] = [None] * task_managers
        self._asked = 0.0

    def start(self, restore: Path | None = None) -> None:
        """Starts what does not run; the job from `restore` or else its newest checkpoint.

        Raises:
            ConfigError: a setting is wrong.
            TapeLockedError: another job has the checkpoints.
            ProcessorError: the cluster does not take the job.
        """
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = FolderLock(self._checkpoints)
        if self._settings is None:
            self._settings = Path(tempfile.mkdtemp(prefix="tapeworks-flink-"))
            (self._settings / "log4j2.properties").write_text(LOGGING)
            (self._settings / "config.yaml").write_text(secrets_of(self._config.flink))
        for number, one in enumerate(self.task_managers):
            if one is None or _has_ended(one):
                self.task_managers[number] = self._start(TASK_MANAGER, HEAP)
        if self.process is not None and not _has_ended(self.process):
            return
        properties = job_properties(self._config, "session" if self._cluster else "local")
        properties["bounded"] = str(self._bounded).lower()
        found = restore or newest_checkpoint(self._checkpoints)
        if found is not None:
            properties["flink.execution.state-recovery.path"] = found.as_uri()
            log.info("going on from %s", found)
        if not self._cluster:
            self.process = subprocess.Popen(self._job(properties), stdin=subprocess.PIPE)
            return
        self.process = self._start(JOB_MANAGER, HEAP_OF_MANAGER)
        self._submit(properties)

    @property
    def rest_port(self) -> int:
        """Where the JobManager answers, on loopback."""
        return int(self._cluster["rest.port"])

    def change(self, flink: FlinkConfig) -> None:
        """Gives the job these settings from its next start on."""
        self._config = replace(self._config, flink=flink)

    def _start(self, name: str, heap: str) -> "subprocess.Popen[bytes]":
        cluster = (
            MEMORY
            | self._cluster
            | {
                key: value
                for key, value in self._config.flink.cluster.items()
                if not value.startswith(FROM_ENVIRONMENT)
            }
        )
        words = [f"-D{key}={value}" for key, value in cluster.items()]
        command = [*self._command(name, heap), "--configDir", str(self._settings), *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    def _submit(self, properties: dict[str, str]) -> None:
        """Gives the job to the JobManager, once that answers."""
        assert self.process is not None
        port, deadline = int(self._cluster["rest.port"]), time.monotonic() + SUBMIT_S_MAX
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline:
                raise ProcessorError("the JobManager does not answer: what it said stands above")
            time.sleep(POLL_S)
        properties |= {f"flink.{name}": value for name, value in self._cluster.items()}
        deadline = time.monotonic() + SUBMIT_S_MAX
        with subprocess.Popen(self._job(properties), stdin=subprocess.PIPE) as client:
            while client.poll() is None:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    client.kill()
                    client.wait()
                time.sleep(POLL_S)
        if client.returncode != 0:
            # Whether the job was taken is not known: a cluster that is new surely has none.
            self.process.kill()
            self.process.wait()

    def failure(self) -> str | None:
        """Returns why the job is over for good, as its JobManager tells it; none while it runs."""
        if not self._cluster or time.monotonic() - self._asked < ASK_S:
            return None
        self._asked = time.monotonic()
        # A JobManager that dies meanwhile is started again.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, LookupError):
            for job in self._ask("/jobs/overview")["jobs"]:
                if job["state"] == "FAILED":
                    told = self._ask(f"/jobs/{job['jid']}/exceptions")
                    [last, *_] = told["exceptionHistory"]["entries"]
                    return _cause(last["stacktrace"])
        return None

    def _ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=ANSWER_S_MAX)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def _job(self, properties: dict[str, str]) -> list[str]:
        assert self._settings is not None
        path = self._settings / "job.properties"
        path.write_text(as_text(properties), encoding="utf-8")
        heap = HEAP_OF_MANAGER if self._cluster else HEAP
        return [*self._command(JOB, heap), "--settings", str(path)]

    def _command(self, name: str, heap: str) -> list[str]:
        assert self._settings is not None
        path = f"{self._folder / JAR}:{self._folder / 'libraries'}/*"
        return [
            self._java,
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={self._settings / 'log4j2.properties'}",
            *(f"--add-opens={module}=ALL-UNNAMED" for module in OPENED),
            *("-cp", path, CHILD, name),
        ]

    def run(self, is_stopping: Callable[[], bool], restore: Path | None = None) -> None:
        """Starts the job, from `restore` where it is given, and keeps it running until
        `is_stopping`, or until it has read all that is bounded.

        Raises:
            ProcessorError: it ends for good, or again and again without making a checkpoint.
        """
        begun, before = last_checkpoint(self._checkpoints)
        failures = 0
        self.start(restore)
        while not is_stopping():
            assert self.process is not None
            code = self.process.poll()
            if code == 0 and self._bounded:
                return
            if code == REFUSED:
                raise ProcessorError("the job ended for good: what it said stands above")
            if (told := self.failure()) is not None:
                raise ProcessorError(f"the job ended for good: {told}")
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
            # Checkpoints of before are no state of this run: it begins with `restore` until it has
            # made one itself.
            is_own = last_checkpoint(self._checkpoints)[0] > begun
            self.start(None if is_own else restore)
            time.sleep(POLL_S)

    def close(self) -> None:
        """Stops all processes; the next start goes on from the last checkpoint."""
        running = [one for one in (*self.task_managers, self.process) if one is not None]
        for one in running:
            one.send_signal(signal.SIGTERM)
        for one in running:
            try:
                one.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
            _has_ended(one)
        self.process, self.task_managers = None, [None] * len(self.task_managers)
        if self._settings is not None:
            shutil.rmtree(self._settings, ignore_errors=True)
            self._settings = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Returns whether a process ended; lets go of the pipe that it would have ended with."""
    if process.poll() is None:
        return False
    if process.stdin is not None:
        process.stdin.close()
    return True


def _cause(trace: str) -> str:
    """Returns what a stack trace of Java began with."""
    lines = [line for line in trace.splitlines() if line and not line[0].isspace()]
    return lines[-1].removeprefix("Caused by: ") if lines else "no reason was told"


def _addresses(task_managers: int, parallelism: int) -> dict[str, str]:
    """Returns the settings by which the processes of a cluster on this machine find each other."""
    ports = []
    with contextlib.ExitStack() as held:
        for _ in range(3):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(str(listener.getsockname()[1]))
    rpc, rest, blob = ports
    return {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": rpc,
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.memory.heap.size": "256m",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": rest,
        "rest.bind-port": rest,
        "blob.server.port": blob,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": str(-(-parallelism // task_managers)),
        # Whoever is gone is noticed in seconds.
        "heartbeat.interval": "500",
        "heartbeat.timeout": "4000",
    }


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest whole checkpoint below `folder`; none if there is none."""
    return last_checkpoint(folder)[1]


def last_checkpoint(folder: Path) -> tuple[int, Path | None]:
    """Returns when the newest whole checkpoint below `folder` was made, and where it is; 0 and none
    if there is none.

    Its `_metadata` is put in place when it is whole.
    """
    found = []
    for path in folder.glob("*/chk-*/_metadata"):
        with contextlib.suppress(OSError):
            found.append((os.stat(path).st_mtime_ns, path.parent))
    return max(found, default=(0, None))


def secrets_of(flink: FlinkConfig) -> str:
    """Returns what `[flink.cluster]` has from the environment, as Flink's own settings file: the
    command line of a process is seen by all.

    Raises:
        ConfigError: a variable is not in the environment.
    """
    lines = []
    for key, value in flink.cluster.items():
        if not value.startswith(FROM_ENVIRONMENT):
            continue
        variable = value.removeprefix(FROM_ENVIRONMENT)
        if variable not in os.environ:
            raise ConfigError(f"flink.cluster: {key}: {variable} is not in the environment")
        lines.append(f"{key}: {json.dumps(os.environ[variable])}\n")
    return "".join(lines)
