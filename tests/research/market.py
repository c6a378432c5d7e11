"""Twenty minutes of two simulated venues around midnight, recorded without waiting for them.

The frames of the market go through `tape import`, the path of live ones: that takes seconds, and
every run gives the same records. Not all of them arrived: trades and updates of a book were lost,
one frame came twice, and three were broken.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapeworks._core import BinanceMarket

NS = 1_000_000_000
MIDNIGHT = 1_709_251_200 * NS
START, END = MIDNIGHT - 600 * NS, MIDNIGHT + 600 * NS
SPOT, PERP = "binance-spot", "binance-usdm"
ORDERS_A_SECOND = 10.0
LEVELS = 300
SNAPSHOT_LEVELS = 1_000
TAPE = "from tapeworks.cli import main; main()"


@dataclass(frozen=True)
class Venue:
    """One source: what is recorded of it, and where its answers come from."""

    source: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    url: str
    seed: int
    micros: bool


VENUES = (
    Venue(
        SPOT,
        ("BTCUSDT", "SOLUSDT"),
        ("trade", "bookTicker", "depth@100ms"),
        "https://api.binance.com/api/v3",
        11,
        micros=True,
    ),
    Venue(
        PERP,
        ("BTCUSDT",),
        ("trade", "bookTicker", "depth@100ms", "markPrice@1s"),
        "https://fapi.binance.com/fapi/v1",
        12,
        micros=False,
    ),
)
# Frames of a stream that did not come, from a second of the recording on, and how many.
LOST = {
    ("btcusdt@trade", 130): 5,
    ("solusdt@trade", 700): 1,
    ("solusdt@depth@100ms", 300): 3,
}
BOOK_LOST_S = {"SOLUSDT": 300}
# After a loss, the whole book is asked for anew so many seconds later.
SNAPSHOT_AFTER_S = 2
BROKEN_S, TWICE_S = 400, 500
BROKEN_FRAMES = 3


def record(folder: Path) -> Path:
    """Records both venues into a data folder under `folder`, and returns that."""
    data = folder / "data"
    for venue in VENUES:
        capture = folder / f"{venue.source}.txt"
        with capture.open("wb") as file:
            file.writelines(lines(venue))
        words = ["import", venue.source, str(capture), "--data", str(data)]
        shown = subprocess.run(
            [sys.executable, "-c", TAPE, *words],
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr
    return data


def lines(venue: Venue) -> Iterator[bytes]:
    """Yields the capture of `venue`: each frame with the time of its receipt, and all answers."""
    delay = random.Random(venue.seed)
    received = 0
    for ts, body in frames(venue):
        # Half a millisecond at least, a few at most times, and now and then many.
        received = max(received, ts + 500_000 + int(delay.lognormvariate(14.0, 0.8)))
        stamp = b"%d.%09d: " % divmod(received, NS)
        if body.startswith(b"/"):
            path, _, answer = body.partition(b" ")
            yield venue.url.encode() + path + b" -> " + stamp + answer + b"\n"
        else:
            yield b"%d " % received + body + b"\n"


def frames(venue: Venue) -> Iterator[tuple[int, bytes]]:
    """Yields when each was sent, and what: a frame, or the path of a request and its answer."""
    market = BinanceMarket(
        venue.source,
        list(venue.symbols),
        venue.seed,
        START,
        rate=ORDERS_A_SECOND,
        levels=LEVELS,
    )
    names = {}
    for symbol in venue.symbols:
        for channel in venue.channels:
            number = market.stream(f"{symbol.lower()}@{channel}")
            assert number is not None, channel
            market.want(number, True)
            names[number] = f"{symbol.lower()}@{channel}"
    lost = {name: [second, count] for (name, second), count in LOST.items()}
    yield START, b"/exchangeInfo " + market.exchange_info("[]", venue.micros)
    for second in range((END - START) // NS):
        for symbol in venue.symbols:
            if second in (1, BOOK_LOST_S.get(symbol, 0) + SNAPSHOT_AFTER_S):
                path = f"/depth?symbol={symbol}&limit={SNAPSHOT_LEVELS} ".encode()
                yield market.now, path + market.depth(symbol, SNAPSHOT_LEVELS, venue.micros)
        batch = market.advance(START + (second + 1) * NS, venue.micros)
        for at in range(len(batch)):
            number, ts, _, _, payload = batch.frame(at, venue.micros)
            name = names[number]
            frame = b'{"stream":"%s","data":%s}' % (name.encode(), payload)
            if name in lost and lost[name][0] <= second and lost[name][1]:
                lost[name][1] -= 1
                continue
            yield ts, frame
            if name == "btcusdt@trade" and second == TWICE_S:
                yield ts, frame
        if second == BROKEN_S:
            for _ in range(BROKEN_FRAMES):
                yield market.now, b'{"stream":"btcusdt@trade","data":{"e":"trade","p":"x"}}'
