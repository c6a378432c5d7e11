"""`tape publish`: brings what the lake holds to tables of other systems, at once."""

from typing import Annotated

from tapeworks.cli.command import Application, option
from tapeworks.cli.job import end_with, run_named
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.config import Value

app = Application("Publish the history of the lake to tables of other systems.")

EXAMPLES = """\
Examples:
  tape publish iceberg                     # days that are over, to iceberg/ of the data folder
  tape publish iceberg --warehouse s3://market/history
  tape publish iceberg --now               # today as well, as far as the lake holds it
  tape publish iceberg --table trades --table quotes --day 2026-11-20
  tape publish iceberg --every 60          # again each hour, until it is stopped

What is published already is not published again; what the lake holds differently since is
replaced, a day in one commit. Rows that the lake lost since stay published. [jobs.iceberg] of
tapeworks.toml holds all settings; keys of S3 come from the environment (AWS_ACCESS_KEY_ID and so
on).

It exits with 0 when all is published, 1 when store or catalog refuse, 3 when some files cannot be
in a table, or not beside what is there, which it names.
"""


@app.command(epilog=EXAMPLES)
def iceberg(
    warehouse: Annotated[
        str | None, option(help="Folder or s3://bucket/prefix of the tables.", metavar="ADDRESS")
    ] = None,
    catalog: Annotated[
        str | None, option(help="URI of the catalog. [default: SQLite in the data folder]")
    ] = None,
    table: Annotated[
        list[str] | None, option("--table", help="Only these tables.", names="tables")
    ] = None,
    day: Annotated[list[str] | None, option("--day", help="Only these days.")] = None,
    source: Annotated[
        list[str] | None, option("--source", help="Only these sources.", names="sources")
    ] = None,
    now: Annotated[bool, option("--now", help="Also what is not over yet.")] = False,
    replace_lost: Annotated[
        bool,
        option("--replace-lost", help="Let go of published rows that the lake lost."),
    ] = False,
    every: Annotated[
        int | None, option("--every", help="Again, so many minutes later.", metavar="MINUTES")
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Publish days that are over to Apache Iceberg tables, each row exactly once."""
    options = {
        "warehouse": Value(warehouse, "--warehouse"),
        "catalog": Value(catalog, "--catalog"),
        "tables": Value(table, "--table"),
        "days": Value(day, "--day"),
        "sources": Value(source, "--source"),
        "now": Value(now or None, "--now"),
        "replace_lost": Value(replace_lost or None, "--replace-lost"),
        "every_minutes": Value(every, "--every"),
    }
    given = {name: value for name, value in options.items() if value.raw is not None}
    end_with(run_named("iceberg", given, config, data))
