"""The history of Binance: trades by their ids, page by page. Sans I/O.

Ids are consecutive: a page that lacks one of those that it should hold fills nothing for certain.
"""

from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from tapeworks.feeds.base import EndedGap, HistoryPage, Request
from tapeworks.feeds.binance.products import PRODUCTS

ROWS_MAX = 1_000
PRIORITY = 5
WEIGHTS = {"historicalTrades": 25, "aggTrades": 4}
FUTURES_WEIGHT = 20
MICROSECOND_DIGITS = 16


class _Row(msgspec.Struct):
    """A trade or an aggregate: the names of its fields are those of its kind."""

    id: int = -1
    time: int = -1
    a: int = -1
    T: int = -1


def request_for(product: str, gap: EndedGap) -> Request | None:
    """Returns the request for the first page of what `gap` lacks, and the trade behind it.

    None: its ids are not known, or the venue has them for holders of an account alone (single
    trades of futures).
    """
    name = {"trade": "historicalTrades", "agg_trade": "aggTrades"}.get(gap.channel)
    is_public = name == "aggTrades" or not PRODUCTS[product].is_futures
    if name is None or gap.ids[1] <= 0 or not is_public:
        return None
    first = max(gap.ids[0], gap.lacks_from)
    return _page(f"{PRODUCTS[product].rest_root}/{name}", gap.symbol, first, gap.ids[1] + 1)


def _page(path: str, symbol: str, first: int, last: int) -> Request:
    limit = min(ROWS_MAX, last - first + 1)
    is_spot = path.startswith(PRODUCTS["spot"].rest_root)
    return Request(
        PRIORITY,
        f"{path}?symbol={quote(symbol)}&fromId={first}&limit={limit}",
        weight=WEIGHTS[path.rpartition("/")[2]] if is_spot else FUTURES_WEIGHT,
        symbol=symbol,
        last_id=last,
    )


def page_of(request: Request, body: bytes) -> HistoryPage | None:
    """Returns how far an answer reaches, what it lacks, and the request for the next one."""
    place = urlsplit(request.path)
    asked = dict(parse_qsl(place.query))
    first = int(asked["fromId"])
    try:
        rows = msgspec.json.decode(body, type=list[_Row])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if not rows:
        return HistoryPage(-1, is_behind=True)
    ids = [max(row.id, row.a) for row in rows]
    if ids != list(range(first, first + len(ids))):
        return HistoryPage(-1, lacks=f"of the ids from {first} on it has other ones")
    newest = max(max(row.time, row.T) for row in rows)
    unit_ns = 1_000 if len(str(newest)) >= MICROSECOND_DIGITS else 1_000_000
    reached = newest * unit_ns + unit_ns - 1
    if ids[-1] >= request.last_id:
        return HistoryPage(reached)
    # A page that is shorter than it may be is no end: the trade behind the gap came live.
    return HistoryPage(reached, _page(place.path, request.symbol, ids[-1] + 1, request.last_id))
