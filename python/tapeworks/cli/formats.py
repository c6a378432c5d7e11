"""The formats that commands print in, chosen by `--format`, `--json`, or the name of a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import option
from tapeworks.errors import ConfigError

STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


FORMATS = {
    ".parquet": Format.PARQUET,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".txt": Format.TABLE,
}


class Report(StrEnum):
    """How a command tells what it found."""

    TEXT = "text"
    JSON = "json"


ReportOption = Annotated[
    Report, option("--format", "-f", help="Output format.", shorthand=("--json", "json"))
]
FormatOption = Annotated[
    Format | None,
    option(
        "--format",
        "-f",
        help="Output format. [default: by the extension of the file, or table]",
        shorthand=("--json", "json"),
    ),
]
OutputOption = Annotated[
    Path | None,
    option(
        "--output",
        "-o",
        help="Write to this file (- is standard output); its extension selects the format.",
    ),
]


def format_of(form: Format | None, output: Path | None) -> Format:
    """Returns the format that was asked for, or the one that the name of the file says.

    Raises:
        ConfigError: the name says none.
    """
    if form is not None:
        return form
    if output is None or is_standard_output(output):
        return Format.TABLE
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"expected a file ending in {', '.join(FORMATS)}, or --format, got {output.name!r}"
        )
    return FORMATS[output.suffix.lower()]


def is_standard_output(output: Path) -> bool:
    """Whether `output` is where we print anyhow: a pipe, or a file that others write to, too."""
    return str(output) in STANDARD_OUTPUT
