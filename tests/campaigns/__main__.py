"""Runs campaigns: `scripts/campaign NAME... --runs N --seed S`; with no name, lists them."""

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from tests.campaigns.base import AT_ONCE, RUN_S_MAX, names, run_once, summary


def main() -> int:
    """Runs what the command line names; returns 1 if any run had a complaint."""
    parser = argparse.ArgumentParser(
        prog="scripts/campaign", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", help="which campaigns, or `all`; none lists them")
    parser.add_argument("--runs", type=int, default=10, help="runs of each (10)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help=f"in parallel ({AT_ONCE})")
    arguments = parser.parse_args()
    chosen = names() if arguments.names == ["all"] else arguments.names
    unknown = sorted(set(chosen) - set(names()))
    if unknown or not chosen:
        for name in names():
            print(f"{name:<20} {summary(name)}")
        if unknown:
            parser.error(f"unknown campaign: {', '.join(unknown)}")
        return 0
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    jobs = [(name, seed) for seed in seeds for name in chosen]
    figures: dict[str, Counter[str]] = {name: Counter() for name in chosen}
    bad: Counter[str] = Counter()
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(arguments.at_once, len(jobs)), maxtasksperchild=10) as pool:
        results = pool.imap_unordered(run_once, jobs)
        for _ in jobs:
            try:
                # A process that no signal wakes, or that was killed, never answers.
                name, seed, outcome = results.next(timeout=RUN_S_MAX + 60)
            except multiprocessing.TimeoutError:
                print(f"no run of {', '.join(chosen)} ended within {RUN_S_MAX + 60} s: one hangs")
                return 1
            figures[name]["runs"] += 1
            figures[name].update(outcome.figures)
            if outcome.complaints:
                bad[name] += 1
                print(f"{name}, seed {seed}:", *outcome.complaints, sep="\n  ", flush=True)
    for name in chosen:
        told = ", ".join(f"{value:,} {key}" for key, value in figures[name].items())
        print(f"{name}: {told}; {bad[name]} runs with a complaint")
    print(f"{len(jobs)} runs from seed {seeds[0]}, {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
