"""The runner of the documentation: what it runs, what it compares, and what it refuses."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "scripts" / "pages" / "check.py"


def check(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "demo").mkdir(exist_ok=True)
    (tmp_path / "page.md").write_text(text.replace("'''", "```"), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(CHECK), "--demo", "demo", "page.md"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_blocks_of_a_page_share_folder_and_names(tmp_path: Path):
    # A file, a command that reads it, Python that goes on where it was; one is left out, and told.
    shown = check(
        tmp_path,
        """
'''toml title="a.toml"
x = 1
'''
'''bash
cat a.toml; ls
'''
'''text
x = 7
...
demo
...
'''
'''python
y = 2
'''
'''python
print("y is", y + 1, "of 1014.3 KiB: whole")
'''

'''text
y is 9 of 1.2 MiB: whole
'''
'''bash title="not run: it needs a moon"
exit 1
'''
""",
    )
    assert shown.returncode == 0, shown.stderr
    assert "3 blocks run, 0 failed" in shown.stdout
    assert "not run: page.md:24: it needs a moon" in shown.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("'''bash\nfalse\n'''", "page.md:1: failed"),
        ("'''python\n1 / 0\n'''", "ZeroDivisionError"),
        ("'''bash\necho a 1\n'''\n'''text\nb 1\n'''", "-b #\n+a #"),
        ("'''bash\necho a; echo b\n'''\n'''text\na\n'''", "+b"),
        ("'''console\n$ true\n'''", "got 'console'"),
        ("'''bash title=\"not run:\"\ntrue\n'''", "expected a reason"),
        ("'''bash\ntrue\n", "to be closed"),
    ],
)
def test_a_page_that_does_not_hold_fails_with_its_place(tmp_path: Path, text: str, told: str):
    # Each kind of mistake by itself: the exit code, and what is said.
    shown = check(tmp_path, text)
    assert shown.returncode == 1
    assert told in shown.stderr


def test_what_a_block_starts_ends_with_its_page(tmp_path: Path):
    # A server in the background is gone when the runner is, which does not wait for it.
    shown = check(
        tmp_path, "'''bash\nsleep 600 & echo pid $! > pid; pwd\n'''\n'''bash\ncat pid; x\n'''"
    )
    [line] = [line for line in shown.stderr.splitlines() if line.startswith("pid ")]
    stat, until = Path(f"/proc/{line.split()[1]}/stat"), time.monotonic() + 10
    while is_alive(stat) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(stat)


def is_alive(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
