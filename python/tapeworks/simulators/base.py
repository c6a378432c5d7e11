"""Starts a simulator in a process of its own and speaks to its control interface.

The control interface lies under `/sim/` of the simulator's own port; everything else on that port
is what the venue serves. Nothing here imports a server: a caller pays for it in the child only.
"""

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapeworks.errors import TapeworksError
from tapeworks.registry import MEMBERS, load_name

START_S_MAX = 30.0
STOP_S_MAX = 5.0
ANSWER_S_MAX = 30.0


class SimulatorError(TapeworksError):
    """A simulator did not start, or refused what it was asked."""


@dataclass(frozen=True)
class Exchange:
    """One simulated exchange of `tape demo`, and how it is recorded."""

    source: str
    venue: str
    """The folder of its simulator, and the kind of the feed that records it."""
    symbols: tuple[str, ...]
    """Those that are asked for; none: whoever listens gets all."""
    arguments: tuple[str, ...] = ()
    """Of its simulator, beside the symbols."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the feed, beside the symbols and where the exchange is."""
    books: tuple[str, ...] = ()
    """The symbols whose books are to be verified before the demo may end."""
    urls: tuple[str, ...] = ("ws_url", "rest_url")
    """Which settings of the feed say where the exchange is."""


def exchanges(seed: int, rate: float) -> list[Exchange]:
    """Returns the exchanges of `tape demo`: those that each feed's simulator names in `demo.py`."""
    found: list[Exchange] = []
    for venue in MEMBERS["feed"]:
        package = f"{__package__}.{venue}"
        # `find_spec` of what lies in a package raises where there is no such package.
        has_demo = all(map(importlib.util.find_spec, (package, f"{package}.demo")))
        if has_demo:
            found += load_name(f"{package}.demo:exchanges")(seed, rate)
    return found


class Simulator:
    """A running simulator."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.ws_url = f"ws://127.0.0.1:{port}"
        self.rest_url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self.process.pid

    def ask(self, path: str, body: object | None = None) -> Any:
        """Returns the answer of the control interface: a GET, or a POST of `body`.

        Raises:
            SimulatorError: it refused, or did not answer.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.rest_url}/sim/{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace")
            raise SimulatorError(f"/sim/{path}: {error.code} {text}") from None
        except OSError as error:
            raise SimulatorError(f"/sim/{path}: {error}") from None

    def state(self) -> dict[str, Any]:
        """Returns how far it is: `now_ns`, `started`, `done`, `connections`, `frames`."""
        state: dict[str, Any] = self.ask("state")
        return state

    def oracle(self) -> dict[str, Any]:
        """Returns all that was generated, sent and withheld; see `Oracle.report`."""
        oracle: dict[str, Any] = self.ask("oracle")
        return oracle

    def fault(self, kind: str, **parameters: object) -> dict[str, Any]:
        """Adds a fault; `at_s` counts from now unless the caller says otherwise."""
        fault: dict[str, Any] = self.ask("fault", {"kind": kind, **parameters})
        return fault

    def start(self) -> None:
        """Lets time begin, where the simulator was told to wait for it."""
        self.ask("start", {})

    def wait_done(self, timeout_s: float) -> dict[str, Any]:
        """Waits until everything was sent, and returns the state.

        Raises:
            SimulatorError: it was not done in time, or died.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise SimulatorError(f"the simulator ended with {self.process.returncode}")
            state = self.state()
            if state["done"]:
                return state
            time.sleep(0.05)
        raise SimulatorError(f"not done after {timeout_s} s: {self.state()}")

    def stop(self) -> int:
        """Ends the process and returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@contextlib.contextmanager
def start_simulator(
    venue: str,
    *arguments: str,
    playback: Sequence[Path] = (),
    log: Path | None = None,
    start_s_max: float = START_S_MAX,
) -> Iterator[Simulator]:
    """Runs a simulator while the context lasts.

    `arguments` are those of `python -m tapeworks.simulators.<venue>`, such as `"--seed", "7"`.
    What it writes to standard error goes to `log`, or to ours.

    Raises:
        SimulatorError: it did not say within `start_s_max` seconds that it is ready.
    """
    command = [sys.executable, "-m", f"tapeworks.simulators.{venue}", "--with-parent", *arguments]
    if playback:
        command += ["--playback", *map(str, playback)]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab")) if log else None
        process = subprocess.Popen(
            command,
            # It ends when this pipe does: also when we are killed.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for us: the market goes on until we have asked it what it sent.
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        assert process.stdin is not None
        stack.callback(process.stdout.close)
        stack.callback(process.stdin.close)
        try:
            simulator = Simulator(process, _read_port(process, start_s_max))
            yield simulator
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S_MAX)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()


def _read_port(process: subprocess.Popen[bytes], start_s_max: float) -> int:
    assert process.stdout is not None
    until = time.monotonic() + start_s_max
    while time.monotonic() < until:
        ready, _, _ = select.select([process.stdout], [], [], 0.1)
        if ready:
            line = process.stdout.readline()
            if line:
                return int(json.loads(line)["port"])
        if process.poll() is not None:
            break
    raise SimulatorError(f"the simulator did not start: exit status {process.poll()}")
