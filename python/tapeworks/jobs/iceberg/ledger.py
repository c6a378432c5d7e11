"""How far the gaps of a source go that are published, and that the records are there as well.

A gap that is repaired says that its records are in the history. So the table of gaps says up to
which offset of the records it goes, and a reader compares that with what the other tables cover.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from tapeworks.commits import TopicReader
from tapeworks.published import Coverage
from tapeworks.topics import GAPS, NORMALIZED
from tapeworks.views.tail import SourceTail

LEDGER = "gaps"
# For so long the records of new gaps are waited for: the sink of the lake stores each 10 s.
RECORDS_S, AGAIN_S = 15.0, 0.25


@dataclass(frozen=True)
class Ledger:
    """The gaps of a source as they are in the lake before any of its records are read."""

    offset: int
    input: int | None
    """Up to which offset of the records they go at most; none: it is not known."""


def read_ledger(data: Path, source: str, told: Coverage | None, *, is_chosen: bool) -> Ledger:
    """Returns how far the gaps of a source go; waits until the lake has the records of new ones.

    `told` is what their table covers; it is not published now unless it `is_chosen`.
    """
    commit = TopicReader(data / "lake", source, GAPS).read().commit
    offset = 0 if commit is None else commit.offset
    if not is_chosen or (told is not None and told.place.offset == offset):
        return Ledger(offset, None if told is None else told.input)
    reached = gaps_derived(data, source)
    records = TopicReader(data / "lake", source, NORMALIZED)
    deadline = time.monotonic() + RECORDS_S
    while reached is not None and time.monotonic() < deadline:
        stored = records.read().commit
        if stored is None or stored.offset >= reached:
            break
        time.sleep(AGAIN_S)
    return Ledger(offset, reached)


def gaps_derived(data: Path, source: str) -> int | None:
    """Returns up to which offset of the records the gaps on the tape were derived."""
    tape = SourceTail(data, source).tape(GAPS)
    return None if tape is None else tape.covered
