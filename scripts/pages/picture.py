"""Makes `docs/screen.svg`, the picture of the README, of the screen of a running `tape demo`.

Run by `scripts/docs --picture`.
"""

import contextlib
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tapeworks.cli.screen import RATES_SHOWN, Screen
from tapeworks.views.status import Status

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "screen.svg"
COLUMNS = 104
SAMPLES = RATES_SHOWN + 2
SECONDS_BETWEEN = 0.5
DEMO = ["-c", "from tapeworks.cli import main; main()", "demo", "--seconds", "40", "--json"]


def draw(data: Path, samples: int, seconds_between: float) -> str:
    """Returns the status screen of `data` as SVG, after `samples` looks at it."""
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    status, screen = Status(data), Screen("tape demo", console)
    for _ in range(samples):
        picture = screen.draw(status.sample(), "Ctrl-C stops")
        time.sleep(seconds_between)
    console.print(picture)
    svg = console.export_svg(title="tape demo", unique_id="tape")
    # Without the fonts that rich would fetch: what is on the reader's machine will do.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    """Runs a demo, and draws its screen once it is in full swing."""
    # From the folder itself, as a user would look: the screen shows the path as it was given.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        demo = subprocess.Popen([sys.executable, *DEMO], stdout=subprocess.DEVNULL, text=True)
        data = Path("demo")
        while not list(data.glob("lake/*/*/*/*.parquet")):
            if demo.poll() is not None:
                sys.exit("the demo ended before its lake had files")
            time.sleep(0.2)
        PICTURE.write_text(draw(data, SAMPLES, SECONDS_BETWEEN), encoding="utf-8")
        demo.terminate()
        demo.wait()
    print(PICTURE)


if __name__ == "__main__":
    main()
