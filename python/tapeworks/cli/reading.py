"""What the commands that read history share: opening the data folder."""

from pathlib import Path

from tapeworks.cli.options import recorded
from tapeworks.views.lake import Lake


def open_lake(data: Path | None, *, external_access: bool = False) -> Lake:
    """Opens the data folder of `--data` or of the settings.

    Raises:
        QueryError: nothing was ever recorded there.
    """
    return Lake(recorded(data), external_access=external_access)
