"""Asks all questions of a fresh recording, and says whether the answers agree.

Run from the repository: .venv/bin/python -m tests.research [NAME...]
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.research.base import Records
from tests.research.market import record
from tests.research.questions import QUESTIONS

import tapeworks as tw


def main() -> int:
    """Asks the questions that the command line names, or all; returns 1 if an answer is wrong."""
    names = {question.__name__ for question in QUESTIONS}
    if unknown := sorted(set(sys.argv[1:]) - names):
        print(f"expected names of {', '.join(sorted(names))}; got {', '.join(unknown)}")
        return 2
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        lake = tw.open(record(Path(folder)))
        records = Records(lake)
        for question in QUESTIONS:
            if sys.argv[1:] and question.__name__ not in sys.argv[1:]:
                continue
            began = time.perf_counter()
            found = question().check(lake, records)
            wrong += bool(found)
            took = (time.perf_counter() - began) * 1_000
            print(f"{'wrong' if found else 'ok':5}  {took:5.0f} ms  {question.text()}")
            print(*(f"       {line}" for line in found), sep="\n", end="\n" if found else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
