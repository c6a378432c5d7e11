"""The settings as a checked `Config`, for the commands that run a pipeline."""

from dataclasses import replace
from pathlib import Path

from tapeworks.cli.options import read_settings
from tapeworks.config import FILE_NAME
from tapeworks.errors import ConfigError
from tapeworks.pipeline import Config, resolve_config


def load(path: Path | None) -> Config:
    """Parses and checks the settings; without a file the defaults and the environment count.

    Raises:
        ConfigError: a setting is wrong, or the file that was named is not there.
    """
    return resolve_config(read_settings(path))


def load_written(path: Path | None) -> Config:
    """Parses and checks the settings, with the feeds that they name and no other.

    Raises:
        ConfigError: as `load`.
    """
    written = read_settings(path)
    config = resolve_config(written)
    return config if written.table("feeds").entries else replace(config, feeds={})


def load_named(path: Path | None) -> Config:
    """Parses and checks the settings, which must name a feed: nothing is recorded uninvited.

    Raises:
        ConfigError: they name none, or as `load`.
    """
    written = read_settings(path)
    if not written.table("feeds").entries:
        where = path or written.folder
        found = f"none of them in {where}" if where else f"no {FILE_NAME} in this folder"
        raise ConfigError(
            f"expected settings that name a feed, as [feeds.binance-spot] does, got {found}: "
            f"`tape config example > {FILE_NAME}` writes an example to change, and "
            "`tape record binance BTCUSDT` needs none"
        )
    return resolve_config(written)
