"""What a person waits for at a prompt: whole processes from start to end, wall clock.

Sketch: Python itself takes 10 ms, NumPy, PyArrow and DuckDB 100 ms of import between them, and the
answer from a small folder a few milliseconds. What is above that is modules that nobody needed.

Each figure is the least of ten processes in turns: a start does not get faster than it is, and what
disturbs one of them is no matter of start-up.
"""

import json
import subprocess
import sys
import time

ROUNDS = 10
START = "from tapeworks.cli import main; main()"


def main() -> None:
    python, data = sys.executable, sys.argv[1]
    query = [python, "-c", START, "query", "--data", data]
    commands = {
        "import_ms": [python, "-c", "import tapeworks"],
        "help_ms": [python, "-c", START, "--help"],
        "select_ms": [*query, "select 1"],
        "count_ms": [*query, "select count(*) from trades"],
    }
    figures: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            took = (time.perf_counter() - began) * 1e3
            figures[name] = min(took, figures.get(name, took))
    print(json.dumps(figures))


main()
