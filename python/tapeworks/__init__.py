"""Records the market's tape, verifies that it is complete, and makes it queryable.

The public names, nothing else. A name of `_LAZY` is loaded when it is first used, so that
`tape --help` does not load DuckDB; for type checkers it is imported under `TYPE_CHECKING`.
"""

import importlib
from typing import TYPE_CHECKING

from tapeworks.errors import TapeworksError

if TYPE_CHECKING:
    from tapeworks.views.lake import Lake, open  # noqa: A004
    from tapeworks.views.result import Result

__all__ = ["Lake", "Result", "TapeworksError", "__version__", "open"]

__version__ = "0.1.0"

# Public name -> module that holds it.
_LAZY: dict[str, str] = {
    "Lake": "tapeworks.views.lake",
    "Result": "tapeworks.views.result",
    "open": "tapeworks.views.lake",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'tapeworks' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
