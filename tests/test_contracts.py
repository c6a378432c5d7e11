"""A new channel or kind is its lines in the core and a table's line, and nothing else.

A copy of the sources gets one of each by these lines alone; then it is built and used.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tapeworks.lake import TABLES

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RECORD = "crates/core/src/record"
BUILD_S_MAX, USE_S_MAX = 400, 150
STRUCT = """\
/// Something that a test stores. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// What every record starts with.
    pub header: Header,
    /// Units of 1e-9.
    pub value: i64,
    /// Units of 1e-8.
    pub weight: i64,
    /// How many.
    pub count: u64,
    /// A [`Channel`].
    pub channel: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

"""
LAYOUT = """\
    layout!("sample", Sample {
        value Price, weight Size, count Number, channel CHANNEL, reserved Hidden,
    }),
"""
TABLE = """\
        Table("samples", "market-data.normalized", "sample", delta=SORTED,
              channels=(("sample",),), replayed_as="samples", doc="of a test"),
"""


def insert(path: Path, start: str, end: str, line: str) -> None:
    """Puts `line` before the first `end` behind `start`, which must be in the file once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(start) == 1, f"{path} has {start!r} {text.count(start)} times, expected once"
    at = text.index(end, text.index(start))
    path.write_text(text[:at] + line + text[at:], encoding="utf-8")


def add_variant(path: Path, enum: str) -> None:
    """Adds a variant with the next number to an enum of stored numbers."""
    text = path.read_text(encoding="utf-8")
    block = text[text.index(f"pub enum {enum} {{") :].partition("\n    }\n")[0]
    number = 1 + max(int(found) for found in re.findall(r" = (\d+), \"", block))
    line = f'\n        /// Of a test.\n        Sample = {number}, "sample";'
    insert(path, f"pub enum {enum} {{", "\n    }\n", line)


def add_channel_and_kind(tree: Path) -> None:
    """Adds all that a channel and a kind are: CONTRIBUTING.md lists these lines."""
    add_variant(tree / RECORD / "kinds.rs", "Channel")
    add_variant(tree / RECORD / "kinds.rs", "Kind")
    core = tree / f"{RECORD}.rs"
    insert(core, "// The kinds of records:", "// The kinds of records:", STRUCT)
    insert(core, "\nrecords! {\n", "}\n", "    Sample 64 as_sample,\n")
    insert(tree / RECORD / "columns.rs", "pub const LAYOUTS:", "];\n", LAYOUT)
    insert(tree / "python" / "tapeworks" / "lake.py", "\nTABLES = {\n", "    )\n}\n", TABLE)


def copy_sources(tree: Path) -> None:
    """Copies what git knows of, and what it would be told of."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in sorted(set(filter(None, listed.split("\0")))):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def copy_dependencies(target: Path) -> None:
    """Copies what was built of the dependencies, so that the checkout's own build is not touched.

    Times are kept: cargo goes by them. What is missing is built anew.
    """
    own = shutil.ignore_patterns("*tapeworks*", "lib_core*", "_core*", "incremental", "examples")
    for part in (".fingerprint", "build", "deps"):
        if (TARGET / "release" / part).is_dir():
            shutil.copytree(TARGET / "release" / part, target / "release" / part, ignore=own)


def build(tree: Path, target: Path, folder: Path) -> None:
    """Builds the native module of `tree` and puts it beside its Python sources."""
    maturin = Path(sys.executable).with_name("maturin")
    built = subprocess.run(
        [
            *(maturin, "build", "--release", "--offline", "--interpreter", sys.executable),
            *("--out", folder),
        ],
        cwd=tree,
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )
    assert built.returncode == 0, (
        "a channel and a kind need more lines than their own, or the build failed for another "
        f"reason:\n{built.stdout}{built.stderr}"
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (native,) = [name for name in archive.namelist() if Path(name).name.startswith("_core.a")]
        archive.extract(native, tree / "python")
    shutil.rmtree(target)


def test_the_page_of_the_lake_lists_every_table():
    # A table that is not listed is found by nobody.
    page = (ROOT / "docs" / "formats" / "lake.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    missing = sorted(TABLES.keys() - listed)
    assert not missing, f"docs/formats/lake.md: add to the list of tables: {', '.join(missing)}"


@pytest.mark.slow
@pytest.mark.timeout(BUILD_S_MAX + USE_S_MAX + 30)
def test_a_new_channel_and_kind_are_their_own_lines(tmp_path: Path):
    # Add both to a copy, build it, and let `added_kind.py` store, find, show, verify and replay
    # records there. The tests of names and types run as well: they too must need no line.
    tree = tmp_path / "tree"
    copy_sources(tree)
    add_channel_and_kind(tree)
    copy_dependencies(tmp_path / "target")
    build(tree, tmp_path / "target", tmp_path / "wheel")
    tests = ("tests/added_kind.py", "tests/test_numbered.py", "tests/test_stub.py")
    used = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "python")},
        capture_output=True,
        text=True,
        timeout=USE_S_MAX,
        check=False,
    )
    assert used.returncode == 0, (
        f"a channel and a kind need more lines than their own:\n{used.stdout}{used.stderr}"
    )
