"""What the commands that read history share: opening the data folder."""

from pathlib import Path

from tapeworks.cli.settings import data_folder
from tapeworks.errors import QueryError
from tapeworks.views.lake import Lake


def open_lake(data: Path | None) -> Lake:
    """Opens the data folder of `--data` or of the settings.

    Raises:
        QueryError: nothing was ever recorded there.
    """
    return Lake(recorded(data))


def recorded(data: Path | None) -> Path:
    """Returns the data folder, in which something was recorded.

    Raises:
        QueryError: nothing was; says what would.
    """
    folder = data_folder(data)
    if not (folder / "tape").is_dir() and not (folder / "lake").is_dir():
        raise QueryError(
            f"wanted recorded data in {folder}, found none: `tape demo` or "
            "`tape record binance BTCUSDT` makes some; --data names another folder"
        )
    return folder
