"""A SortedDict a side, the usual pure Python book."""

import time

import numpy as np
from book_workload import measure
from sortedcontainers import SortedDict


def run(rows: np.ndarray, n_snapshot: int) -> tuple[float, float | None]:
    sides = (SortedDict(), SortedDict())
    changes = list(
        zip(rows["side"].tolist(), rows["px"].tolist(), rows["qty"].tolist(), strict=True)
    )

    def apply(part: list[tuple[int, int, int]]) -> None:
        for side, price, size in part:
            if size:
                sides[side][price] = size
            else:
                sides[side].pop(price, None)

    apply(changes[:n_snapshot])
    started = time.process_time()
    apply(changes[n_snapshot:])
    update = (time.process_time() - started) / (len(changes) - n_snapshot)
    started = time.process_time()
    for _ in range(20000):
        list(sides[0].islice(len(sides[0]) - 10))
        list(sides[1].islice(0, 10))
    return update * 1e9, (time.process_time() - started) / 20000 * 1e9


measure(run)
