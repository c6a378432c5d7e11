"""`tape verify`: verifies that tapes, states, offsets and lake are whole and unchanged."""

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table

from tapeworks.cli import lake
from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, argument, ending_with, option
from tapeworks.cli.console import console
from tapeworks.cli.formats import Report, ReportOption
from tapeworks.cli.options import DataOption, recorded
from tapeworks.cli.output import size
from tapeworks.config import source_name
from tapeworks.errors import ConfigError
from tapeworks.jobs.inspection import Fault, all_tapes, state_faults, tape_fault, verify_tape
from tapeworks.tape import has_segments, tape_hash
from tapeworks.topics import RAW
from tapeworks.views.lake_check import LakeReport, verify_lake

app = Application()
HEAD = re.compile(r"\d{1,20}:[0-9a-f]{64}")

EXAMPLES = """\
Examples:
  tape verify
  tape verify data/tape/binance-spot/market-data.raw --hash
  tape verify --head >> heads.txt      # keep it where nobody can change it together with the tape
  tape verify data/tape/binance-spot/market-data.raw --expect 81920:9f2c...

The head of a tape is `offset:hash`: a hash of all that the tape holds before that offset. Without
one that is kept elsewhere, the hash chain shows damage, and changes by anyone who does not
recompute all later hashes. With --expect, anything that was changed, cut or rewritten before is a
fault.
"""


@app.command(
    "verify",
    epilog=EXAMPLES,
)
def verify_tapes(
    tapes: Annotated[
        list[Path] | None, argument(help="Tapes. [default: all of the data folder]")
    ] = None,
    hashes: Annotated[bool, option("--hash", help="Show one hash over all items.")] = False,
    head: Annotated[
        bool, option("--head", help="Print the head of each raw tape, to be kept elsewhere.")
    ] = False,
    expect: Annotated[
        str, option(help="A head that one tape must still agree with.", metavar="OFFSET:HASH")
    ] = "",
    source: Annotated[str, option(help="The source whose raw tape --expect is for.")] = "",
    form: ReportOption = Report.TEXT,
    data: DataOption = None,
) -> None:
    """Read every byte: checksums, offsets, hash chain, states; the lake's files and commits.

    Exits with 1 on any fault. Where tapes are named, only those are read.
    """
    if expect or source:
        tapes = [_expected_tape(tapes, source, expect, data)]
    reports = []
    folders = [path for path in tapes or () if (path / "tape").is_dir()]
    folders = [] if head else folders or _default_folder(tapes, data)
    lakes = [found for folder in folders for found in verify_lake(folder)]
    others = [fault for folder in folders for fault in state_faults(folder)]
    # A lake without tapes is whole, too: it was moved, or retention took them.
    no_tapes = bool(lakes) and not any((folder / "tape").is_dir() for folder in folders)
    chosen = [] if no_tapes else _resolve_tapes(tapes) if tapes else _recorded_tapes(recorded(data))
    if head:
        chosen = [path for path in chosen if tapes or path.name == RAW]
    for path in chosen:
        report: dict[str, Any] = {"tape": str(path), **verify_tape(path, expect or None)}
        if hashes and report["fault"] is None:
            report["sha256"] = tape_hash(path)
        reports.append(report)
    is_damaged = any(report["fault"] is not None for report in reports)
    is_damaged = is_damaged or bool(others) or any(found.faults for found in lakes)
    with ending_with(1 if is_damaged else 0):
        if head and form is not Report.JSON:
            _show_heads(reports)
        elif form is Report.JSON:
            print(as_json([*reports, *map(_other_entry, others), *map(_lake_entry, lakes)]))
        else:
            _show(reports, others)
            if lakes:
                lake.show(lakes)


def _expected_tape(tapes: list[Path] | None, source: str, expect: str, data: Path | None) -> Path:
    """Returns the one tape that a head is compared with.

    Raises:
        ConfigError: `expect` is no head, or the tape is not named.
    """
    if HEAD.fullmatch(expect) is None:
        raise ConfigError(f"--expect: expected OFFSET:HASH with 64 hex digits, got {expect!r}")
    if source and not tapes:
        return recorded(data) / "tape" / source_name(source) / RAW
    if source or tapes is None or len(tapes) != 1 or (tapes[0] / "tape").is_dir():
        raise ConfigError("--expect: expected one tape, or the source of a raw tape by --source")
    return tapes[0]


def _show_heads(reports: list[dict[str, Any]]) -> None:
    """Prints a line for each tape: its head and its folder; faults go to stderr."""
    for report in reports:
        if (fault := tape_fault(Path(report["tape"]), report)) is not None:
            print(str(fault), file=sys.stderr)
        elif report["head"] is not None:
            print(f"{report['head']}  {report['tape']}")


def _default_folder(tapes: list[Path] | None, data: Path | None) -> list[Path]:
    """Returns the data folder, if no tape was named."""
    return [] if tapes else [recorded(data)]


def _other_entry(fault: Fault) -> dict[str, Any]:
    return {fault.kind: fault.path, "fault": {**asdict(fault)}}


def _lake_entry(found: LakeReport) -> dict[str, Any]:
    faults = [vars(fault) for fault in found.faults]
    name = f"{found.source}/{found.topic}"
    known = {"files": found.files, "rows": found.rows, "bytes": found.bytes}
    return {"lake": name, **known, "fault": faults[0] if faults else None, "faults": faults}


def _resolve_tapes(paths: list[Path]) -> list[Path]:
    """Returns the tapes among `paths`; a data folder stands for all of its own."""
    found = []
    for path in paths:
        if (path / "tape").is_dir():
            found += _recorded_tapes(path)
        elif has_segments(path):
            found.append(path)
        else:
            raise ConfigError(
                "expected a data folder or a tape such as data/tape/binance-spot/market-data.raw; "
                f"got {path}, which is {'neither' if path.exists() else 'not there'}"
            )
    return found


def _recorded_tapes(data: Path) -> list[Path]:
    """Returns the folders of all tapes below `data`.

    Raises:
        ConfigError: there is none.
    """
    found = all_tapes(data)
    if not found:
        raise ConfigError(f"expected tapes below {data / 'tape'}, got none")
    return found


def _show(reports: list[dict[str, Any]], others: list[Fault]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tape")
    for name in ("items", "frames", "bytes", "segments", "hash links"):
        table.add_column(name, justify="right")
    table.add_column("")
    for report in reports:
        path = Path(report["tape"])
        table.add_row(
            f"{path.parent.name}/{path.name}",
            f"{report['items']:,}",
            f"{report['frames']:,}",
            size(report["bytes"]),
            str(report["segments"]),
            str(report["links"]),
            "[green]whole[/]" if report["fault"] is None else "[red]damaged[/]",
        )
    console.print(table)
    for report in reports:
        if (fault := tape_fault(Path(report["tape"]), report)) is not None:
            console.print(str(fault), style="red", markup=False, soft_wrap=True)
        if "sha256" in report:
            console.print(f"{report['sha256']}  {report['tape']}", soft_wrap=True)
    for fault in others:
        told = f"{fault.kind} of {fault.source}: {fault}"
        console.print(told, style="red", markup=False, soft_wrap=True)
    if others or any(report["fault"] is not None for report in reports):
        console.print("`tape repair` shows what can be done about it")
