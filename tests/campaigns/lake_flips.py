"""Flips, cuts and losses in every file of a lake: each reader gives the same answer or an error.

A small lake is made of flushes and a merge. Then one file at a time, data, manifest, commit or
symbols, is flipped, cut, emptied or deleted. SQL, replay from the lake, the check and the sink must
answer as before, or with an error of ours; the check must see every change of a byte; and a
rebuild must make good each of them, by the audit. A page that SQL reads without its checksum is the
one exception: there the check must say so.
"""

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.conftest import RecordMaker, SpineFolder

import tapeworks as tw
from tapeworks.errors import TapeworksError
from tapeworks.lake_rebuild import rebuild
from tapeworks.sinks import compaction
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.audit import audit
from tapeworks.views.lake_check import verify_lake

TOPIC = "market-data.normalized"
FAULTS = 12
REBUILDS = 4


def run(seed: int, folder: Path) -> Outcome:
    """Damages one file after the other; each time asks all readers."""
    chance, outcome = random.Random(seed), Outcome()
    spine = _fill(folder / "data", chance)
    work, bare = folder / "work", folder / "bare"
    shutil.copytree(spine.path, work)
    shutil.copytree(spine.path / "lake", bare / "lake")
    readers: dict[str, Callable[[], str]] = {
        "sql": lambda: _sql(work),
        "replay": lambda: _replay(bare),
    }
    expected = {name: read() for name, read in readers.items()}
    for number in range(FAULTS):
        path = chance.choice([p for p in sorted((work / "lake").rglob("*")) if _counts(p)])
        inside = path.relative_to(work)
        data = path.read_bytes()
        kind = _damage(chance, path)
        shutil.copytree(work / "lake", bare / "lake", dirs_exist_ok=True)
        if not path.exists():
            (bare / inside).unlink()
        outcome.figures["faults"] += 1
        found = [fault for report in verify_lake(work) for fault in report.faults]
        where = f"{inside}: {kind}"
        outcome.expect(bool(found), f"{where}: not seen by the check")
        for name, read in readers.items():
            is_page = name == "sql" and path.suffix == ".parquet" and kind.startswith("flip")
            if is_page and not _in_footer(data, kind):
                continue
            _compare(outcome, f"{where}: {name}", read, expected[name])
        if number < REBUILDS:
            _mend(outcome, where, folder / "mended", work)
        path.write_bytes(data)
        (bare / inside).write_bytes(data)
    spine.close()
    return outcome


def _fill(data: Path, chance: random.Random) -> SpineFolder:
    maker, spine = RecordMaker(), SpineFolder(data)
    spine.append(maker.definitions())
    first = 0
    for _ in range(10):
        count = chance.randrange(50, 400)
        spine.append(maker.trades(count, first))
        first += count
        sink = ParquetPartition(ParquetConfig(row_group_rows=100), data, spine.source, TOPIC)
        feeder = Feeder(sink, spine.tape(), FlushPolicy())
        feeder.drain(30)
        sink.run_maintenance()
        feeder.close()
    assert compaction.FAN_IN < 10
    return spine


def _counts(path: Path) -> bool:
    # The lock holds a process number for people.
    return path.is_file() and path.name != "LOCK" and path.stat().st_size > 0


def _damage(chance: random.Random, path: Path) -> str:
    data = bytearray(path.read_bytes())
    kind = chance.choice(["flip", "flip", "flip", "cut", "empty", "delete"])
    if kind == "flip":
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        kind = f"flip at {at}"
    elif kind == "cut":
        del data[chance.randrange(len(data)) :]
    elif kind == "empty":
        data.clear()
    else:
        path.unlink()
        return kind
    path.write_bytes(data)
    return kind


def _in_footer(data: bytes, kind: str) -> bool:
    length = int.from_bytes(data[-8:-4], "little") + 8
    return int(kind.rpartition(" ")[2]) >= len(data) - length


def _sql(data: Path) -> str:
    found = tw.open(data)
    rows = [
        found.sql(f"select * from {table} order by tape_offset").to_pylist()
        for table in ("trades", "instruments")
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _replay(data: Path) -> str:
    digest = hashlib.sha256()
    for batch in tw.open(data).replay(kinds=["trades", "definitions"]):
        digest.update(bytes(batch))
    return digest.hexdigest()


def _compare(outcome: Outcome, where: str, read: Callable[[], str], expected: str) -> None:
    try:
        found = read()
    except TapeworksError:
        outcome.figures["errors"] += 1
        return
    except Exception as error:
        outcome.complaints.append(f"{where}: {type(error).__name__}: {error}")
        return
    outcome.figures["same"] += 1
    outcome.expect(found == expected, f"{where}: another answer")


def _mend(outcome: Outcome, where: str, mended: Path, work: Path) -> None:
    """Rebuilds a copy; every table must then be exactly what its tape holds."""
    shutil.rmtree(mended, ignore_errors=True)
    shutil.copytree(work, mended)
    try:
        reports = list(rebuild(mended, "binance-spot"))
        outcome.expect(not any(report.lost for report in reports), f"{where}: rebuild lost rows")
        sink = ParquetPartition(ParquetConfig(), mended, "binance-spot", TOPIC)
        feeder = Feeder(sink, mended / "tape" / "binance-spot" / TOPIC, FlushPolicy())
        feeder.drain(30)
        feeder.close()
        wrong = [str(one) for one in audit(mended) if not one.exact]
        outcome.expect(not wrong, f"{where}: after a rebuild: {wrong}")
        left = [fault for report in verify_lake(mended) for fault in report.faults]
        outcome.expect(not left, f"{where}: after a rebuild: {left}")
    except TapeworksError as error:
        outcome.complaints.append(f"{where}: rebuild: {error}")
    outcome.figures["rebuilds"] += 1
