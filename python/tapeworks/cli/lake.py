"""`tape lake`: verify that the Parquet lake is as it was written, or make its commits again."""

from typing import Annotated

from rich.markup import escape

from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, ending_with, option
from tapeworks.cli.console import console
from tapeworks.cli.formats import Report, ReportOption
from tapeworks.cli.job import end_with, run_named
from tapeworks.cli.options import DataOption, recorded
from tapeworks.cli.output import size
from tapeworks.config import Value
from tapeworks.views.lake_check import LakeReport, verify_lake

app = Application("Check the Parquet lake, or rebuild its commits.")


@app.command(epilog="Example:\n  tape lake verify")
def verify(
    form: ReportOption = Report.TEXT,
    data: DataOption = None,
) -> None:
    """Read every file: hashes, commits, files that are in no commit. Exits with 1 on any fault."""
    reports = list(verify_lake(recorded(data)))
    with ending_with(1 if any(report.faults for report in reports) else 0):
        if form is Report.JSON:
            entries = [{**vars(one), "faults": [vars(f) for f in one.faults]} for one in reports]
            print(as_json(entries))
        else:
            show(reports)


@app.command(
    epilog="Examples:\n  tape lake rebuild\n  tape lake rebuild --source binance-spot\n\n"
    "Stop the sinks first. Nothing is deleted: damaged and redundant files go to lake/_aside."
)
def rebuild(
    source: Annotated[
        list[str] | None, option("--source", help="Sources. [default: all of the lake]")
    ] = None,
    data: DataOption = None,
) -> None:
    """Rebuild the commits from the files, and missing rows from the tapes."""
    given = {"sources": Value(source or [], "--source")}
    end_with(run_named("lake-rebuild", given, None, data))


def show(reports: list[LakeReport]) -> None:
    """Prints what was found, and each fault on a line of its own."""
    files = sum(report.files for report in reports)
    held = f"{sum(report.rows for report in reports):,} rows"
    held += f", {size(sum(report.bytes for report in reports))}"
    faults = [fault for report in reports for fault in report.faults]
    state = (
        f"[red]{len(faults)} fault{'' if len(faults) == 1 else 's'}[/]"
        if faults
        else "[green]whole[/]"
    )
    console.print(f"lake: {files} files, {held}: {state}")
    for fault in faults:
        console.print(f"[red]{escape(f'{fault.path}: {fault.reason}')}[/]", soft_wrap=True)
    if faults:
        console.print("`tape lake rebuild` restores what files and tapes still hold")
