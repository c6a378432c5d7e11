"""The tables of stores of rows: which records fill them, and how their columns are called.

One list for all such stores; how a row is kept is told in the file of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tapeworks._core import Records, Symbols, kind_of
from tapeworks.errors import ConfigError
from tapeworks.topics import ALERTS, BARS, GAPS, METRICS, NORMALIZED, TICKS

T = TypeVar("T", covariant=True)


class RowEncoder(Protocol[T]):
    """What makes rows of the records of one kind, in the core."""

    def encode(
        self,
        batches: list[Records],
        symbols: Symbols,
        provider: str,
        instruments: list[int] | None = None,
    ) -> tuple[T | None, tuple[int, str] | None]:
        """Returns the rows, or the offset of a record that cannot be one, and why."""


# What a column is called that has another name than the field that it holds.
RENAMED = {"id": "tape_offset", "ts": "ts_event", "ts_ns": "ts_event_ns"}


@dataclass(frozen=True, eq=False)
class StoreTable:
    """One table: the records of one kind on one topic."""

    name: str
    topic: str
    kind: str
    columns: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)
    """Column -> field, beyond `RENAMED`."""
    by_day: bool = False
    """Whether it has a partition for each day of `ts`."""
    key: tuple[str, ...] = ()
    """What names a row that may come again: the later one amends it. None: rows only come once."""
    time: tuple[str, str] = ("ts", "ts_event")
    """The column and the field that rows go by in a store that orders all rows by time."""

    def field_of(self, column: str) -> str:
        """Returns the field that a column holds."""
        return {**RENAMED, **self.renamed}.get(column, column)

    @property
    def whole_time_columns(self) -> tuple[str, ...]:
        """The columns of a store whose times have nanoseconds, but that which rows go by."""
        rest = ("ts_event_ns", "ts_recv_ns")
        return tuple(
            column
            for column in self.columns
            if self.field_of(column) not in rest and column != self.time[0]
        )

    def occurs(self, kinds: set[int]) -> bool:
        """Whether records of these kinds may be of it."""
        return kind_of(self.kind) in kinds


TABLES = (
    StoreTable(
        "instruments",
        NORMALIZED,
        "definition",
        (
            *("id", "instrument", "symbol", "canonical", "asset_class", "currency"),
            *("tick_size", "lot_size", "contract_size", "valid_from", "valid_to"),
            *("status", "provider"),
        ),
        key=("provider", "instrument"),
        time=("ts", "ts_recv"),
    ),
    StoreTable(
        "trades",
        NORMALIZED,
        "trade",
        (
            *("id", "symbol", "ts", "price", "size", "side", "trade_id", "sequence", "channel"),
            *("conditions", "flags", "provider", "ts_recv", "ts_ns", "ts_recv_ns"),
        ),
        by_day=True,
    ),
    StoreTable(
        "quotes",
        NORMALIZED,
        "quote",
        (
            *("id", "symbol", "ts", "bid_price", "bid_size", "ask_price", "ask_size"),
            *("sequence", "flags", "provider", "ts_recv", "ts_ns", "ts_recv_ns"),
        ),
        by_day=True,
    ),
    StoreTable(
        "imbalances",
        NORMALIZED,
        "imbalance",
        (
            *("id", "symbol", "ts", "auction", "side", "state", "paired_size", "imbalance_size"),
            *("reference_price", "near_price", "far_price", "auction_time", "code", "sequence"),
            *("flags", "provider", "ts_recv", "ts_ns", "ts_recv_ns"),
        ),
        # A word of SQL joins is no name of a column.
        renamed={"auction": "cross"},
        by_day=True,
    ),
    StoreTable(
        "corrections",
        NORMALIZED,
        "correction",
        (
            *("id", "symbol", "ts", "trade_id", "action", "price", "size", "sequence", "provider"),
            "ts_ns",
        ),
    ),
    StoreTable(
        "ticks",
        TICKS,
        "tick",
        ("id", "symbol", "ts", "bid", "ask", "last", "volume", "provider", "ts_ns"),
        by_day=True,
    ),
    StoreTable(
        "bars",
        BARS,
        "bar",
        (
            *("id", "symbol", "ts", "interval_ms", "open", "high", "low", "close", "volume"),
            *("buy_volume", "turnover", "buy_turnover", "trades", "closed", "channel", "flags"),
            "provider",
        ),
        renamed={"trades": "count"},
        by_day=True,
        key=("symbol", "ts", "interval_ms", "provider", "channel"),
    ),
    StoreTable(
        "metrics",
        METRICS,
        "metric",
        (
            *("id", "symbol", "ts", "metric", "value", "count", "window_ns", "state"),
            *("provider", "ts_ns"),
        ),
        renamed={"window_ns": "window"},
        by_day=True,
    ),
    StoreTable(
        "alerts",
        ALERTS,
        "alert",
        (
            *("id", "alert", "symbol", "ts", "rule", "detector", "state", "severity", "subject"),
            *("detail", "value", "threshold", "side", "price", "size", "count", "ts_start"),
            *("ts_end", "first_offset", "last_offset", "flags", "provider", "ts_ns"),
        ),
        renamed={"alert": "id"},
    ),
    StoreTable(
        "gaps",
        GAPS,
        "gap",
        (
            *("id", "symbol", "channel", "cause", "state", "missing", "first_missing"),
            *("last_missing", "ts_from", "ts_to", "ts_detected", "flags", "provider"),
        ),
        renamed={
            "missing": "count",
            "first_missing": "first",
            "last_missing": "last",
            "ts_from": "ts_start",
            "ts_to": "ts_event",
            "ts_detected": "ts_recv",
        },
        time=("ts_detected", "ts_recv"),
    ),
)
"""All tables, in the order in which they are filled."""

TOPICS = tuple(dict.fromkeys(table.topic for table in TABLES))
"""The topics that fill a table, the one that defines the instruments first."""
KINDS = tuple(table.kind for table in TABLES)


def check_choice(
    kinds: Sequence[str],
    topics: Sequence[str],
    more_kinds: Sequence[str] = (),
    more_topics: Sequence[str] = (),
) -> None:
    """Checks which kinds and topics the settings choose, of all tables and of more.

    Raises:
        ConfigError: one of them fills no table.
    """
    for noun, chosen, known in (
        ("kinds", kinds, (*KINDS, *more_kinds)),
        ("topics", topics, (*TOPICS, *more_topics)),
    ):
        for one in chosen:
            if one not in known:
                raise ConfigError(f"{noun}: expected some of {', '.join(known)}, got {one!r}")


def tables_of(topic: str, kinds: Sequence[str], batches: Sequence[Records]) -> list[StoreTable]:
    """Returns the tables that records of `batches` may fill; `kinds` are chosen, none: all."""
    present: set[int] = set().union(*(batch.kinds() for batch in batches))
    return [
        table
        for table in TABLES
        if table.topic == topic and table.occurs(present) and (not kinds or table.kind in kinds)
    ]
