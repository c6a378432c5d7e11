"""The settings that commands share: which config file, which data folder."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tapeworks.config import FILE_NAME, parse
from tapeworks.pipeline import Config, resolve_config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TAPEWORKS_CONFIG",
        help="The settings. [default: tapeworks.toml where there is one]",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="The data folder. [default: `data` of the settings]"),
]


def load(path: Path | None) -> Config:
    """Parses and checks the settings; without a file the defaults and the environment count.

    Raises:
        ConfigError: a setting is wrong, or the file that was named is not there.
    """
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    return resolve_config(parse(path, os.environ))


def data_folder(data: Path | None) -> Path:
    """Returns `--data`, or the data folder of the settings."""
    return data or load(None).data
