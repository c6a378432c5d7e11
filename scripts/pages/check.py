"""Runs the blocks of pages: `python scripts/pages/check.py --demo FOLDER PAGE...`.

Each page has a folder of its own, with a copy of the recording as `demo` in it; its blocks run
there in their order. Exits with 1 if a block fails, prints other than the page shows, or is not
marked as `blocks.py` says.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from blocks import Block, PageError, read_blocks
from compare import difference

PAGES_AT_ONCE = 3
BLOCK_SECONDS = 300
SESSION = Path(__file__).with_name("session.py")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Report:
    """What became of the blocks of one page."""

    page: Path
    run: int = 0
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Page:
    """Runs the blocks of one page in `folder`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._groups: list[int] = []
        self._python: subprocess.Popen[str] | None = None

    def run(self, block: Block) -> tuple[str, bool]:
        """Returns what `block` printed, and whether it succeeded."""
        if block.language == "python":
            return self._run_python(block)
        if block.language == "sql":
            return self._execute(["tape", "query", block.text, "--data", "demo"])
        return self._execute(["bash", "-euo", "pipefail", "-c", block.text])

    def close(self) -> None:
        """Ends what blocks left running."""
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue
        if self._python is not None:
            self._python.communicate()

    def _execute(self, words: list[str]) -> tuple[str, bool]:
        # A file, not a pipe: a server that a block starts holds it open, and nobody waits for it.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                words,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups.append(process.pid)
            try:
                code = process.wait(BLOCK_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = -1
                printed.seek(0, os.SEEK_END)
                printed.write(f"\nstill running after {BLOCK_SECONDS} s\n")
            printed.seek(0)
            return printed.read(), code == 0

    def _run_python(self, block: Block) -> tuple[str, bool]:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, str(SESSION)],
                cwd=self._folder,
                env=self._environment | {"PYTHONPATH": str(self._folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._groups.append(self._python.pid)
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        asked = {"text": block.text, "place": block.place}
        self._python.stdin.write(json.dumps(asked) + "\n")
        self._python.stdin.flush()
        line = self._python.stdout.readline()
        if not line:
            self._python = None
            return "the interpreter ended", False
        answer = json.loads(line)
        return answer["printed"], not answer["failed"]


def check_page(path: Path, demo: Path, folder: Path, show: bool) -> Report:
    """Runs all blocks of the page at `path`; the first that fails ends it."""
    report, started = Report(path), time.monotonic()
    try:
        blocks = read_blocks(path)
    except PageError as error:
        report.failures.append(str(error))
        return report
    if not any(block.language in ("bash", "python", "sql") for block in blocks):
        return report
    folder.mkdir(parents=True)
    shutil.copytree(demo, folder / "demo")
    (folder / "examples").symlink_to(ROOT / "examples")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TAPEWORKS_")}
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    page = Page(folder, kept | {"PATH": binaries, "NO_COLOR": "1", "MPLBACKEND": "agg"})
    try:
        for block in blocks:
            if block.reason:
                report.left_out.append(f"{block.place}: {block.reason}")
                continue
            if block.file:
                target = folder / block.file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, encoding="utf-8")
                continue
            printed, succeeded = page.run(block)
            if show:
                print(f"-- {block.place}\n{printed}")
            if problem := _problem(block, printed, succeeded):
                report.failures.append(f"{block.place}: {problem}")
                break
            report.run += 1
    finally:
        page.close()
    report.seconds = time.monotonic() - started
    return report


def _problem(block: Block, printed: str, succeeded: bool) -> str:
    if not succeeded:
        return f"failed\n{block.text}\n{printed}"
    if block.output is None or not (told := difference(block.output, printed)):
        return ""
    return f"prints other than the page shows\n{told}\n\nall that it printed:\n{printed}"


def pages_of(paths: list[Path]) -> list[Path]:
    """Returns the pages that `paths` name: themselves, or all within a folder."""
    found = []
    for path in paths:
        found += sorted(path.rglob("*.md")) if path.is_dir() else [path]
    return found


def seconds_recorded(page: Path) -> int:
    """Returns how long the commands of `page` record: those that take long begin first."""
    text = page.read_text(encoding="utf-8")
    return sum(int(seconds) for seconds in re.findall(r"--seconds (\d+)", text))


def main() -> int:
    """Runs the pages of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--demo", type=Path, required=True, help="a recording of `tape demo`")
    parser.add_argument("--show", action="store_true", help="print what the blocks print")
    parser.add_argument("pages", type=Path, nargs="+", help="pages, or folders of them")
    given = parser.parse_args()
    pages = pages_of(given.pages)
    with tempfile.TemporaryDirectory(prefix="tapeworks-docs-") as folder:
        with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
            started = {
                page: pool.submit(check_page, page, given.demo, Path(folder) / str(at), given.show)
                for at, page in enumerate(sorted(pages, key=seconds_recorded, reverse=True))
            }
            reports = [started[page].result() for page in pages]
    for report in reports:
        if report.run or report.failures:
            print(f"{report.page}: {report.run} blocks run, {report.seconds:.1f} s")
        for told in report.left_out:
            print(f"  not run: {told}")
    failures = [told for report in reports for told in report.failures]
    for told in failures:
        print(f"\nFAILED {told}", file=sys.stderr)
    print(f"{sum(report.run for report in reports)} blocks run, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
