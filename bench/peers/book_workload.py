"""The L2 workload that every peer of the book benchmark applies.

Sketch: 24 bytes an update x 1 M updates = 24 MB, read once and turned into the peer's own
arguments before the clock starts.
"""

import json
import sys
from collections.abc import Callable

import numpy as np

LEVEL = np.dtype(
    [
        ("msg", "<u4"),
        ("side", "u1"),
        ("snap", "u1"),
        ("pad", "<u2"),
        ("px", "<i8"),
        ("qty", "<i8"),
    ]
)


def measure(peer: Callable[[np.ndarray, int], tuple[float, float | None]]) -> None:
    """Prints ns an update and ns a read of ten levels of both sides, as one line of JSON."""
    rows = np.fromfile(sys.argv[1], LEVEL)
    update_ns, top_ns = peer(rows, int(rows["snap"].sum()))
    print(json.dumps({"update_ns": update_ns, "top10_ns": top_ns}))
