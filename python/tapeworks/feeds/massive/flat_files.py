"""Flat files of Massive as answers of its REST interface: CSV rows in, bodies out.

Both tell the same by other names, so that one decoder reads them. Digits stay as they stand in the
file; nothing becomes a float. Columns are known by their names: the venue adds some.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import PurePath
from urllib.parse import quote

from tapeworks.errors import FeedError
from tapeworks.new_york import told_at

ROWS_MAX = 500
"""Rows of one body: those of one ticker that stand together."""
LINE_MAX = 1 << 12
"""A longer line is no row."""
LISTS = ("conditions", "indicators")
TEXTS = ("id",)
BARS = {"volume": "v", "open": "o", "close": "c", "high": "h", "low": "l", "transactions": "n"}
SPANS = {"minute_aggs": "minute", "day_aggs": "day", "second_aggs": "second"}
TIMES = ("sip_timestamp", "participant_timestamp")
"""When a trade or quote was published, and when its exchange made it. Those of crypto and forex,
which no SIP publishes, have the second alone."""
NS_PER_H = 3_600 * 10**9
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)

Row = Mapping[str, str]


def bodies(
    lines: Iterable[str], place: str, day: date, position: Callable[[], int]
) -> Iterator[tuple[str, bytes, int]]:
    """Yields path and body of an answer for each run of rows, and how much of the file was read.

    `place` is the path of the file, which tells how long its bars are; `day` is that of all rows,
    which goes on to 02:00 UTC of the next.

    Raises:
        FeedError: it is no flat file of trades, quotes or bars, or a row is not whole, or of
            another day.
    """
    rows = csv.DictReader(_bounded(lines, place), strict=True)
    try:
        path, convert = _kind_of(rows.fieldnames or (), place)
        for ticker, run in groupby(
            _of_day(_whole(rows, place), place, day), key=lambda row: row["ticker"]
        ):
            part: list[str] = []
            for row in run:
                part.append(convert(row))
                if len(part) == ROWS_MAX:
                    yield path.format(ticker=quote(ticker, safe=":")), _body(part), position()
                    part = []
            if part:
                yield path.format(ticker=quote(ticker, safe=":")), _body(part), position()
    except csv.Error as error:
        raise FeedError(
            f"{place}:{rows.line_num}: expected a row of a flat file: {error}"
        ) from None


def span_of(day: date) -> range:
    """Returns the ns that a file of `day` stands for: from 00:00 UTC to 02:00 UTC of the next."""
    since = int(datetime.combine(day, datetime.min.time(), UTC).timestamp()) * 10**9
    return range(since, since + 26 * NS_PER_H)


def _of_day(rows: Iterable[tuple[int, Row]], place: str, day: date) -> Iterator[Row]:
    span = span_of(day)
    for number, row in rows:
        text = next((row[name] for name in (*TIMES, "window_start") if row.get(name)), "")
        time = int(text) if text.isdecimal() else None
        if time is None or time not in span:
            told = told_at(time) if time is not None and time < 2**63 else f"no time: {text!r}"
            raise FeedError(
                f"{place}:{number}: its day is {day}, by its name or --date, and a row of "
                f"{row['ticker']} is of {told}"
            )
        yield row


def _kind_of(names: Iterable[str], place: str) -> tuple[str, Callable[[Row], str]]:
    """Returns the path of the request that such rows answer, and what makes an element of one."""
    known = set(names)
    if {"ticker", "window_start", "open", "close", "high", "low"} <= known:
        # The name nearest to the file tells: folders above it may be named after anything.
        parts = reversed(PurePath(place).parts)
        named = (span for part in parts for name, span in SPANS.items() if name in part)
        span = next(named, None)
        if span is None:
            raise FeedError(
                f"{place}: nothing tells how long its bars are: expected {', '.join(SPANS)} in its "
                "path, as the venue names it"
            )
        return f"/v2/aggs/ticker/{{ticker}}/range/1/{span}/flat/file", _bar
    if known.intersection(TIMES):
        if {"ticker", "price", "size"} <= known:
            return "/v3/trades/{ticker}", _event
        if {"ticker", "ask_price", "bid_price"} <= known:
            return "/v3/quotes/{ticker}", _event
    raise FeedError(
        f"{place}: expected a flat file of trades, quotes or bars, got the columns "
        f"{', '.join(sorted(known))[:200]}"
    )


def _bounded(lines: Iterable[str], place: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_MAX:
            raise FeedError(f"{place}:{number}: a line of over {LINE_MAX} characters")
        if not line.endswith("\n"):
            # What is left of its last value may be a number as well.
            raise FeedError(f"{place}:{number}: the file is cut: its last line has no end")
        yield line


def _whole(rows: "csv.DictReader[str]", place: str) -> Iterator[tuple[int, Row]]:
    width = len(rows.fieldnames or ())
    for row in rows:
        # A short row has None for what it lacks, a long one a list under None.
        values = list(row.values())
        if len(values) != width or not all(isinstance(value, str) for value in values):
            raise FeedError(f"{place}:{rows.line_num}: expected {width} columns; the file is cut")
        if not row["ticker"] or not row["ticker"].isprintable():
            raise FeedError(f"{place}:{rows.line_num}: expected a ticker, got {row['ticker']!r}")
        yield rows.line_num, row


def _value(text: str) -> str:
    """Returns `text` as it stands in a body: its very digits, or a string where it is no number."""
    return text if NUMBER.fullmatch(text) else json.dumps(text)


def _event(row: Row) -> str:
    told = []
    for name, text in row.items():
        if not text or name == "ticker":
            continue
        if name in LISTS:
            value = f"[{','.join(_value(one.strip()) for one in text.split(','))}]"
        else:
            value = json.dumps(text) if name in TEXTS else _value(text)
        told.append(f"{json.dumps(name)}:{value}")
    return f"{{{','.join(told)}}}"


def _bar(row: Row) -> str:
    told = [f'"{short}":{_value(row[name])}' for name, short in BARS.items() if row.get(name)]
    return f'{{"t":{_value(row["window_start"])},{",".join(told)}}}'


def _body(rows: list[str]) -> bytes:
    return f'{{"results":[{",".join(rows)}]}}'.encode()
