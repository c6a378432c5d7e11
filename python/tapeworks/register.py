"""What runs on a data folder: each process says so in `run/<pid>.<n>/`, a supervisor with its
workers.

The folder is locked for as long as its supervisor lives, so that what a dead one has left is known
as such, and no other process that has got its number is taken for it.
"""

import contextlib
import errno
import itertools
import json
import os
import pwd
import re
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapeworks._core import FolderLock
from tapeworks.durable import replace_file
from tapeworks.errors import ConfigError, TapeError, TapeLockedError, TapeworksError

FOLDER, FILE = "run", "supervisor.json"
ENTRY = re.compile(r"[0-9]+\.[0-9]+")
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Supervised:
    """A supervisor that runs, and what it said last of its workers."""

    pid: int
    told: Mapping[str, Any] = field(default_factory=dict)
    is_here: bool = True
    """Whether `pid` is a number of this machine and container."""

    @property
    def workers(self) -> list[dict[str, Any]]:
        """Its workers, as it told them."""
        found = self.told.get("workers", [])
        return [worker for worker in found if isinstance(worker, dict)]


class Register:
    """The entry of this process, while it is entered."""

    def __init__(self, data: Path) -> None:
        self._data = data
        # One process may have more than one supervisor.
        self._folder = data / FOLDER / f"{os.getpid()}.{next(_NUMBERS)}"
        self._lock: FolderLock | None = None

    def __enter__(self) -> "Register":
        _remove_dead(self._data)
        with writing_in(self._folder):
            self._lock = FolderLock(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()
        if self._lock is not None:
            self._lock.release()

    def write(self, workers: Sequence[Mapping[str, Any]]) -> None:
        """Replaces what is said of this supervisor. A full disk leaves it as it is."""
        told = {
            "pid": os.getpid(),
            "namespace": _namespace(),
            "ts": time.time_ns(),
            "workers": list(workers),
        }
        with contextlib.suppress(OSError):
            replace_file(self._folder / FILE, json.dumps(told), sync=False)


@contextlib.contextmanager
def registered(data: Path, kind: str, member: str, *, may_write: bool = True) -> Iterator[None]:
    """Enters this process, which does one thing without a supervisor, while the block lasts.

    SIGTERM, by which `tape down` stops it, ends it as Ctrl-C does. What does not write the folder
    goes on without an entry where there are no rights to write there.

    Raises:
        TapeworksError: it writes the folder, and has no rights to.
    """
    is_main = threading.current_thread() is threading.main_thread()
    is_ours = is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            # Only entering may fail: what the block raises is not for us.
            try:
                register = stack.enter_context(Register(data))
            except (TapeworksError, OSError):
                if may_write:
                    raise
            else:
                name = f"{kind}-{member}"
                register.write([{"name": name, "kind": kind, "member": member, "state": "running"}])
            yield
    finally:
        if is_ours and signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def supervisors(data: Path) -> Iterator[Supervised]:
    """Yields the supervisors that run on `data`, also where their entry cannot be read."""
    for folder in _entries(data):
        if not _is_locked(folder):
            continue
        told: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads((folder / FILE).read_text(encoding="utf-8"))
            told = read if isinstance(read, dict) else {}
        namespace = told.get("namespace", "")
        yield Supervised(int(folder.name.partition(".")[0]), told, namespace in ("", _namespace()))


def _entries(data: Path) -> list[Path]:
    try:
        found = [path for path in (data / FOLDER).iterdir() if ENTRY.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(path for path in found if path.is_dir())


def _is_locked(folder: Path) -> bool:
    try:
        FolderLock(folder).release()
    except TapeLockedError:
        return True
    except (TapeError, OSError):
        return False
    return False


def _remove_dead(data: Path) -> None:
    for folder in _entries(data):
        if not _is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _namespace() -> str:
    """Returns what tells apart two processes of one number, in two containers or machines."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename


@contextlib.contextmanager
def writing_in(target: Path) -> Iterator[None]:
    """Says whose a folder is in which the block may not make `target`.

    Raises:
        TapeworksError: there are no rights to write there, or it is mounted read-only.
        ConfigError: what should be a folder is a file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            for path in (target, *target.parents):
                if path.exists() and not path.is_dir():
                    raise ConfigError(
                        f"expected a folder, got the file {path}: name another with --data"
                    ) from None
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        folder = next((path for path in (target, *target.parents) if path.is_dir()), Path("."))
        found = folder.stat()
        why = "it is mounted read-only" if error.errno == errno.EROFS else "permission denied"
        raise TapeworksError(
            f"cannot write in {folder} (owner {_owner(found.st_uid)}, mode "
            f"{stat.S_IMODE(found.st_mode):03o}): {why}; give rights, or name another folder with "
            "--data"
        ) from None


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
