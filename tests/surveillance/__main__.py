"""Prints the score of each rule on a labelled stream; ends with 1 where an episode is missed."""

import sys
from pathlib import Path

from tests.surveillance.score import (
    alerts_of,
    definition,
    orders_of,
    read_episodes,
    rules_text,
    score,
)


def main(events: Path, episodes: Path) -> int:
    """Reads both files and prints a line a rule."""
    orders = orders_of(events)
    alerts = alerts_of([definition().tobytes(), orders.tobytes()], rules_text())
    duration = int(orders["ts_event"][-1] - orders["ts_event"][0])
    scores = score(alerts, read_episodes(episodes), duration)
    print(f"{'rule':24}{'hits':>6}{'misses':>8}{'false':>8}{'false/h':>9}")
    for one in scores:
        print(
            f"{one.kind:24}{one.hits:6}{one.misses:8}{one.false_alerts:8}{one.false_per_hour:9.1f}"
        )
    return int(any(one.misses for one in scores))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: scripts/surveil EVENTS.csv.gz EPISODES.csv")
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
