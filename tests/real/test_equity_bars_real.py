"""Bars of equities made of recorded trades beside the venue's own, as far as recordings have both.

A minute can be compared where a recording holds all its trades and the venue's bar of it. No
recording has both, which is asserted, so that one that comes is noticed, and compared.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

TRADE, BAR = {"t", "p", "s", "i"}, {"t", "o", "h", "l", "c", "v"}
Minutes = dict[tuple[str, str], list[Any]]


def bodies(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yields the symbol that a recording of Alpaca is of, if it names one, and what it holds."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            told = json.loads(line)
            text = told.get("body_text", told.get("frame"))
            try:
                body = json.loads(text, parse_float=Decimal) if isinstance(text, str) else text
            except ValueError:
                # Pasted into a page with what is no JSON.
                continue
            yield "", body
    for path in sorted(folder.glob("*.json.gz")):
        body = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
        yield body["symbol"], body


def minutes(folder: Path) -> tuple[Minutes, Minutes]:
    """Returns trades and bars of a minute by symbol and minute."""
    trades: Minutes = defaultdict(list)
    bars: Minutes = defaultdict(list)

    def walk(value: Any, symbol: str, name: str) -> None:
        if isinstance(value, list):
            for one in value:
                walk(one, symbol, name)
        if not isinstance(value, dict):
            return
        told = value.get("symbol", value.get("S", symbol))
        symbol = told if isinstance(told, str) else symbol
        if isinstance(value.get("t"), str):
            minute = symbol, value["t"][:16]
            if value.keys() >= TRADE:
                trades[minute].append(value)
            elif value.keys() >= BAR and "aily" not in name:
                bars[minute].append(value)
        for key, one in value.items():
            walk(one, key if key.isupper() and len(key) > 1 else symbol, key)

    for symbol, body in bodies(folder):
        walk(body, symbol, "")
    return trades, bars


def test_no_recording_has_trades_and_bars_of_one_minute_of_a_stock(real_data: Path):
    # The bars of BYND are of November and December 2020, the trades that are told of it two of
    # July 2021, and the trades of SPOT of a day of which there is no bar. Beside one of BYND there
    # is the bar of its minute, of a volume of 222: that of other trades, which are not told.
    trades, bars = minutes(real_data / "alpaca")
    of_bynd = sorted(minute for symbol, minute in bars if symbol == "BYND")
    assert len(of_bynd) == 10_000 + 7_485 + 1
    assert of_bynd[0] == "2020-11-02T09:11"
    assert len([minute for symbol, minute in trades if symbol == "SPOT"]) > 100
    both = {minute for minute in trades.keys() & bars.keys() if "/" not in minute[0]}
    told = {
        minute: (
            sum({trade["i"]: trade["s"] for trade in trades[minute]}.values()),
            [bar["v"] for bar in bars[minute]],
        )
        for minute in both
    }
    assert {minute: (size, set(volumes)) for minute, (size, volumes) in told.items()} == {
        ("BYND", "2021-07-08T15:09"): (100, {222})
    }
    # Where single trades were told, all that is known of the bar is that it is not theirs alone.
    assert all(size < min(volumes) for size, volumes in told.values())
