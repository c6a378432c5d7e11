"""What the commands that read history share: opening the data folder."""

from pathlib import Path

from tapeworks.cli.options import data_folder, recorded
from tapeworks.views.lake import Lake
from tapeworks.views.published import Published, address_of


def open_lake(data: Path | None, *, external_access: bool = False) -> Lake:
    """Opens the data folder of `--data` or of the settings, or a published history.

    Raises:
        QueryError: nothing was ever recorded, or published, there.
    """
    if (address := address_of(data_folder(data))) is not None:
        published = Published(address)
        return Lake(published.folder, external_access=external_access, published=published)
    return Lake(recorded(data), external_access=external_access)
