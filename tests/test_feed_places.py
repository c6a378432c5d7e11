"""A venue is its own folders and one line of each table: nothing else names it.

Adding one touches `feeds/<venue>` and `simulator/<venue>` of the core, `feeds/<venue>` and
`simulators/<venue>` of the package, and the lines that are listed here.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.test_layout import (
    PACKAGE_FILES,
    ROOT,
    RUST_FILES,
    is_rust_test,
    name_of,
    rust_code,
    rust_without_tests,
)

from tapeworks._core import numbers
from tapeworks.registry import MEMBERS

# Those that are streamed, and those that are read from files alone.
VENUES = sorted({*MEMBERS["feed"], *MEMBERS["capture"]})
FOLDERS = (
    *("crates/core/src/feeds/", "crates/core/src/simulator/", "crates/py/src/simulator/"),
    *("python/tapeworks/feeds/", "python/tapeworks/simulators/"),
)
# Where each venue is named outside of its folders, and on how many lines or in how many words.
TABLES = {
    # The module; each product has a line in `FeedId` and one in `FEEDS` as well.
    "crates/core/src/feeds.rs": 1,
    # The module, and what it gives to the bindings.
    "crates/core/src/simulator.rs": 2,
    "crates/py/src/simulator.rs": 2,
    # Its name, and where it is.
    "python/tapeworks/registry.py": 2,
}
# More of one venue than its lines.
MORE = {
    # What is recorded where no feed is named.
    "binance": {"python/tapeworks/settings.py": 1},
    # It is streamed, has files of its own, and had another name.
    "massive": {"python/tapeworks/registry.py": 5},
    # It is streamed, and has files of its own; the bindings of its files, and of its packets.
    "itch": {
        "python/tapeworks/registry.py": 4,
        "crates/py/src/feeds.rs": 3,
        "crates/py/src/mold.rs": 3,
    },
}
# Words that only frames, addresses and settings of a venue have, beside its name.
WORDS = {
    "binance": "usdm|coinm|aggTrade|bookTicker|lastUpdateId|serverShutdown|depthUpdate|miniTicker"
}


def python_words(path: Path) -> Iterator[str]:
    """Yields names and strings. A string with a space in it is a text for people."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if not re.search(r"\s", text):
                yield text
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.alias):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def rust_lines(path: Path) -> Iterator[str]:
    """Yields lines of code with what stands in strings, without comments and tests."""
    text = rust_without_tests(path.read_text(encoding="utf-8"))
    for line, code in zip(text.splitlines(), rust_code(text).splitlines(), strict=True):
        if code.strip() or '"' in line:
            yield line.partition("//")[0]


def words_of(path: Path) -> Iterator[str]:
    return python_words(path) if path.suffix == ".py" else rust_lines(path)


def is_own(path: Path, venue: str) -> bool:
    name = name_of(path)
    return any(name.startswith((f"{at}{venue}/", f"{at}{venue}.rs")) for at in FOLDERS)


CODE = [
    path
    for path in PACKAGE_FILES + RUST_FILES
    if path.is_relative_to(ROOT / "python")
    or (path.is_relative_to(ROOT / "crates") and not is_rust_test(path))
]


def test_a_venue_is_named_in_its_folders_and_tables_alone():
    # Names, and strings that are no text for people: words of the venue are counted in each file.
    words = {path: list(words_of(path)) for path in CODE}
    for venue in VENUES:
        name = rf"(?<![a-zA-Z]){venue}|{venue.upper()}|{venue.capitalize()}"
        pattern = re.compile(rf"{name}|{WORDS.get(venue, venue.upper())}")
        found: Counter[str] = Counter()
        for path in CODE:
            if not is_own(path, venue):
                found[name_of(path)] += sum(bool(pattern.search(word)) for word in words[path])
        more = MORE.get(venue, {})
        allowed = Counter(TABLES | more)
        products = sum(name.startswith(venue) for name in numbers("feed"))
        allowed["crates/core/src/feeds.rs"] += 2 * products
        advice = "a feed says by itself what differs: see CONTRIBUTING.md"
        assert found - allowed == Counter(), f"{venue}: {advice}"
        missing = Counter(more) - found
        assert missing == Counter(), f"{venue}: fewer than are listed here: take them off the list"


def test_what_stands_behind_a_decoder_asks_no_feed_which_one_it_is():
    # A feed is its descriptor: no other code of the core compares numbers of feeds.
    behind = [path for path in RUST_FILES if path.is_relative_to(ROOT / "crates") and path in CODE]
    found = [
        f"{name_of(path)}:{number}: {word[0]}"
        for path in behind
        if not {"feeds", "feeds.rs"} & set(path.parts)
        and not any(is_own(path, venue) for venue in VENUES)
        for number, line in enumerate(rust_lines(path), 1)
        if (word := re.search(r"FeedId::(?!NAMES)\w+|data_prefix", line))
    ]
    assert not found, found
