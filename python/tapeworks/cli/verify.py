"""`tape verify`: proves that the tapes and the lake are whole and unchanged."""

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
from tapeworks.tape import tape_hash, verify
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
    """Read every byte: checksums, offsets, hash chain; the lake's files, hashes and commits.

    Exits with 1 at any fault. Tapes that are named are read alone.
    """
    reports = []
    folders = [path for path in tapes or () if (path / "tape").is_dir()]
    lakes = [found for folder in folders or _none(tapes, data) for found in verify_lake(folder)]
    for path in _meant(tapes) if tapes else all_tapes(recorded(data)):
        report: dict[str, Any] = {"tape": str(path), **verify(path)}
        if hashes and report["fault"] is None:
            report["sha256"] = tape_hash(path)
        reports.append(report)
    if json:
        print(as_json([*reports, *map(_lake_entry, lakes)]))
    else:
        _show(reports)
        if lakes:
            lake.show(lakes)
    if any(report["fault"] is not None for report in reports) or any(
        found.faults for found in lakes
    ):
        raise typer.Exit(1)


def _none(tapes: list[Path] | None, data: Path | None) -> list[Path]:
    """Returns the data folder, if no tape was named."""
    return [] if tapes else [recorded(data)]


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
                "wanted a data folder or a tape such as data/tape/binance-spot/market-data.raw; "
                f"found {path}, which is {'neither' if path.exists() else 'not there'}"
            )
    return found


def all_tapes(data: Path) -> list[Path]:
    """Returns the folders of all tapes below `data`.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(path for path in (data / "tape").glob("*/*") if path.is_dir())
    if not found:
        raise ConfigError(f"wanted tapes below {data / 'tape'}, found none")
    return found


def _show(reports: list[dict[str, Any]]) -> None:
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
        if report["fault"] is not None:
            console.print(f"[red]{_place(report['fault'])}[/]", soft_wrap=True)
        if "sha256" in report:
            console.print(f"{report['sha256']}  {report['tape']}", soft_wrap=True)


def _place(fault: Any) -> str:
    if isinstance(fault, dict):
        return f"{fault['path']} at byte {fault['byte']}: {fault['reason']}"
    return str(fault)
