"""Binance frames to records through the Python binding, which also splits the lines."""

import json
import sys
import time

from tapeworks._core import Decoder


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        frames = file.read()
    decoder = Decoder("binance-spot")
    decoder.decode_lines(frames, 1)
    rounds, started = 5, time.process_time()
    for _ in range(rounds):
        count, records, failed = decoder.decode_lines(frames, 1)
    took = time.process_time() - started
    assert failed == 0, f"{failed} frames were not decoded"
    print(json.dumps({"value": rounds * count / took, "records": records}))


main()
