"""Appends to a tape with checksum and index, then scans it with the checksum checked.

Sketch: 64 bytes a record in batches of 1000 is 64 kB a frame; 5 M records are 320 MB, which the
page cache takes in. Nothing is synchronised in the measured part, as in the peers.
"""

import json
import os
import shutil
import sys
import time

from tapeworks._core import Records, TapeReader, TapeWriter

BATCH, ROUNDS = 1000, 5000


def main() -> None:
    path, scale = sys.argv[1], float(sys.argv[2])
    rounds = max(10, int(ROUNDS * scale))
    one = bytearray(os.urandom(64))
    one[0:4] = bytes([8, 2, 1, 1])
    batch = Records.from_bytes(bytes(one) * BATCH)
    with TapeWriter(path, durability="never") as writer:
        started = time.process_time()
        for _ in range(rounds):
            writer.append(batch, ts=1_717_761_600_000_000_000)
        append = rounds * BATCH / (time.process_time() - started)
    reader, count = TapeReader(path), 0
    started = time.process_time()
    while (records := reader.read(65_536)) is not None:
        count += len(records)
    scan = count / (time.process_time() - started)
    assert count == rounds * BATCH
    shutil.rmtree(path)
    print(json.dumps({"append": append, "scan_python": scan}))


main()
