"""The decoder of Binance against a slow, obvious one, over messages in every form JSON allows."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import slow_binance
from tapeworks import _core
from tapeworks.errors import DecodeError

TS_RECV = 1_770_000_005_000_000_000
# Faults of the JSON itself: `json` does not tell them apart.
JSON_REASONS = {"not_json", "truncated", "trailing_bytes"}
FEEDS = {"binance-spot": slow_binance.SPOT, "binance-usdm": slow_binance.USDM}
STREAMS = ["btcusdt@depth@100ms", "btcusdt@depth20@100ms", "这@rpiDepth@500ms", "a@trade", "", "x"]
DECIMALS = [
    "0", "0.00000000", "67000.01000000", "1", "-1.5", "12345678.12345678", "123456789.1", "-0",
    "0.000000001", "0.0000000001", "1e3", "1.5E-4", "25e-1", "0e99", "1e999999", "1e-999999",
    "9223372036.854775806", "9223372036.854775807", "92233720368.54775807", "00012.50", "1.",
    ".5", "", "x", "1,5", " 1", "1 ", "+1", "NaN", "1" + "0" * 60, "0." + "0" * 60 + "1",
    "3." + "0" * 200, "0" * 100 + "7", "1" * 17, "99999999.99999999", "100000000.00000001",
]  # fmt: skip
INTEGERS = [
    "0", "1", "160", "1770000000123", "1770000000123456", "90000000001", "99999999", "100000000",
    "9999999999999999", "10000000000000000", "9223372036854775806", "9223372036854775807",
    "9223372036854775808", "1" + "0" * 40, "-1", "-0", "1e3", "1.5", "1.0", "999999999999999",
    "1000000000000000", "9223372036854", "9223372036855", "5E-1",
]  # fmt: skip
KINDS = [
    "trade", "trade", "aggTrade", "bookTicker", "depthUpdate", "depthUpdate", "depthUpdate",
    "kline", "24hrTicker", "markPriceUpdate", "partial", "control", "serverShutdown", "unknown",
]  # fmt: skip
SYMBOLS = ["BTCUSDT", "ETHBTC", "1000SATSUSDT", "这是测试币456", "", "A B", "X" * 48, "X" * 49]
SYMBOLS += ['QUO"TE', "BACK\\SLASH", "\x00", "é", "\ud800", "ABCDEFGHIJKLMNOPQRST"]
JUNK_KEYS = ["ps", "st", "M", "zz", "nq", "\ud800", 'k"', "键", "e ", "", "aa", "X"]


class Written(str):
    """A number that stands in the JSON without quotes."""


class Writer:
    """Writes a message in one of the forms that JSON allows, by chance."""

    def __init__(self, chance: random.Random, plain: bool) -> None:
        self.chance = chance
        self.plain = plain

    def one_in(self, count: int) -> bool:
        return self.chance.randrange(count) == 0

    def decimal(self) -> Any:
        if self.one_in(12):
            return self.odd(DECIMALS)
        whole = str(self.chance.randrange(10 ** self.chance.randrange(1, 10)))
        digits = self.chance.choice([0, 1, 2, 3, 8, 8, 8, 8])
        fraction = "".join(self.chance.choice("0123456789") for _ in range(digits))
        return whole + "." * bool(digits) + fraction

    def integer(self) -> Any:
        if self.one_in(12):
            return self.odd(INTEGERS, bare=True)
        return Written(self.chance.randrange(10 ** self.chance.randrange(1, 15)))

    def time(self) -> Any:
        if self.one_in(12):
            return self.odd(INTEGERS, bare=True)
        unit = self.chance.choice([1, 1_000])
        return Written((1_770_000_000_000 + self.chance.randrange(10**9)) * unit)

    def odd(self, values: list[str], bare: bool = False) -> Any:
        value = self.chance.choice(values)
        is_json = slow_binance.NUMBER.fullmatch(value) and not value.lstrip("-").startswith("00")
        return Written(value) if is_json and bare != self.one_in(4) else value

    def flag(self) -> Any:
        return self.chance.choice([True, False])

    def symbol(self) -> str:
        return self.chance.choice(SYMBOLS if self.one_in(6) else SYMBOLS[:4])

    def levels(self) -> Any:
        rows: list[Any] = []
        for _ in range(self.chance.choice([0, 1, 1, 2, 5, 30])):
            row: list[Any] = [self.decimal(), self.decimal()]
            if self.one_in(40):
                row = self.chance.choice([[], row[:1], [*row, []], [*row, "x"], "ab", None])
            rows.append(row)
        return rows

    def junk(self, depth: int = 0) -> Any:
        pick = self.chance.randrange(8 if depth < 3 else 6)
        if pick == 6:
            return [self.junk(depth + 1) for _ in range(self.chance.randrange(4))]
        if pick == 7:
            return [
                (self.chance.choice(JUNK_KEYS), self.junk(depth + 1))
                for _ in range(self.chance.randrange(4))
            ] or {}
        return [None, True, 'te\\x"t\n', Written("-1.5e+7"), self.decimal(), "\udfff"][pick]

    def mutate(self, pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        chance = self.chance
        if self.plain:
            return pairs
        if self.one_in(3):
            chance.shuffle(pairs)
        if self.one_in(4):
            pairs.insert(chance.randrange(len(pairs) + 1), (chance.choice(JUNK_KEYS), self.junk()))
        if self.one_in(8):
            del pairs[chance.randrange(len(pairs))]
        if pairs and self.one_in(8):
            at = chance.randrange(len(pairs))
            pairs[at] = (pairs[at][0], self.junk())
        if pairs and self.one_in(6):
            # A key that comes twice: the last value counts.
            pairs.insert(chance.randrange(len(pairs) + 1), chance.choice(pairs))
        return pairs

    def space(self) -> str:
        return "" if self.plain or not self.one_in(6) else self.chance.choice([" ", "\n\t", "\r "])

    def text(self, value: str) -> str:
        out = []
        for letter in value:
            if letter in '"\\' and not self.one_in(3):
                out.append("\\" + letter)
            elif letter < " " or letter in '"\\' or "\ud800" <= letter <= "\udfff":
                out.append(f"\\u{ord(letter):04x}")
            elif not self.plain and self.one_in(30):
                units = letter.encode("utf-16-be").hex()
                out.extend(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
            else:
                out.append(letter)
        return '"' + "".join(out) + '"'

    def write(self, value: Any) -> str:
        gap = self.space
        if isinstance(value, Written):
            return gap() + value + gap()
        if isinstance(value, str):
            return gap() + self.text(value) + gap()
        if value is None or isinstance(value, bool):
            return gap() + {None: "null", True: "true", False: "false"}[value] + gap()
        if value == {} or (isinstance(value, list) and value and isinstance(value[0], tuple)):
            pairs = (f"{gap()}{self.text(key)}{gap()}:{self.write(item)}" for key, item in value)
            return gap() + "{" + (",".join(pairs) or gap()) + "}" + gap()
        return gap() + "[" + (",".join(map(self.write, value)) or gap()) + "]" + gap()

    def message(self) -> list[tuple[str, Any]]:
        d, i, t, s = self.decimal, self.integer, self.time, self.symbol
        kind = self.chance.choice(KINDS)
        futures = self.one_in(2)
        head = [("e", kind), ("E", t())]
        if kind == "trade":
            rest = [("s", s()), ("t", i()), ("p", d()), ("q", d()), ("T", t()), ("m", self.flag())]
            if futures:
                rest = [rest[4], *rest[:4], ("X", "MARKET"), rest[5]]
            return self.mutate(head + rest + [("M", True)] * (not futures))
        if kind == "aggTrade":
            first = self.chance.randrange(10**10)
            ids = [("f", Written(first)), ("l", Written(first + self.chance.choice([0, 3, -1])))]
            rest = [("s", s()), ("a", i())]
            rest = [*(rest[::-1] if futures else rest), ("p", d()), ("q", d()), *ids]
            tail = [("T", t()), ("m", self.flag())] + [("M", True)] * (not futures)
            return self.mutate(head + rest + tail)
        if kind == "bookTicker":
            rest = [("u", i()), ("s", s()), ("b", d()), ("B", d()), ("a", d()), ("A", d())]
            if futures:
                rest = [head[0], *rest, ("T", t()), ("E", t())]
            return self.mutate(rest)
        if kind == "depthUpdate":
            first = self.chance.randrange(10**12)
            last = Written(first + self.chance.choice([0, 1, 50, -1, 2**32]))
            ids = [("U", Written(first)), ("u", last)]
            rest = [("s", s()), *ids, ("b", self.levels()), ("a", self.levels())]
            if futures:
                rest = [("T", t()), *rest[:3], ("pu", i()), *rest[3:]]
            return self.mutate(head + rest)
        return self.mutate(self.rarer(kind, head))

    def rarer(self, kind: str, head: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        d, i, t = self.decimal, self.integer, self.time
        names = {"kline": "o c h l v q V Q", "24hrTicker": "p w c o h l v q"}
        values: list[tuple[str, Any]] = [(key, d()) for key in names.get(kind, "").split()]
        if kind == "kline":
            interval = self.chance.choice(["1m", "1s", "3d", "1w", "1M", "x", "", "0m", "999w"])
            values += [("t", t()), ("T", t()), ("i", interval), ("L", i()), ("n", i())]
            values += [("x", self.flag())]
            return [*head, ("s", self.symbol()), ("k", self.mutate(values))]
        if kind == "24hrTicker":
            return [*head, ("s", self.symbol()), *values, ("O", t()), ("L", i()), ("n", i())]
        if kind == "markPriceUpdate":
            rate = self.chance.choice(["", None, d()])
            values = [("p", d()), ("i", d()), ("r", rate), ("T", self.chance.choice([t(), ""]))]
            return [*head, ("s", self.symbol()), *values]
        if kind == "partial":
            sides = [("bids", self.levels()), ("asks", self.levels())]
            return [("lastUpdateId", i()), *sides]
        if kind == "control":
            error = [("code", Written("2")), ("msg", "Invalid request")]
            forms = [[("result", None)], [("error", error)], error, [("event", head)]]
            return [*self.chance.choice(forms), ("id", Written("1"))]
        return head

    def frame(self) -> tuple[str, str]:
        """The stream that a frame came on, and its text."""
        stream = self.chance.choice(STREAMS[:1] if self.plain else STREAMS)
        payload: Any = self.message()
        if self.one_in(10):
            payload = [payload, self.message()]
        if self.one_in(2):
            return stream, self.write(payload)
        return "", self.write(self.mutate([("stream", stream), ("data", payload)]))


def compare(feed: str, frames: list[tuple[str, bytes]]) -> None:
    """Decodes the frames by both decoders, one after the other, and compares all they say."""
    fast = _core.Decoder(feed)
    slow = slow_binance.SlowDecoder(FEEDS[feed])
    for stream, body in frames:
        try:
            wanted: bytes | str = slow.decode(slow_binance.TEXT, stream, body, TS_RECV)
        except slow_binance.Refused as refusal:
            wanted = str(refusal)
        try:
            found: bytes | str = bytes(fast.receive(1, stream.encode(), body, TS_RECV))
        except DecodeError as error:
            found = "not_json" if error.reason in JSON_REASONS else error.reason
        assert found == wanted, (feed, stream, body)


@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    chance=st.randoms(use_true_random=False),
    feed=st.sampled_from(sorted(FEEDS)),
    plain=st.booleans(),
)
@pytest.mark.slow
def test_every_form_of_every_message_equals_the_slow_decoder(
    chance: random.Random, feed: str, plain: bool
) -> None:
    # The same frame twice: the second time its symbol is known, which opens the straight path.
    stream, text = Writer(chance, plain).frame()
    body = text.encode()
    compare(feed, [(stream, body), (stream, body)])


DAMAGED = given(
    chance=st.randoms(use_true_random=False),
    feed=st.sampled_from(sorted(FEEDS)),
    cut=st.floats(0, 1),
    put=st.binary(max_size=3),
    remove=st.integers(0, 3),
)


def compare_damaged(chance: random.Random, feed: str, cut: float, put: bytes, remove: int) -> None:
    """Compares both decoders on a frame of which bytes are taken out, and others put in."""
    stream, text = Writer(chance, plain=True).frame()
    body = text.encode()
    at = int(cut * len(body))
    compare(feed, [(stream, body), (stream, body[:at] + put + body[at + remove :])])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@DAMAGED
def test_damaged_frames_are_refused_alike(**parts: Any) -> None:
    # At any place: most make no JSON, some another message.
    compare_damaged(**parts)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@DAMAGED
def test_many_damaged_frames_are_refused_alike(**parts: Any) -> None:
    compare_damaged(**parts)


def test_lines_are_counted() -> None:
    # One trade, one line that is no JSON, and one control reply, with an empty line between.
    trade = b'{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"1","T":1770000000000,"m":true}'
    lines = b"\n".join([trade, b"{", b"", b'{"result":null,"id":1}', trade])
    decoder = _core.Decoder("binance-spot")
    assert decoder.decode_lines(lines, TS_RECV) == (4, 2, 1)
    assert decoder.symbols() == {"A": 1}
    assert len(decoder.definitions()) == 1


def test_error_names_reason_and_byte() -> None:
    with pytest.raises(DecodeError, match="price at byte 41") as caught:
        _core.decode(
            "binance-spot", 1, b"",
            b'{"e":"trade","E":1,"s":"A","t":1,"p":    "1e-10","q":"1","T":1,"m":true}', TS_RECV,
        )  # fmt: skip
    assert (caught.value.reason, caught.value.byte) == ("does_not_fit", 41)


def test_encoded_records_come_back_equal() -> None:
    frame = b'{"u":7,"s":"ETHBTC","b":"0.05","B":"1","a":"0.06","A":"2"}'
    decoder = _core.Decoder("binance-spot")
    records = decoder.receive(1, b"", frame, TS_RECV)
    for combined in (True, False):
        back = decoder.receive(1, b"", decoder.encode(records, combined), TS_RECV)
        assert bytes(back) == bytes(records)
    with pytest.raises(ValueError, match="not defined"):
        _core.encode("binance-spot", records)
