"""The settings as a checked `Config`, for the commands that run a pipeline."""

from pathlib import Path

from tapeworks.cli.options import read_settings
from tapeworks.pipeline import Config, resolve_config


def load(path: Path | None) -> Config:
    """Parses and checks the settings; without a file the defaults and the environment count.

    Raises:
        ConfigError: a setting is wrong, or the file that was named is not there.
    """
    return resolve_config(read_settings(path))
