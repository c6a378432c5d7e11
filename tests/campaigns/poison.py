"""Bad messages of every kind among a market's good ones, on one line or two, over restarts.

The seed says which absurd ids, times, snapshots and contradictions come, when, on which line, and
when the recorder is stopped, killed or begun anew. Frames go through the recorder's inner end to
the derived tapes. In the end every honest trade, quote and update is stored once, every bad message
is a dead letter with its bytes, no trade is in the ledger, bars hold what the trades say, and every
book is verified.
"""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
from tests.campaigns.base import Outcome

from tapeworks._core import Ingest, TapeReader, dtype_descr, numbers
from tapeworks.processors.derive import Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.tape import TapeConfig

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MESSAGES = 1_500
TEXT, REST = 1, 3
REST_CONNECTION = 65_535
TRADE, QUOTE, LEVEL, BAR, MARKER, DEFINITION = 1, 2, 3, 5, 8, 9
KINDS = {"trade": TRADE, "quote": QUOTE, "level": LEVEL, "bar": BAR, "marker": MARKER,
         "definition": DEFINITION}  # fmt: skip
GAP = numbers("marker_code")["gap"]
DISCONNECT, OPEN = numbers("gap_cause")["disconnect"], numbers("gap_state")["open"]
TRADE_CHANNEL, DEPTH = 1, 4
SECOND_MS, YEAR_MS = 1_000, 31_536_000_000
# Events are spread over thirty seconds, so that many bars are closed: the newest of them is recent.
EVENTS_BEHIND_MS, MESSAGE_MS = 40_000, 20
TRADE_SIZE, SECOND_NS = 2 * 10**8, 10**9
ABSURD_IDS = ((1 << 62), (1 << 63) - 1, (1 << 62) + 12_345, 1 << 50)
AHEAD_MS = 59_000
ABSURD_TIMES_MS = (AHEAD_MS, 3_600_000, YEAR_MS, 174 * YEAR_MS, -2 * YEAR_MS, -40 * YEAR_MS)


class Market:
    """One symbol: its ids, and what was honestly sent of it."""

    def __init__(self, symbol: str, chance: random.Random) -> None:
        self.symbol = symbol
        self.chance = chance
        self.trade, self.quote, self.update = (chance.randrange(1_000, 1 << 34) for _ in range(3))
        self.trades: list[int] = []
        self.volumes: Counter[int] = Counter()
        self.quotes: list[int] = []
        self.updates: list[int] = []
        self.last_trade = b""

    def next_trade(self, ms: int) -> bytes:
        """Returns the next trade."""
        self.trade += 1
        self.trades.append(self.trade)
        self.volumes[ms // SECOND_MS] += TRADE_SIZE
        self.last_trade = self.trade_of(self.trade, ms, f"{self.chance.randint(1, 900)}.5")
        return self.last_trade

    def next_quote(self) -> bytes:
        """Returns the next quote."""
        self.quote += self.chance.randint(1, 60)
        self.quotes.append(self.quote)
        return self.quote_of(self.quote)

    def next_update(self, ms: int) -> bytes:
        """Returns the next change of the book."""
        first = self.update + 1
        self.update += self.chance.randint(1, 30)
        self.updates.append(self.update)
        return self.update_of(first, self.update, ms)

    def trade_of(self, number: int, ms: int, price: str) -> bytes:
        """Returns a trade."""
        data = {"e": "trade", "E": ms, "s": self.symbol, "t": number, "p": price, "q": "2",
                "T": ms, "m": True, "M": True}  # fmt: skip
        return self.framed("trade", data)

    def quote_of(self, number: int) -> bytes:
        """Returns a quote."""
        data = {"u": number, "s": self.symbol, "b": "1", "B": "1", "a": "2", "A": "2"}
        return self.framed("bookTicker", data)

    def update_of(self, first: int, last: int, ms: int) -> bytes:
        """Returns a change of the book."""
        bid = [f"{self.chance.randint(100, 200)}", "2"]
        data = {"e": "depthUpdate", "E": ms, "s": self.symbol, "U": first, "u": last, "b": [bid],
                "a": []}  # fmt: skip
        return self.framed("depth", data)

    def snapshot_of(self, number: int) -> bytes:
        """Returns a snapshot of the book."""
        book = {"lastUpdateId": number, "bids": [["1", "2"]], "asks": [["300", "2"]]}
        return json.dumps(book, separators=(",", ":")).encode()

    def framed(self, stream: str, data: dict[str, object]) -> bytes:
        """Returns the text of a frame."""
        frame = {"stream": f"{self.symbol.lower()}@{stream}", "data": data}
        return json.dumps(frame, separators=(",", ":")).encode()

    def poison(self, ms: int) -> tuple[str, int, bytes]:
        """Returns what kind of bad message it is, its blob kind, and its bytes."""
        kind = self.chance.choice(
            ("quote", "trade", "time", "depth", "deptime", "ahead", "snap", "differ")
        )
        number = self.chance.choice(ABSURD_IDS)
        late = ms + self.chance.choice(ABSURD_TIMES_MS)
        body = {
            "quote": lambda: self.quote_of(number),
            "trade": lambda: self.trade_of(number, self.chance.choice((ms, late)), "7"),
            "time": lambda: self.trade_of(self.trade + 1, late, "7"),
            "depth": lambda: self.update_of(number, number, self.chance.choice((ms, late))),
            "deptime": lambda: self.update_of(self.update + 1, self.update + 1, late),
            "ahead": lambda: self.update_of(self.update + 1, self.update + 50_000, ms + AHEAD_MS),
            "snap": lambda: self.snapshot_of(number),
            "differ": lambda: self.last_trade.replace(b'"q":"2"', b'"q":"3"'),
        }[kind]()
        return kind, REST if kind == "snap" else TEXT, body


class Scene:
    """The recorder's inner end and the markets before it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.markets = [Market(symbol, self.chance) for symbol in SYMBOLS]
        self.lines = self.chance.choice((1, 1, 2))
        self.poisons: Counter[bytes] = Counter()
        self.kinds: Counter[str] = Counter()
        self.restarts_ns: list[int] = []
        self.ingest = self.opened()
        self.began_ms = self.ingest.now() // 1_000_000 - EVENTS_BEHIND_MS

    def opened(self) -> Ingest:
        """Returns an ingest on whose lines everything comes."""
        ingest = Ingest(self.folder, "x", "binance-spot", durability_ms=-1)
        for line in range(self.lines):
            ingest.connected(line, 0, ingest.now())
        return ingest

    def put(self, line: int, kind: int, body: bytes, symbol: str = "") -> None:
        """Gives the ingest one frame."""
        context = f"/api/v3/depth?symbol={symbol}&limit=5000".encode() if kind == REST else None
        connection = REST_CONNECTION if kind == REST else line
        self.ingest.receive(connection, kind, self.ingest.now(), body, context)
        if self.chance.random() < 0.5:
            self.ingest.flush()

    def restart(self, ms: int) -> None:
        """Stops in good order, or as if killed, and begins anew."""
        self.restarts_ns.append(ms * 1_000_000)
        if self.chance.random() < 0.5:
            self.ingest.end_session(self.ingest.now())
        self.ingest.flush()
        self.ingest.close()
        self.ingest = self.opened()

    def honest(self, market: Market, ms: int) -> None:
        """Sends one honest message, on every line."""
        body = self.chance.choice(
            (lambda: market.next_trade(ms), market.next_quote, lambda: market.next_update(ms))
        )()
        for line in self.chance.sample(range(self.lines), self.lines):
            self.put(line, TEXT, body)

    def bad(self, market: Market, ms: int) -> None:
        """Sends one bad message, on one line."""
        kind, blob, body = market.poison(ms)
        if self.poisons[body]:
            return
        self.poisons[body] += 1
        self.kinds[kind] += 1
        self.put(self.chance.randrange(self.lines), blob, body, market.symbol)

    def play(self) -> None:
        """Sends everything, and a snapshot of each book now and in the end."""
        for count in range(MESSAGES):
            market = self.chance.choice(self.markets)
            ms = self.began_ms + count * MESSAGE_MS
            known = market.trades and market.quotes and market.updates
            if known and self.chance.random() < 0.1:
                self.bad(market, ms)
            elif known and self.chance.random() < 0.003:
                self.restart(ms)
            else:
                self.honest(market, ms)
            if count % 200 == 199:
                self.ask()
        for _ in range(3):
            for market in self.markets:
                ms = self.began_ms + MESSAGES * MESSAGE_MS
                for body in (market.next_trade(ms), market.next_quote(), market.next_update(ms)):
                    for line in range(self.lines):
                        self.put(line, TEXT, body)
            self.ask()

    def ask(self) -> None:
        """Gives a snapshot to each book that waits for one."""
        self.ingest.flush()
        for market in self.markets:
            if market.symbol in self.ingest.needs_snapshot():
                body = market.snapshot_of(market.update)
                self.put(0, REST, body, market.symbol)
        self.ingest.flush()


def rows_of(tape: Path) -> list[np.void]:
    """Returns all records of a tape, each as a row of its own kind."""
    types = {number: np.dtype(dtype_descr(kind)) for kind, number in KINDS.items()}
    rows, reader = [], TapeReader(tape)
    while (batch := reader.read(10_000)) is not None:
        content, at = bytes(batch), 0
        while at < len(content):
            length = content[at] * 8
            if (dtype := types.get(content[at + 1])) is not None:
                rows.append(np.frombuffer(content, dtype, 1, at)[0])
            at += length
    return rows


def is_of_restart(row: np.void, restarts_ns: list[int]) -> bool:
    """Whether a gap is that of a restart: it begins before one, and ends after it, if at all."""
    first, last = int(row["ts_start"]), int(row["ts_event"])
    during = [ts for ts in restarts_ns if first <= ts and (row["state"] == OPEN or ts <= last)]
    return row["cause"] == DISCONNECT and bool(during)


def check(scene: Scene, outcome: Outcome) -> None:
    """Compares what is stored with what was sent."""
    tapes = scene.folder / "tape" / "x"
    rows = rows_of(tapes / "market-data.normalized")
    numbers = {
        bytes(row["symbol"]).rstrip(b"\0").decode(): int(row["instrument"])
        for row in rows
        if row["kind"] == DEFINITION
    }
    for market in scene.markets:
        number = numbers[market.symbol]
        mine = [row for row in rows if int(row["instrument"]) == number]
        for kind, wanted in ((TRADE, market.trades), (QUOTE, market.quotes)):
            found = [int(row["sequence"]) for row in mine if int(row["kind"]) == kind]
            lost, more = set(wanted) - set(found), Counter(found) - Counter(wanted)
            outcome.expect(not lost, f"{market.symbol} kind {kind}: lost {sorted(lost)[:5]}")
            outcome.expect(not more, f"{market.symbol} kind {kind}: too many {more.most_common(5)}")
        levels = {int(r["sequence"]) for r in mine if r["kind"] == LEVEL and r["channel"] == DEPTH}
        outcome.expect(levels == set(market.updates), f"{market.symbol}: other updates")
        state = scene.ingest.book_state(market.symbol)
        outcome.expect(state == "continuous", f"{market.symbol}: the book is {state}")
        bars: dict[int, int] = {}
        for row in rows_of(tapes / "market-data.bars"):
            if int(row["instrument"]) == number and int(row["interval_ms"]) == SECOND_MS:
                bars[int(row["ts_event"]) // SECOND_NS] = int(row["volume"])
        # The last window may still be open.
        newest = max(market.volumes)
        differ = {
            second: (bars.get(second), market.volumes[second])
            for second in bars.keys() | market.volumes.keys()
            if bars.get(second) != market.volumes[second] and (second in bars or second != newest)
        }
        outcome.figures["bars"] += len(bars)
        outcome.expect(not differ, f"{market.symbol}: bars and trades differ: {differ}")
    losses = [
        row for row in rows
        if row["kind"] == MARKER and row["code"] == GAP and row["channel"] in (TRADE_CHANNEL, DEPTH)
    ]  # fmt: skip
    # Nobody can know that nothing came while no connection was there.
    is_loss = [row for row in losses if not is_of_restart(row, scene.restarts_ns)]
    outcome.expect(not is_loss, f"losses that were none: {is_loss[:3]}")
    letters: Counter[bytes] = Counter()
    reader = TapeReader(tapes / "market-data.dead")
    while (blobs := reader.read_blobs(1_000)) is not None:
        letters.update(bytes(blob.body) for blob in blobs)
    lost = scene.poisons - letters
    outcome.expect(not lost, f"bad messages that are no dead letters: {list(lost)[:3]}")
    outcome.expect(not letters - scene.poisons, f"good ones that are: {letters - scene.poisons}")


def run(seed: int, folder: Path) -> Outcome:
    """Runs the campaign once."""
    outcome = Outcome()
    scene = Scene(seed, folder)
    scene.play()
    derivation = Derivation(ProcessorsConfig(), TapeConfig("never"), folder, "x")
    outcome.expect(derivation.drain(), "not all was derived")
    derivation.close()
    check(scene, outcome)
    scene.ingest.close()
    outcome.figures.update({"messages": MESSAGES, "bad": sum(scene.poisons.values())})
    return outcome
