"""Runs a benchmark of the core (crates/core/benches) and turns its lines into figures.

Sketch: what is measured stands at the head of each Rust file. `scripts/bench` has built them.
"""

import json
import os
import re
import subprocess
import sys

EVENTS = (r"straight: .* ([\d.]+) M records/s", 1e6)
# Bench -> figure -> the line that holds it, its number in the first group, and a factor.
LINES = {
    "decode": {"value": (r"straight: +([\d.]+) M messages/s", 1e6)},
    "massive": {"value": EVENTS},
    "alpaca": {"value": EVENTS},
    "orders": {"update_ns": (r"L3 update: ([\d.]+) ns", 1)},
    "itch": {
        "decode": (r"ITCH of .*: ([\d.]+) M messages/s to records", 1e6),
        "with_books": (r"([\d.]+) M messages/s with books", 1e6),
        "event_ns": (r"; ([\d.]+) ns an event of a book", 1),
        "order_bytes": (r"orders at rest: (\d+) bytes each in books", 1),
        "decoder_bytes": (r"bytes each in books, (\d+) in the decoder", 1),
    },
    "protobuf": {
        "encode": (r"trade encode: +([\d.]+) M messages/s", 1e6),
        "decode": (r"trade decode: +([\d.]+) M messages/s", 1e6),
    },
    "book": {
        "update_ns": (r"book update, 5000 levels: ([\d.]+) ns", 1),
        "top10_ns": (r"book top 10 of both sides, 5000 levels: ([\d.]+) ns", 1),
    },
    "past": {
        "p50_ms": (r"book at an instant of .*: p50 ([\d.]+) ms", 1),
        "p99_ms": (r"book at an instant of .*, p99 ([\d.]+) ms \(CPU", 1),
        "cpu_ms": (r"\(CPU ([\d.]+) and", 1),
        "first_ms": (r"first question ([\d.]+) ms", 1),
    },
    "tape": {
        "append": (r"durable never: .*\n.* appending thread: ([\d.]+) M records/s", 1e6),
        "append_all": (r"durable never: .*\n.*\n.* all threads: ([\d.]+) M records/s", 1e6),
        "append_of_file": (r"beside a plain file .*: ([\d.]+) x", 1),
        "single": (r"one by one, .*\n.* appending thread: ([\d.]+) M records/s", 1e6),
        "scan": (r"scan, checksums verified, best of 5: ([\d.]+) M records/s", 1e6),
        "hand_over_ns": (r"hand-over .*: p50 ([\d.]+) ns", 1),
        "hand_over_p99_ns": (r"hand-over .*, p99 ([\d.]+) ns", 1),
    },
}
LEVELS_OF_A_DAY = MESSAGES_OF_A_SESSION = 50_000_000
# Which bench has the figures, where its name is another.
BENCHES = {"past": "book", "massive": "decode", "alpaca": "decode", "itch": "orders"}
OF_FRAMES = ("decode", "massive", "alpaca")


def session_messages(name: str, scale: float) -> int:
    """Returns the length of the session of ITCH: one that fills the market up, or none at all."""
    return max(2_000_000, int(MESSAGES_OF_A_SESSION * scale)) if name == "itch" else 0


def main() -> None:
    # The folder of the workload; for those of frames the file itself.
    name, folder, scale = sys.argv[1], sys.argv[2], float(sys.argv[3])
    levels = max(200_000, int(LEVELS_OF_A_DAY * scale)) if name == "past" else 200_000
    environment = os.environ | {
        "PEERS_DATA": folder,
        "TMPDIR": os.path.dirname(folder) if name in OF_FRAMES else folder,
        "BENCH_SCALE": str(scale),
        "BOOK_HISTORY_LEVELS": str(levels),
        "ITCH_MESSAGES": str(session_messages(name, scale)),
        "TAPEWORKS_FRAMES": folder,
    }
    command = ["cargo", "bench", "-q", "-p", "tapeworks-core", "--bench", BENCHES.get(name, name)]
    if name in ("massive", "alpaca"):
        command += ["--", folder, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures = {}
    for figure, (pattern, factor) in LINES[name].items():
        found = re.search(pattern, done.stdout)
        if found is None:
            sys.exit(f"expected a line like {pattern!r}, got:\n{done.stdout}")
        figures[figure] = float(found[1]) * factor
    print(json.dumps(figures))


main()
