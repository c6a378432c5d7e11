"""A disk that fails and loses power, under a process of its own; `disk.c` is the preloaded part."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_name("disk.c")
SECTOR = 512
PAGE = 4096
# Stands for a folder where files have numbers.
FOLDER = -1
# Where the boot under which a segment was written lies in its head.
BOOT = slice(264, 280)


class Disk:
    """What the process that runs with `environment()` has really put on the disk.

    Everything below `root` is watched; `state` is a folder for the disk's own notes.
    """

    def __init__(self, root: Path, state: Path) -> None:
        self.root = root
        self._state = state
        self._shadow = state / "shadow"
        self._plan = state / "plan"
        self._shadow.mkdir(parents=True, exist_ok=True)
        root.mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """Returns the environment of the process that is to use this disk."""
        return os.environ | {
            "LD_PRELOAD": str(library(self._state)),
            "DISK_ROOT": str(self.root),
            "DISK_SHADOW": str(self._shadow),
            "DISK_PLAN": str(self._plan),
        }

    def plan(self, *lines: str) -> None:
        """Lets calls fail from now on: `call skip times errno word`, as in `disk.c`."""
        aside = self._plan.with_suffix(".new")
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        aside.replace(self._plan)

    def lose_power(self, target: Path, chance: random.Random, *, strict: bool = False) -> None:
        """Makes in `target` what is left of `root` after a loss of power at this instant.

        With `strict`, a sync of a folder makes the names in it durable, those of folders too, and
        no others; without, it makes all names durable, as journals in order do.


        Names are as after the last sync of the folder and any number of the changes since. A file
        holds what was synced, and any of the sectors that were written since; none of the pages
        that a failed sync dropped.
        """
        target.mkdir(parents=True, exist_ok=True)
        for path, number in (self._strict_names if strict else self._names)(chance).items():
            relative = Path(path).relative_to(self.root)
            kept = self._read(str(number))
            current = Path(path).read_bytes() if self._is_current(path, number) else kept
            dropped = self._read(f"{number}.drop")
            content = torn(kept, current, dropped, chance)
            if relative.suffix in (".seg", ".lz4") and len(content) >= BOOT.stop:
                content[BOOT] = b"\x11" * 16
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_bytes(content)

    def _operations(self) -> list[list[str]]:
        try:
            text = (self._shadow / "ops").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [line.split(" ") for line in text.splitlines()]

    def _names(self, chance: random.Random) -> dict[str, int]:
        operations = self._operations()
        synced = [at for at, operation in enumerate(operations) if operation[0] == "sync"]
        least = synced[-1] + 1 if synced else 0
        return replay(operations[: chance.randint(least, len(operations))])

    def _strict_names(self, chance: random.Random) -> dict[str, int]:
        operations = self._operations()
        cut = chance.randint(0, len(operations))
        names: dict[str, int] = {}
        kept: dict[str, int] = {}
        for at, (path, number) in enumerate_changes(operations, names):
            folder = str(Path(path).parent)
            is_durable = ["sync", folder] in operations[at + 1 :]
            if not is_durable and at >= cut:
                continue
            if number is None:
                kept.pop(path, None)
            else:
                kept[path] = number
        folders = {path for path, number in kept.items() if number == FOLDER}

        def is_reachable(path: str) -> bool:
            parents = Path(path).relative_to(self.root).parents
            return all(str(self.root / p) in folders for p in parents if p != Path())

        return {path: n for path, n in kept.items() if n != FOLDER and is_reachable(path)}

    def _is_current(self, path: str, number: int) -> bool:
        return replay(self._operations()).get(path) == number and Path(path).exists()

    def _read(self, name: str) -> bytes:
        path = self._shadow / name
        return path.read_bytes() if path.exists() else b""


def enumerate_changes(
    operations: list[list[str]], names: dict[str, int]
) -> Iterator[tuple[int, tuple[str, int | None]]]:
    """Yields each change of one name, with the number of what it then stands for."""
    for at, (what, *arguments) in enumerate(operations):
        if what == "create":
            names[arguments[0]] = int(arguments[1])
            yield at, (arguments[0], names[arguments[0]])
        elif what == "mkdir":
            yield at, (arguments[0], FOLDER)
        elif what == "unlink":
            names.pop(arguments[0], None)
            yield at, (arguments[0], None)
        elif what == "rename" and arguments[0] in names:
            names[arguments[1]] = names.pop(arguments[0])
            yield at, (arguments[1], names[arguments[1]])
            yield at, (arguments[0], None)


def replay(operations: list[list[str]]) -> dict[str, int]:
    """Returns the files that there are after `operations`, by path."""
    names: dict[str, int] = {}
    for what, *arguments in operations:
        if what == "create":
            names[arguments[0]] = int(arguments[1])
        elif what == "unlink":
            names.pop(arguments[0], None)
        elif what == "rename" and arguments[0] in names:
            names[arguments[1]] = names.pop(arguments[0])
    return names


def torn(kept: bytes, current: bytes, dropped: bytes, chance: random.Random) -> bytearray:
    """Returns a file of which only a part of what changed since its last sync was written."""
    share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    size = chance.choice((len(kept), len(current)))
    content = bytearray(kept[:size].ljust(size, b"\0"))
    for at in range(0, min(size, len(current)), SECTOR):
        page = at // PAGE
        is_dropped = page < len(dropped) and dropped[page]
        if not is_dropped and chance.random() < share:
            content[at : at + SECTOR] = current[at : at + SECTOR]
    return content[:size]


def library(folder: Path, source: Path = SOURCE) -> Path:
    """Compiles `source`, a library to preload, into `folder`, once."""
    target = folder / source.with_suffix(".so").name
    if not target.exists():
        compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
        aside = target.with_suffix(".part")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(aside), str(source)]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
        aside.replace(target)
    return target
