"""Tape, lake and commits deleted, replaced or restored from an older copy, around stops and kills.

A tape grows, a sink stores it, is closed or abandoned as by a kill, and a folder is then removed,
restored from an older copy, or replaced by that of another recording; sometimes under a running
sink. What follows must be either an error of ours, and then nothing was changed for the worse, so
that all goes on once the folder is back; or each record of the tape is in the lake once.
"""

import random
import shutil
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.conftest import RecordMaker

from tapeworks import _core, commits
from tapeworks.errors import TapeworksError
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.audit import audit
from tapeworks.views.lake_check import verify_lake

TOPIC, SOURCE = "market-data.normalized", "binance-spot"
ROUNDS = 12


def run(seed: int, folder: Path) -> Outcome:
    """Grows, stores and replaces, a dozen times."""
    lane = Lane(random.Random(seed), folder)
    lane.grow()
    lane.drain()
    for _ in range(ROUNDS):
        lane.keep_copy()
        for _ in range(lane.chance.randrange(3)):
            lane.grow()
            lane.store_some()
        lane.replace_and_go_on()
    lane.grow()
    lane.drain()
    lane.expect_exact("at the end")
    return lane.outcome


class Lane:
    """One data folder, its older copy, and one of another recording."""

    def __init__(self, chance: random.Random, folder: Path) -> None:
        self.chance, self.outcome = chance, Outcome()
        self.data, self.copy, self.aside = folder / "data", folder / "copy", folder / "aside"
        self.other = folder / "other"
        self.maker = RecordMaker()
        _append(self.other, self.maker, self.chance.randrange(1, 3_000))
        _feeder(self.other).drain(30)

    def grow(self) -> None:
        """Appends some records, durably."""
        _append(self.data, self.maker, self.chance.randrange(1, 800))

    def drain(self) -> None:
        """Stores everything, and closes the sink."""
        feeder = _feeder(self.data)
        try:
            feeder.drain(30)
        finally:
            feeder.close()

    def store_some(self) -> None:
        """Stores a part, then abandons the sink with rows in memory, as a kill would."""
        feeder = _feeder(self.data, self.chance.randrange(1, 400))
        for _ in range(self.chance.randrange(4)):
            feeder.step()
        feeder.close()

    def keep_copy(self) -> None:
        """Copies all folders as they are now."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.data, self.copy)

    def replace_and_go_on(self) -> None:
        """Replaces a folder, lets the sink run, judges, and puts the folder back if need be."""
        name = self.chance.choice(["tape", "lake", "commits", "table", "data"])
        inside = {
            "tape": Path("tape") / SOURCE / TOPIC,
            "lake": Path("lake"),
            "commits": commits.commit_folder(Path("lake"), SOURCE),
            "table": Path("lake") / "trades",
            "data": Path(),
        }[name]
        source = self.chance.choice([None, self.copy, self.other])
        if name == "data" and source is None:
            return
        what = {None: "deleted", self.copy: "older", self.other: "of another"}[source]
        running = _feeder(self.data, 50) if self.chance.random() < 0.4 else None
        if running is not None:
            running.step()
        shutil.rmtree(self.aside, ignore_errors=True)
        shutil.copytree(self.data, self.aside)
        _replace(self.data / inside, None if source is None else source / inside)
        self.outcome.figures[f"{name} {what}"] += 1
        before = self._stored()
        refused = self._go_on(running)
        if refused is None:
            self.expect_exact(f"{name} {what}{' under a running sink' if running else ''}")
        else:
            self.outcome.figures["refused"] += 1
            lost = before - self._stored()
            self.outcome.expect(not lost, f"{name} {what}: {refused}: deleted {len(lost)} files")
        # Everything as it was, also what was accepted.
        _replace(self.data, self.aside)
        self.drain()
        self.expect_exact(f"after {name} {what} was put back")

    def _go_on(self, running: Feeder | None) -> TapeworksError | None:
        refused: TapeworksError | None = None
        if running is not None:
            try:
                running.drain(0.2)
            except TapeworksError as error:
                refused = error
            finally:
                running.close()
        try:
            if (self.data / "tape" / SOURCE / TOPIC).is_dir():
                self.grow()
            self.drain()
        except TapeworksError as error:
            return error
        # A sink that noticed a change at once may go on when it is opened again.
        faults = [f for report in verify_lake(self.data) for f in report.faults]
        return refused if faults and refused else _as_refusal(faults)

    def _stored(self) -> set[Path]:
        return set((self.data / "lake").rglob("*.parquet"))

    def expect_exact(self, when: str) -> None:
        """Expects each record of the tape in the lake once, if there is a tape."""
        try:
            wrong = [str(one) for one in audit(self.data) if not one.exact]
        except TapeworksError as error:
            wrong = [str(error)]
        self.outcome.expect(not wrong, f"{when}: {wrong}")


def _as_refusal(faults: list[object]) -> TapeworksError | None:
    """A fault that the check reports is not hidden, though the sink could go on."""
    return TapeworksError(f"the check says {faults}") if faults else None


def _append(data: Path, maker: RecordMaker, count: int) -> None:
    tape = data / "tape" / SOURCE / TOPIC
    tape.mkdir(parents=True, exist_ok=True)
    with _core.TapeWriter(tape) as writer:
        if writer.end == 0:
            writer.append(maker.definitions().tobytes())
        writer.append(maker.trades(count, writer.end).tobytes())
        writer.sync()


def _feeder(data: Path, rows: int = 1_000_000) -> Feeder:
    sink = ParquetPartition(ParquetConfig(), data, SOURCE, TOPIC)
    tape = data / "tape" / SOURCE / TOPIC
    return Feeder(sink, tape, FlushPolicy(rows=rows), name="sink-parquet")


def _replace(folder: Path, source: Path | None) -> None:
    # Another folder is there first: the same inode would not be another one.
    gone = folder.with_name(folder.name + ".gone")
    if folder.exists():
        folder.rename(gone)
    if source is not None and source.exists():
        shutil.copytree(source, folder)
    shutil.rmtree(gone, ignore_errors=True)
