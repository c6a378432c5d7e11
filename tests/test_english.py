"""The words that users read: the field's own, and the same one for the same thing everywhere."""

import re

import pytest
from tests.test_layout import ROOT, name_of, tracked

# What is not said any more, and what is said instead.
INSTEAD = {
    r"\bwanted [^.;]{1,60}[;,] found\b": "expected ..., got ...",
    r"\bsettings are right\b": "configuration OK",
    r"\bknown to be missing\b": "no gaps recorded from ... to ...",
    r"\b(un)?proven\b|\bproves\b|\bunproved\b": "verified",
    r"\bthe door to\b": "read API for ...",
    r"\bever more slowly\b": "with exponential back-off",
    r"\bgives how many\b": "returns the number of",
    r"\btape dead\b(?!-)": "tape dead-letters",
    r"\bsilence_s\b": "idle_timeout_s",
    r"\bsequence closed\b|\bdisconnect closed\b": "ended, data lost",
    r"\b(Speech|Pace|AbsentValues|gatherer|_seldom|_bury)\b": "a word of the field",
}
READ = [
    path
    for path in tracked("python/*.py", "python/*.toml", "docs/*.md", "README.md", "examples/*.py")
    # What counts gaps by their names in the ledger says which these are.
    if name_of(path) not in ("python/tapeworks/views/status.py", "python/tapeworks/cli/screen.py")
]


@pytest.mark.parametrize("said", INSTEAD)
def test_words_that_users_read(said):
    # Help, messages, docstrings, settings, documentation and examples.
    pattern = re.compile(said, re.IGNORECASE if said.islower() else 0)
    assert len(READ) > 100
    found = [
        f"{name_of(path)}: {match.group()!r}: say {INSTEAD[said]!r}"
        for path in READ
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == [], ROOT
