"""`tape verify`: proves that tapes, states, offsets and lake are whole and unchanged."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tapeworks.cli import lake
from tapeworks.cli.command import Application
from tapeworks.cli.console import console
from tapeworks.cli.options import DataOption, recorded
from tapeworks.cli.output import amount, as_json, size
from tapeworks.errors import ConfigError
from tapeworks.jobs.inspection import Fault, state_faults, tape_fault, tapes_of, verify_tape
from tapeworks.tape import tape_hash
from tapeworks.views.lake_check import LakeReport, verify_lake

app = Application()


@app.command(
    "verify",
    epilog="Examples:\n  tape verify\n  tape verify data/tape/binance-spot/market-data.raw --hash",
)
def verify_tapes(
    tapes: Annotated[
        list[Path] | None, typer.Argument(help="Tapes. [default: all of the data folder]")
    ] = None,
    hashes: Annotated[bool, typer.Option("--hash", help="Show one hash over all items.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON text.")] = False,
    data: DataOption = None,
) -> None:
    """Read every byte: checksums, offsets, hash chain, states; the lake's files and commits.

    Exits with 1 at any fault. Tapes that are named are read alone.
    """
    reports = []
    folders = [path for path in tapes or () if (path / "tape").is_dir()] or _none(tapes, data)
    lakes = [found for folder in folders for found in verify_lake(folder)]
    others = [fault for folder in folders for fault in state_faults(folder)]
    for path in _meant(tapes) if tapes else all_tapes(recorded(data)):
        report: dict[str, Any] = {"tape": str(path), **verify_tape(path)}
        if hashes and report["fault"] is None:
            report["sha256"] = tape_hash(path)
        reports.append(report)
    if json:
        print(as_json([*reports, *map(_other_entry, others), *map(_lake_entry, lakes)]))
    else:
        _show(reports, others)
        if lakes:
            lake.show(lakes)
    is_damaged = any(report["fault"] is not None for report in reports)
    if is_damaged or others or any(found.faults for found in lakes):
        raise typer.Exit(1)


def _none(tapes: list[Path] | None, data: Path | None) -> list[Path]:
    """Returns the data folder, if no tape was named."""
    return [] if tapes else [recorded(data)]


def _other_entry(fault: Fault) -> dict[str, Any]:
    return {fault.kind: fault.path, "fault": {**asdict(fault)}}


def _lake_entry(found: LakeReport) -> dict[str, Any]:
    faults = [vars(fault) for fault in found.faults]
    name = f"{found.source}/{found.topic}"
    known = {"files": found.files, "rows": found.rows, "bytes": found.bytes}
    return {"lake": name, **known, "fault": faults[0] if faults else None, "faults": faults}


def _meant(paths: list[Path]) -> list[Path]:
    """Returns the tapes among `paths`; a data folder stands for all of its own."""
    found = []
    for path in paths:
        if (path / "tape").is_dir():
            found += all_tapes(path)
        elif path.is_dir() and any(path.glob("*.seg*")):
            found.append(path)
        else:
            raise ConfigError(
                "expected a data folder or a tape such as data/tape/binance-spot/market-data.raw; "
                f"got {path}, which is {'neither' if path.exists() else 'not there'}"
            )
    return found


def all_tapes(data: Path) -> list[Path]:
    """Returns the folders of all tapes below `data`.

    Raises:
        ConfigError: there is none.
    """
    found = tapes_of(data)
    if not found:
        raise ConfigError(f"expected tapes below {data / 'tape'}, got none")
    return found


def _show(reports: list[dict[str, Any]], others: list[Fault]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tape")
    for name in ("items", "frames", "bytes", "segments", "links"):
        table.add_column(name, justify="right")
    table.add_column("")
    for report in reports:
        path = Path(report["tape"])
        table.add_row(
            f"{path.parent.name}/{path.name}",
            amount(report["items"]),
            amount(report["frames"]),
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
