"""The history of Massive: requests for trades and quotes, and what its answers say. Sans I/O."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

import msgspec

from tapeworks.errors import VenueError
from tapeworks.feeds.base import EndedGap, HistoryPage, Request

ROWS_MAX = 50_000
NS_PER_MS = 1_000_000
NS_PER_HOUR = 3_600_000 * NS_PER_MS
KINDS = {"trade": "trades", "quote": "quotes"}
PRODUCTS = ("stocks", "options")
"""Markets whose history calls an instrument as its stream does."""
PRIORITY = 5
RETRY_MS, TOO_MANY_MS, WAIT_S_MAX = 1_000, 60_000, 3_600


class _Row(msgspec.Struct):
    sip_timestamp: int = -1
    sequence_number: int = 0


class _Answer(msgspec.Struct):
    results: list[_Row] | None = None
    next_url: str = ""


class _Refusal(msgspec.Struct):
    error: str = ""
    message: str = ""


def request_for(product: str, gap: EndedGap) -> Request | None:
    """Returns the request for the first page of what `gap` lacks, oldest first."""
    if product not in PRODUCTS or gap.channel not in KINDS:
        return None
    start, end = gap.times
    # Streams tell times in ms: the last event before the gap and the first behind are within these.
    start, end = start - start % NS_PER_MS, end - end % NS_PER_MS + NS_PER_MS - 1
    path = f"/v3/{KINDS[gap.channel]}/{quote(gap.symbol, safe='')}"
    asked = f"timestamp.gte={start}&timestamp.lte={end}&order=asc&limit={ROWS_MAX}"
    path = f"{path}?{asked}"
    # Trades of options have numbers in the stream alone.
    last_id = 0 if product == "options" and gap.channel == "trade" else gap.behind
    return Request(PRIORITY, path, symbol=gap.symbol, last_id=last_id, ts_last=end)


def page_of(request: Request, body: bytes) -> HistoryPage | None:
    """Returns how far an answer reaches, and the request for the next one."""
    try:
        answer = msgspec.json.decode(body, type=_Answer, strict=False)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    rows = answer.results or []
    times = (row.sip_timestamp for row in rows)
    newest = max((ts for ts in times if ts <= request.ts_last), default=-1)
    # A live event is as late as the ms that it tells. Of many that are of one ms the history may
    # have some so far: that ms is reached with the event behind the gap, where that has a number.
    reached = newest if newest < 0 else newest - newest % NS_PER_MS
    if reached > 0 and request.last_id > 0:
        # Numbers begin anew each day: one of the day before is not that of the event behind.
        late = [row for row in rows if request.ts_last - row.sip_timestamp < NS_PER_HOUR]
        has_last = any(row.sequence_number == request.last_id for row in late)
        reached = reached if has_last else reached - 1
    if not answer.next_url:
        return HistoryPage(reached)
    # Where requests go is a setting: of the address that the venue names, the path alone counts.
    place = urlsplit(answer.next_url)
    path = f"{place.path}?{place.query}"
    if place.path.partition("?")[0] != request.path.partition("?")[0]:
        return None
    return HistoryPage(reached, replace(request, path=path))


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> VenueError:
    """Returns the error that a status of 400 or more means; asked again where that may help."""
    try:
        told = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        told = _Refusal()
    text = (told.error or told.message)[:200]
    retry_ms = RETRY_MS if status >= 500 else 0
    if status == 429:
        after = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
        is_number = after.isascii() and after.isdigit() and len(after) < 6
        retry_ms = 1000 * min(int(after), WAIT_S_MAX) if is_number else TOO_MANY_MS
    message = f"the venue answered {status}: {text or 'no reason'}"
    return VenueError(message, status=status, retry_after_ms=retry_ms)
