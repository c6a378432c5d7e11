"""The options that commands share, and the data folder that they mean.

Only what was written is parsed here: which members the settings name, and whether they are right,
is a matter of `settings.py`, which loads those members. A look at what is stored needs neither.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tapeworks.addresses import secret_in
from tapeworks.cli.command import option
from tapeworks.config import FILE_NAME, Section, Value, parse, resolve
from tapeworks.errors import ConfigError, QueryError

CONFIG_VARIABLE = "TAPEWORKS_CONFIG"

ConfigOption = Annotated[
    Path | None,
    option(
        "--config",
        "-c",
        variable=CONFIG_VARIABLE,
        help="The settings. [default: tapeworks.toml where there is one]",
    ),
]
DataOption = Annotated[
    Path | None,
    option("--data", help="The data folder. [default: `data` of the settings]"),
]
SourceOption = Annotated[str | None, option("--source", help="Only this source.", names="sources")]
SourcesOption = Annotated[
    str | None,
    option("--source", help="Only this source; '*' takes a symbol of all.", names="sources"),
]
ExchangeOption = Annotated[
    str | None,
    option("--exchange", help="Only sources of this exchange, such as binance.", names="exchanges"),
]
ProductOption = Annotated[
    str | None,
    option("--product", help="Only this product, such as spot or perpetual.", names="products"),
]


@dataclass(frozen=True)
class _Place:
    data: Path = Path("data")


def read_settings(path: Path | None) -> Section:
    """Returns what `path` and the environment say; without a file only the environment counts.

    Raises:
        ConfigError: the file that was named is not there, or is no TOML.
    """
    if path is None and os.environ.get(CONFIG_VARIABLE):
        path = Path(os.environ[CONFIG_VARIABLE])
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    return parse(path, os.environ)


def text_settings(settings: Sequence[str]) -> dict[str, Value]:
    """Returns what `--set KEY=VALUE` says.

    Raises:
        ConfigError: one has no `=`.
    """
    written = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"expected --set KEY=VALUE, got --set {shlex.quote(setting)}")
        written[key.strip()] = Value(value, f"--set {key.strip()}", is_text=True)
    return written


def data_folder(data: Path | None, config: Path | None = None) -> Path:
    """Returns `--data`, or the data folder of the settings, which are `config` where it is given.

    Raises:
        QueryError: it is an address with keys in it.
    """
    if data is not None:
        if refused := secret_in(str(data)):
            raise QueryError(f"--data: {refused}")
        return data
    written = read_settings(config)
    place = resolve(written, _Place, ignore=frozenset(written.entries) - {"data"}).data
    return place if "data" in written.entries else (written.folder or Path()) / place


def recorded(data: Path | None, config: Path | None = None) -> Path:
    """Returns the data folder, as `data_folder`, in which something was recorded.

    Raises:
        QueryError: nothing was; says what would.
    """
    folder = data_folder(data, config)
    if not (folder / "tape").is_dir() and not (folder / "lake").is_dir():
        raise QueryError(
            f"expected recorded data in {folder}, got none: `tape demo` or "
            "`tape record binance BTCUSDT` makes some; --data names another folder"
        )
    return folder
