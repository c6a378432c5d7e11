"""Appends 64-byte records in batches of 1000. Argument 2: `memmap` or `file`.

None of them checksums or indexes: they are the floor, not the same service.
"""

import json
import mmap
import os
import sys
import time

BATCH, ROUNDS = 64 * 1000, 5000


def by_memmap(path: str, payload: bytes) -> None:
    with open(path, "w+b") as file:
        file.truncate(BATCH * ROUNDS)
        with mmap.mmap(file.fileno(), 0) as mapped:
            for i in range(ROUNDS):
                mapped[i * BATCH : (i + 1) * BATCH] = payload


def by_file(path: str, payload: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(ROUNDS):
            file.write(payload)


def main() -> None:
    path, peer = sys.argv[1:3]
    payload = os.urandom(BATCH)
    started = time.process_time()
    {"memmap": by_memmap, "file": by_file}[peer](path, payload)
    took = time.process_time() - started
    os.unlink(path)
    print(json.dumps({"append": ROUNDS * 1000 / took}))


main()
