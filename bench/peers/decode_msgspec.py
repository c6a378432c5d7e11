"""Binance frames to records with msgspec, written by hand. Argument 2: `exact` or `float`."""

import json
import sys
import time

import msgspec


class Envelope(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class Ticker(msgspec.Struct):
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class Trade(msgspec.Struct):
    E: int
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


class AggTrade(msgspec.Struct):
    E: int
    s: str
    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741
    T: int
    m: bool


class Depth(msgspec.Struct):
    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


def exact_price(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def exact_size(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 100_000_000 + int(fraction.ljust(8, "0"))


def main() -> None:
    path, mode = sys.argv[1:3]
    price, size = (exact_price, exact_size) if mode == "exact" else (float, float)
    with open(path, "rb") as file:
        frames = file.read().splitlines()
    envelope = msgspec.json.Decoder(Envelope).decode
    decoders = {
        "bookTicker": msgspec.json.Decoder(Ticker).decode,
        "trade": msgspec.json.Decoder(Trade).decode,
        "aggTrade": msgspec.json.Decoder(AggTrade).decode,
        "depth": msgspec.json.Decoder(Depth).decode,
    }
    started, records = time.process_time(), 0
    for frame in frames:
        outer = envelope(frame)
        channel = outer.stream.split("@")[1]
        d = decoders[channel](outer.data)
        if channel == "bookTicker":
            out = (d.s, d.u, price(d.b), size(d.B), price(d.a), size(d.A))
            records += 1
        elif channel == "trade":
            out = (d.s, d.t, d.T * 1_000_000, price(d.p), size(d.q), d.m)
            records += 1
        elif channel == "aggTrade":
            out = (d.s, d.a, d.f, d.l, d.T * 1_000_000, price(d.p), size(d.q), d.m)
            records += 1
        else:
            out = [(d.s, d.U, d.u, 1, price(p), size(q)) for p, q in d.b]
            out += [(d.s, d.U, d.u, 2, price(p), size(q)) for p, q in d.a]
            records += len(out)
    took = time.process_time() - started
    print(json.dumps({"value": len(frames) / took, "records": records}))


main()
