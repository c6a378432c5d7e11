"""Records the market's tape, verifies that it is complete, and makes it queryable.

    import tapeworks as tw

    lake = tw.open("data")                            # a folder that `tape record` or `up` fills
    trades = lake.trades("BTCUSDT", "2026-03-01", source="binance-spot")
    trades.to_pandas(), trades.to_polars(), trades.to_arrow()
    trades.coverage()                                 # what is missing of that range, if anything
    lake.book("BTCUSDT", "2026-03-01T12:00:00Z", source="binance-spot").top(5)
    lake.sql("select symbol, sum(price * size) from trades group by all")

`help(tw.Lake)` lists all questions. Every error is a `TapeworksError`; one that a question
raises is a `QueryError`.
"""

import importlib
from typing import TYPE_CHECKING

from tapeworks.errors import QueryError, TapeworksError

# A name of `_LAZY` is loaded when it is first used, so that `tape --help` does not load DuckDB.
if TYPE_CHECKING:
    from tapeworks.views.batches import Batch
    from tapeworks.views.books import BookAt
    from tapeworks.views.coverage import Coverage
    from tapeworks.views.follow import Follow
    from tapeworks.views.lake import Lake, open  # noqa: A004
    from tapeworks.views.options import Option, option
    from tapeworks.views.result import Result
    from tapeworks.views.scan import Scan

__all__ = [
    "Batch",
    "BookAt",
    "Coverage",
    "Follow",
    "Lake",
    "Option",
    "QueryError",
    "Result",
    "Scan",
    "TapeworksError",
    "__version__",
    "open",
    "option",
]

__version__ = "0.1.0"

# Public name -> module that holds it.
_LAZY: dict[str, str] = {
    "Batch": "tapeworks.views.batches",
    "BookAt": "tapeworks.views.books",
    "Coverage": "tapeworks.views.coverage",
    "Follow": "tapeworks.views.follow",
    "Lake": "tapeworks.views.lake",
    "Result": "tapeworks.views.result",
    "Scan": "tapeworks.views.scan",
    "Option": "tapeworks.views.options",
    "open": "tapeworks.views.lake",
    "option": "tapeworks.views.options",
}


# Type checkers see the imports above alone, so that they refuse all other names.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module 'tapeworks' has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
