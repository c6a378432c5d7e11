"""Names that a user may have meant."""

import importlib
from collections.abc import Iterable

# Loaded when somebody wrote a name that is not known: no command needs it otherwise.
DIFFLIB = "difflib"


def nearest(name: str, known: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """Returns up to `count` of `known` that are written like `name`, the most alike first.

    `likeness` is from 0 (any) to 1 (the same).
    """
    found: list[str] = importlib.import_module(DIFFLIB).get_close_matches(
        name, sorted(known), count, likeness
    )
    return found
