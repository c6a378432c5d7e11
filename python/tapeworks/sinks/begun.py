"""Where a sink began on a tape, kept beside its named offset until its store has something of it.

Without it, a sink that has stored nothing yet could not be told from one that is new: what the
tape lost meanwhile would be lost to it without a word.
"""

from pathlib import Path

from tapeworks.durable import replace_file


def note_begun(tape: Path, name: str, offset: int) -> None:
    """Notes that a sink begins at `offset`.

    Raises:
        OSError: it cannot be written.
    """
    path = _path(tape, name)
    path.parent.mkdir(exist_ok=True)
    replace_file(path, f"{offset}\n")


def read_begun(tape: Path, name: str) -> int | None:
    """Returns where a sink began of which nothing is stored; none: it was not noted."""
    try:
        return int(_path(tape, name).read_text())
    except (FileNotFoundError, ValueError):
        return None


def forget_begun(tape: Path, name: str) -> None:
    """Forgets it, as the store now has a place."""
    _path(tape, name).unlink(missing_ok=True)


def _path(tape: Path, name: str) -> Path:
    # Named offsets do not begin with a dot.
    return tape / "offsets" / f".begun-{name}"
