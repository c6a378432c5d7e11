"""Small venues of the tests, each a process of its own, and what was recorded of them."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks import _core
from tapeworks._core import TapeReader
from tapeworks.feeds import session as recorder


class VenueProcess:
    """A venue that runs, as its test sees it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def log(self, **faults: int) -> dict[str, Any]:
        """Calls up faults, and returns what the venue was told and sent."""
        query = "&".join(f"{name}={count}" for name, count in faults.items())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log?{query}") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def record(self, config: Any, data: Path, seconds: float, faults: dict[float, str]) -> Any:
        """Records for some seconds, with faults at seconds of it; returns the last status."""

        async def main() -> Any:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            loop.call_later(seconds, stop.set)
            for at, fault in faults.items():
                loop.call_later(at, loop.run_in_executor, None, lambda f=fault: self.log(**{f: 1}))
            return await recorder.record(config, data, stop)

        return asyncio.run(main())


@contextmanager
def running(program: Path) -> Iterator[VenueProcess]:
    """Runs the venue in the file `program`."""
    child = subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    yield VenueProcess(int(child.stdout.readline()))
    child.stdin.close()
    child.wait(10)
    child.stdout.close()


def rows(data: Path, source: str, kind: str) -> Any:
    """Returns all records of a kind of a normalized tape."""
    reader = TapeReader(data / "tape" / source / "market-data.normalized")
    dtype, found = np.dtype(_core.dtype_descr(kind)), []
    while (batch := reader.read(100_000)) is not None:
        found.append(np.frombuffer(batch.numpy(kind), dtype))
    return np.concatenate(found)
