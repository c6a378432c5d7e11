"""Measures Tapeworks beside its peers, on the same files, in alternating rounds of one run.

Every contender is a command that prints one line of JSON with its figures. A job's rounds go
us, peer, peer, us, peer, peer: what disturbs the machine disturbs all. The table shows medians,
the spread, and our figure as a multiple of each peer's.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import market
import numpy as np
from job import Contender, Job, Ratio
from rich.console import Console
from rich.table import Table

from jobs import JOBS

HERE = Path(__file__).parent
ROOT = HERE.parent
WORKLOADS = ROOT.parent / "shared" / "bench"


@dataclass
class Figures:
    """All rounds of one contender: metric to values."""

    contender: Contender
    values: dict[str, list[float]] = field(default_factory=dict)
    failure: str = ""


def make_workload(folder: Path, smoke: bool) -> None:
    """Writes the frames and book updates that all contenders read."""
    if not WORKLOADS.is_dir():
        sys.exit(f"expected the workload generators in {WORKLOADS}: see bench/README.md")
    frames, updates = ("20000", "100000") if smoke else ("200000", "1000000")
    arrays = "5000" if smoke else "50000"
    environment = os.environ | {"PEERS_DATA": str(folder), "PEERS_RESULTS": str(folder)}
    for command in (
        ["gen_messages.py", "--binance", frames, "--polygon", arrays, "--alpaca", arrays],
        ["gen_book.py", "--updates", updates, "--l3", updates],
    ):
        command[0] = str(WORKLOADS / command[0])
        subprocess.run([sys.executable, *command], check=True, env=environment, capture_output=True)
    pack = [sys.executable, str(HERE / "pack.py")]
    pack += [str(folder / "alpaca.jsonl"), str(folder / "alpaca.msgpack")]
    subprocess.run(pack, check=True)
    np.save(folder / "trades.npy", market.trades(40_000 if smoke else 8_000_000))
    np.save(folder / "definitions.npy", market.definitions())
    with (folder / "binance.jsonl").open() as mix, (folder / "depth.jsonl").open("w") as depth:
        depth.writelines(line for line in mix if '"e":"depthUpdate"' in line)


def run_command(words: tuple[str, ...], variables: dict[str, str], seconds: int) -> str:
    """Returns what the command prints."""
    command = [word.format(**variables) for word in words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, cwd=HERE, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip() or "no output")[-400:])
    return done.stdout


def run_once(contender: Contender, variables: dict[str, str], seconds: int) -> dict[str, float]:
    """One round of one contender."""
    output = run_command(contender.command, variables, seconds)
    figures: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return figures


def run_job(job: Job, rounds: int, variables: dict[str, str], console: Console) -> list[Figures]:
    """All rounds of a job, contenders in turn."""
    results = [Figures(contender) for contender in job.contenders]
    rounds = min(rounds, job.rounds_max)
    if job.setup:
        with console.status(f"{job.name}: setting up"):
            run_command(job.setup, variables, job.seconds)
    for number in range(rounds):
        for result in results:
            if result.failure:
                continue
            label = f"{job.name}: round {number + 1} of {rounds}, {result.contender.name}"
            with console.status(label):
                try:
                    figures = run_once(result.contender, variables, job.seconds)
                except (RuntimeError, subprocess.TimeoutExpired, ValueError, OSError) as error:
                    result.failure = str(error).splitlines()[-1]
                    continue
            for metric, value in figures.items():
                if isinstance(value, (int, float)):
                    result.values.setdefault(metric, []).append(value)
    return results


def show(job: Job, results: list[Figures], console: Console) -> bool:
    """Prints the table of one job. Returns whether all of our targets were met."""
    table = Table(title=f"{job.name}: {job.about}", title_justify="left")
    for heading in ("metric", "who", "median", "min .. max", "us against it", "target"):
        table.add_column(heading, justify="left" if heading in ("metric", "who") else "right")
    met = True
    for metric in job.metrics:
        ours = next((r.values.get(metric.name) for r in results if r.contender.ours), None)
        for result in results:
            values = result.values.get(metric.name)
            if result.failure and metric is job.metrics[0]:
                table.add_row(metric.label, result.contender.name, "[red]failed", result.failure)
            if not values:
                continue
            median = statistics.median(values)
            ratio, verdict = "", ""
            if result.contender.ours and metric.target is not None:
                good = median >= metric.target if metric.higher else median <= metric.target
                met &= good
                sign = ">=" if metric.higher else "<="
                colour = "green" if good else "red"
                verdict = f"[{colour}]{sign} {metric.target:,.4g}"
            elif ours and not result.contender.ours:
                mine = statistics.median(ours)
                ratio = f"{mine / median if metric.higher else median / mine:,.1f} x"
            table.add_row(
                metric.label,
                result.contender.name,
                f"{median:,.4g} {metric.unit}",
                f"{min(values):,.4g} .. {max(values):,.4g}",
                ratio,
                verdict,
            )
    console.print(table)
    for ratio in job.ratios:
        met &= show_ratio(ratio, job, results, console)
    if any(r.failure and r.contender.ours for r in results):
        met = False
    return met


def show_ratio(ratio: Ratio, job: Job, results: list[Figures], console: Console) -> bool:
    """Prints whether ours is so many times as good. A peer that takes no part is no miss."""
    higher = next(metric.higher for metric in job.metrics if metric.name == ratio.metric)
    ours, theirs = (
        next((r.values.get(ratio.metric) for r in results if wanted(r.contender)), None)
        for wanted in (lambda c: c.ours, lambda c: c.name == ratio.peer)
    )
    wanted_text = f"  wanted: at least {ratio.least:g} x {ratio.peer}"
    if not ours or not theirs:
        console.print(f"{wanted_text}: not measured")
        return True
    # Round by round, so that what disturbed one round disturbed both sides of its ratio.
    pairs = list(zip(ours, theirs, strict=False))
    each = [mine / other if higher else other / mine for mine, other in pairs]
    median = statistics.median(each)
    good = median >= ratio.least
    verdict = "[green]met" if good else "[red]missed"
    console.print(f"{wanted_text}: {median:.2f} x ({min(each):.2f} .. {max(each):.2f}) {verdict}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("jobs", nargs="*", help=f"which of {', '.join(j.name for j in JOBS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contender (5)")
    parser.add_argument("--smoke", action="store_true", help="small, one round, ours only")
    parser.add_argument(
        "--scale", type=float, default=1, help="of tape, recorder, past and query (1: as promised)"
    )
    parser.add_argument("--peers", default=str(ROOT / ".venv-bench"), help="the peers' environment")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    chosen = [j for j in JOBS if not arguments.jobs or j.name in arguments.jobs]
    if arguments.smoke:
        chosen = [j.ours_only() for j in chosen]
    folder = Path(tempfile.mkdtemp(prefix="tapeworks-bench-"))
    variables = {
        "python": sys.executable,
        "peers": f"{arguments.peers}/bin/python",
        "data": str(folder),
        "scale": "0.002" if arguments.smoke else str(arguments.scale),
    }
    everything: dict[str, dict[str, dict[str, list[float]]]] = {}
    met = True
    try:
        with console.status("making the workload"):
            make_workload(folder, arguments.smoke)
        for job in chosen:
            results = run_job(job, 1 if arguments.smoke else arguments.rounds, variables, console)
            met &= show(job, results, console)
            everything[job.name] = {r.contender.name: r.values for r in results}
            failed = [r for r in results if r.failure and r.contender.ours]
            if arguments.smoke and failed:
                console.print(f"[red]{failed[0].failure}")
                return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))
    if not met and not arguments.smoke:
        console.print("[red]some of our figures miss their targets[/red]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
