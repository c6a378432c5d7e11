"""A real server on free loopback ports, for as long as a test, a campaign or a person needs it.

A `Service` installs what it lacks, starts in a folder of its own, waits until the server answers,
and stops exactly the process that it started. Nothing is left behind but what was installed: by
the package manager of the system, or below `cache()`.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

READY_S_MAX = 180.0
STOP_S_MAX = 30.0
INSTALL_S_MAX = 600.0
POLL_S = 0.02


class ServiceUnavailable(Exception):
    """A server cannot be installed or started; the message says why."""


def cache() -> Path:
    """Returns the folder of what was downloaded: outside of the work tree."""
    named = os.environ.get("TAPEWORKS_SERVICES_CACHE")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapeworks"
    return Path(named) if named else default / "services"


def free_port() -> int:
    """Returns a port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def install_package(name: str) -> None:
    """Installs a package of Debian.

    Raises:
        ServiceUnavailable: there is no apt, or it refuses.
    """
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ServiceUnavailable(f"{name} is not installed: install it by your package manager")
    # Runlevel 1: the package starts no server of its own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    # Several tests may ask at once, and the system may be installing something else.
    patient = ["apt-get", "-o", f"DPkg::Lock::Timeout={INSTALL_S_MAX:.0f}"]
    line = [*patient, "install", "-y", "--no-install-recommends", name]
    with one_at_a_time("packages"):
        if run(line, environment).returncode != 0:
            run([*patient, "update"], environment)
            told = run(line, environment)
            if told.returncode != 0:
                raise ServiceUnavailable(f"{' '.join(line)}: {told.stderr[-500:]}")


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Holds a lock that all processes of this machine share, by its name."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(
    words: Sequence[str | Path], environment: dict[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run(
        [str(word) for word in words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_S_MAX,
        check=False,
        **more,
    )


def children_of(parent: int) -> list[int]:
    """Returns the processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


class Service(ABC):
    """One server. As a context manager it runs for the length of the block."""

    NAME: ClassVar[str]
    USER: ClassVar[str | None] = None
    """Whom it runs as where this process is root and the server refuses root."""
    STOP: ClassVar[int] = signal.SIGTERM

    def __init__(self) -> None:
        self.port = 0
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    # What each server defines.

    @abstractmethod
    def install(self) -> None:
        """Installs what is missing; does nothing where all is there."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes in `folder` what the server needs before its first start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Returns the command line that runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Asks the server whether it serves."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Returns the variables that say where the server is."""

    # What they have in common.

    @property
    def pid(self) -> int:
        """The process of the server."""
        assert self._process is not None, f"{self.NAME} does not run"
        return self._process.pid

    @property
    def user(self) -> str | None:
        """Whom its processes run as; none: whoever runs this."""
        return self.USER if os.geteuid() == 0 else None

    def start(self) -> None:
        """Starts the server, and returns when it answers; the port stays the same over restarts.

        Raises:
            ServiceUnavailable: it cannot be installed, ended, or does not answer in time.
        """
        if self.folder == Path():
            self.install()
            self.folder = Path(tempfile.mkdtemp(prefix=f"tapeworks-{self.NAME}-"))
            if self.user is not None:
                shutil.chown(self.folder, self.user)
            self.port = free_port()
            try:
                self.prepare()
            except BaseException:
                self.remove()
                raise
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self.as_user(),
            )
        deadline = time.monotonic() + READY_S_MAX
        while not self.answers():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                told = self.log()[-2_000:]
                self.stop()
                why = "does not answer" if code is None else f"ended with {code}"
                raise ServiceUnavailable(f"{self.NAME} {why}: {told}")
            time.sleep(POLL_S)

    def as_user(self) -> dict[str, Any]:
        """Returns what makes a process run as the server's user."""
        user = self.user
        return {} if user is None else {"user": user, "group": user, "extra_groups": []}

    def log(self) -> str:
        """Returns what the server wrote."""
        with contextlib.suppress(OSError):
            return (self.folder / "server.log").read_text(errors="replace")
        return ""

    def send(self, number: int) -> None:
        """Sends a signal to the server and all its processes."""
        assert self._process is not None
        # A backend of PostgreSQL leads a session of its own: the group does not hold all.
        for pid in (self._process.pid, *children_of(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self) -> None:
        """Stops the server where it is: connections stay, nothing answers."""
        self.send(signal.SIGSTOP)

    def unpause(self) -> None:
        """Lets it go on."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """Kills the server and all its processes at once."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def halt(self) -> None:
        """Stops the server in good order; `start` goes on with what it stored."""
        if self._process is None:
            return
        self.unpause()
        self._process.send_signal(self.STOP)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def stop(self) -> None:
        """Stops the server and removes all that it stored."""
        self.halt()
        self.remove()

    def remove(self) -> None:
        """Removes its folder."""
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = Path()

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
