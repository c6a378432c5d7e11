"""What the commands that read history share: opening the data folder."""

from pathlib import Path

from tapeworks.cli.options import data_folder, recorded
from tapeworks.views.conditions import parse_range
from tapeworks.views.lake import Lake
from tapeworks.views.published import Published, address_of
from tapeworks.views.query import quote


def open_lake(data: Path | None, *, external_access: bool = False) -> Lake:
    """Opens the data folder of `--data` or of the settings, or a published history.

    Raises:
        QueryError: nothing was ever recorded, or published, there.
    """
    if (address := address_of(data_folder(data))) is not None:
        published = Published(address)
        return Lake(published.folder, external_access=external_access, published=published)
    return Lake(recorded(data), external_access=external_access)


def conditions_of(
    lake: Lake,
    symbol: str | None,
    start: str | None,
    end: str | None,
    source: str | None,
    exchange: str | None,
    product: str | None,
) -> list[str]:
    """Returns what must hold of a row that the options choose, as SQL.

    Raises:
        ArgumentError: nothing of that name was ever recorded.
        QueryError: a time that cannot be read.
    """
    first, last = parse_range(start, end)
    found = [] if first is None else [f"epoch_ns(ts_event) >= {first}"]
    found += [] if last is None else [f"epoch_ns(ts_event) < {last}"]
    if any(one is not None for one in (symbol, source, exchange, product)):
        chosen = lake._instruments.choose(symbol, source, exchange, product, every=True)
        found += [f"venue in ({', '.join(map(quote, chosen.sources))})", chosen.condition()]
    return found
