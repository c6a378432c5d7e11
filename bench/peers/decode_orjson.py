"""Binance frames to records with orjson, exact integers, written by hand."""

import json
import sys
import time

import orjson


def exact(text: str, places: int) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(places, "0"))


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        frames = file.read().splitlines()
    loads = orjson.loads
    started, records = time.process_time(), 0
    for frame in frames:
        d = loads(frame)["data"]
        event = d.get("e")
        if event is None:
            out = (
                d["s"],
                d["u"],
                exact(d["b"], 9),
                exact(d["B"], 8),
                exact(d["a"], 9),
                exact(d["A"], 8),
            )
            records += 1
        elif event == "depthUpdate":
            out = [(d["s"], d["u"], 1, exact(p, 9), exact(q, 8)) for p, q in d["b"]]
            out += [(d["s"], d["u"], 2, exact(p, 9), exact(q, 8)) for p, q in d["a"]]
            records += len(out)
        else:
            out = (d["s"], d["T"] * 1_000_000, exact(d["p"], 9), exact(d["q"], 8), d["m"])
            records += 1
    took = time.process_time() - started
    print(json.dumps({"value": len(frames) / took, "records": records}))


main()
