"""Savepoints of a running job: stopped by one, started from it otherwise, and refused.

The job reads a tape of records and writes files. It is stopped with a savepoint and goes on from
that with another parallelism, over and over, while the tape grows. What it wrote has to be that
of a straight run of the local worker. Then states that cannot be taken are given to it.
"""

import contextlib
import http.client
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.flink import outputs
from tests.flink.attacked import LEVELS

from tapeworks._core import TapeReader, TapeWriter
from tapeworks.errors import ProcessorError
from tapeworks.flink.cluster import LocalJob
from tapeworks.settings import Config
from tapeworks.topics import NORMALIZED

WAIT_S_MAX = 240.0
POLL_S = 0.1
BATCH_ITEMS = 4_096
SOURCE = "tape"
# What a router's state begins with: its name with its length, and its version; crates/core.
ROUTER = len(b"router").to_bytes(8, "little") + b"router"


def ask(port: int, method: str, path: str, body: Any = None) -> Any:
    """Asks a JobManager, as `flink stop` does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body))
        return json.loads(connection.getresponse().read())


def until(what: str, found: Callable[[], Any]) -> Any:
    """Waits until `found` returns anything.

    Raises:
        SystemExit: it does not in time.
    """
    deadline = time.monotonic() + WAIT_S_MAX
    while (value := found()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not in {WAIT_S_MAX:.0f} s")
        time.sleep(POLL_S)
    return value


@contextlib.contextmanager
def running(config: Config, restore: Path | None) -> Iterator[LocalJob]:
    """Runs the job on a JobManager and a TaskManager, until all its tasks run."""
    job = LocalJob(config, task_managers=1)
    try:
        until("the tasks run", lambda: has_started(job, restore))
        yield job
    finally:
        job.close()


def has_started(job: LocalJob, restore: Path | None) -> bool | None:
    """Starts what does not run, and returns whether all tasks do; none as long as they do not.

    Raises:
        ProcessorError: the job is over.
    """
    job.start(restore)
    if (told := job.failure()) is not None:
        raise ProcessorError(told)
    with contextlib.suppress(OSError, http.client.HTTPException):
        for one in ask(job.rest_port, "GET", "/jobs/overview")["jobs"]:
            tasks = one["tasks"]
            return True if tasks["running"] == tasks["total"] > 0 else None
    return None


def stop_with_savepoint(job: LocalJob, folder: Path) -> Path:
    """Stops the job; returns its savepoint."""
    [one] = ask(job.rest_port, "GET", "/jobs/overview")["jobs"]
    path = f"/jobs/{one['jid']}"
    order = {"targetDirectory": folder.as_uri(), "drain": False}
    trigger = ask(job.rest_port, "POST", f"{path}/stop", order)["request-id"]

    def done() -> Path | None:
        told = ask(job.rest_port, "GET", f"{path}/savepoints/{trigger}")
        if told["status"]["id"] != "COMPLETED":
            return None
        if "location" not in told["operation"]:
            raise SystemExit(f"no savepoint: {told['operation']['failure-cause']['stack-trace']}")
        return Path(told["operation"]["location"].removeprefix("file:"))

    found: Path = until("the savepoint", done)
    return found


def has_written(job: LocalJob) -> bool | None:
    """Returns whether a checkpoint was made since the source gave anything; none if not yet."""
    [one] = ask(job.rest_port, "GET", "/jobs/overview")["jobs"]
    told = ask(job.rest_port, "GET", f"/jobs/{one['jid']}")
    [source] = [vertex for vertex in told["vertices"] if vertex["name"].endswith(SOURCE)]
    return True if source["metrics"]["write-records"] > 0 else None


def rescale(config: Config, folder: Path, source: str, expected: Path) -> tuple[list[str], Path]:
    """Runs the job over parts of a tape, each with the next parallelism, from savepoints.

    Returns what does not hold, and the last savepoint. `config` reads a tape that is made here of
    the one in `expected`, which holds tapes by topic.
    """
    target = config.data / "tape" / source / NORMALIZED
    target.mkdir(parents=True)
    reader, batches, restore = TapeReader(expected / NORMALIZED), [], None
    while (batch := reader.read(BATCH_ITEMS)) is not None:
        batches.append(memoryview(batch).tobytes())
    with TapeWriter(target) as writer:
        for number, level in enumerate(LEVELS):
            first, last = (len(batches) * at // len(LEVELS) for at in (number, number + 1))
            for one in batches[first:last]:
                writer.append(one)
            writer.sync()
            with running(at_level(config, level), restore) as job:
                until(f"parallelism {level} writes", lambda job=job: has_written(job))
                restore = stop_with_savepoint(job, folder / "savepoints")
    assert restore is not None
    # Whatever a savepoint was too early for.
    job = LocalJob(at_level(config, LEVELS[0]), bounded=True)
    try:
        job.run(lambda: False, restore)
    finally:
        job.close()
    found = outputs.of_files(Path(config.flink.folder))
    _, told = outputs.differences(outputs.of_tapes(expected, source), found)
    return told, restore


def at_level(config: Config, level: int) -> Config:
    """Returns the job with this parallelism."""
    return replace(config, flink=replace(config.flink, parallelism=level))


def refusals(config: Config, folder: Path, savepoint: Path) -> list[str]:
    """Gives the job states that it must not take; returns those that it took, or said wrong."""
    fewer = replace(config, metrics=replace(config.metrics, sets=("l1",)))
    other = folder / "other"
    shutil.copytree(savepoint, other)
    count = sum(written_by_another_version(path) for path in other.iterdir())
    assert count > 0, "a savepoint holds the state of a router"
    wrong = []
    for name, changed, state, word in (
        ("version", config, other, "in layout 99"),
        ("settings", fewer, savepoint, "of other processors or settings"),
    ):
        place = str(folder / f"checkpoints-{name}")
        flink = replace(changed.flink, checkpoints=place, folder=str(folder / "refused"))
        try:
            with running(replace(changed, flink=flink), state):
                wrong.append(f"a state of another {name} is taken")
        except ProcessorError as error:
            if word not in str(error):
                wrong.append(f"a state of another {name} is refused with {error}")
            else:
                print(f"state of another {name}: refused: {error}", flush=True)
    return wrong


def written_by_another_version(path: Path) -> int:
    """Changes a file of a savepoint to what another version would write; returns how often."""
    # Behind the name stands the layout, which is small.
    mark, other = re.escape(ROUTER) + rb"[\x01-\x62]\0\0\0", ROUTER + (99).to_bytes(4, "little")
    content, count = re.subn(mark, other, path.read_bytes(), flags=re.DOTALL)
    path.write_bytes(content)
    return count
