"""What an SQL query asks for, as far as its syntax tree says it for sure.

A part of a query counts as narrowed to symbols, sources and times only by what must hold of every
row that it reads: comparisons of a column with a constant that `where` joins by `and`. Whatever
else it says of them narrows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tapeworks.errors import QueryError, TapeworksError
from tapeworks.views.query import (
    BARS,
    BARS_OF_LENGTH,
    VIEWS,
    WORD,
    Engine,
    Params,
    Scope,
    table_of,
    tables_in,
)
from tapeworks.views.times import parse_interval, parse_time

# Types to which a constant is cast as it is.
EXACT = {"timestamp", "timestamptz", "timestamp with time zone", "timestamp_ns", "varchar", "text"}
NS_PER_MS = 1_000_000
DAY_NS = 86_400_000_000_000
TIMES = ("ts_event", "ts_recv", "date")
LOWER = ("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_EQUAL")
UPPER = ("COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO", "COMPARE_EQUAL")
MIRRORED = {
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_EQUAL": "COMPARE_EQUAL",
}
Node = dict[str, Any]
Test = tuple[str, str, list[str], bool]
"""Column, comparison, constants, and whether the column is cast: to a day, or to something else."""


@dataclass(frozen=True)
class Asked:
    """What is read of one table. None means that nothing narrows it."""

    table: str
    symbols: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    first: int | None = None
    last: int | None = None
    """In ns, not included."""
    takes_together: bool = False
    """Whether rows are told apart by symbol, and not by source."""


def asked_in(engine: Engine, sql: str, params: Params | None) -> list[Asked]:
    """Returns what `sql` reads of the tables of the lake, each part of it by itself."""
    if sql.strip().lower().startswith("explain"):
        return []
    tree = _syntax(engine, sql)
    if tree is None:
        # No SELECT, such as PIVOT.
        return [Asked(name) for name in tables_in(sql)]
    found = list(dict.fromkeys(_asked(tree, params or ())))
    if _calls_tables(tree):
        # `query_table('trades')` and the like: nothing is known of what they read.
        found += [Asked(name) for name in tables_in(sql) if name not in {it.table for it in found}]
    return found


def is_of_all_lengths(sql: str) -> bool:
    """Whether `sql` asks for bars, and chooses no length of them."""
    words = {word.lower() for word in WORD.findall(sql)}
    shapes = {"describe", "summarize", "explain", "show"}
    return bool(words & set(BARS)) and "interval_ms" not in words and not words & shapes


def _syntax(engine: Engine, sql: str) -> Any:
    """Returns the syntax tree of SELECT statements as DuckDB has it; none of any other."""
    try:
        asked = "select json_serialize_sql(?::varchar)"
        [text] = engine.run(asked, [], Scope([]), [sql]).column(0).to_pylist()
    except QueryError:
        return None
    tree = json.loads(text)
    return None if tree.get("error") else tree.get("statements")


def _asked(tree: Any, params: Params) -> Iterator[Asked]:
    for node in _selects(tree):
        tables = list(_tables(node.get("from_table"), True))
        tests = list(_tests(node.get("where_clause"), params))
        is_alone = len(tables) == 1 and tables[0][1]
        for ref, is_plain in tables:
            name = str(ref.get("table_name", "")).lower()
            if name not in VIEWS and not BARS_OF_LENGTH.fullmatch(name):
                continue
            alias = str(ref.get("alias") or name).lower()
            own = []
            if is_plain and not ref.get("column_name_alias"):
                own = [
                    (names[-1], sign, values, is_cast)
                    for names, sign, values, is_cast in tests
                    if (len(names) == 1 and is_alone) or names[:-1] == [alias]
                ]
            yield _narrowed(name, own, _takes_together(node))


def _selects(tree: Any) -> Iterator[Node]:
    """Yields every SELECT within `tree`, but not what is described alone."""
    if isinstance(tree, list):
        for each in tree:
            yield from _selects(each)
    elif isinstance(tree, dict) and tree.get("show_type") not in ("DESCRIBE", "SHOW_FROM"):
        if tree.get("type") == "SELECT_NODE":
            yield tree
        yield from _selects(list(tree.values()))


def _calls_tables(tree: Any) -> bool:
    """Whether a function that gives rows stands within `tree`."""
    if isinstance(tree, list):
        return any(map(_calls_tables, tree))
    if not isinstance(tree, dict):
        return False
    return tree.get("type") == "TABLE_FUNCTION" or _calls_tables(list(tree.values()))


def _tables(ref: Any, is_plain: bool) -> Iterator[tuple[Node, bool]]:
    """Yields the tables of a FROM, and whether each is there as it is or joined, no more."""
    if isinstance(ref, list):
        for each in ref:
            yield from _tables(each, False)
    elif isinstance(ref, dict) and ref.get("type") != "SELECT_NODE":
        if ref.get("type") == "BASE_TABLE":
            yield ref, is_plain
        elif ref.get("type") == "JOIN":
            yield from _tables(ref.get("left"), is_plain)
            yield from _tables(ref.get("right"), is_plain)
        elif ref.get("type") != "SHOW_REF":
            yield from _tables(list(ref.values()), False)


def _tests(where: Any, params: Params) -> Iterator[tuple[list[str], str, list[str], bool]]:
    """Yields what must hold of each row: the parts of a column's name, comparison, constants."""
    if not isinstance(where, dict):
        return
    kind = str(where.get("type"))
    if kind == "CONJUNCTION_AND":
        for each in where.get("children", ()):
            yield from _tests(each, params)
    elif kind in MIRRORED:
        for column, value, sign in (
            (where.get("left"), where.get("right"), kind),
            (where.get("right"), where.get("left"), MIRRORED[kind]),
        ):
            yield from _test(column, sign, [value], params)
    elif kind == "COMPARE_BETWEEN":
        column = where.get("input")
        yield from _test(column, "COMPARE_GREATERTHANOREQUALTO", [where.get("lower")], params)
        yield from _test(column, "COMPARE_LESSTHANOREQUALTO", [where.get("upper")], params)
    elif kind == "COMPARE_IN":
        column, *values = where.get("children", (None,))
        yield from _test(column, "COMPARE_EQUAL", values, params)


def _test(
    column: Any, sign: str, values: list[Any], params: Params
) -> Iterator[tuple[list[str], str, list[str], bool]]:
    is_cast = _type_of(column) == "OPERATOR_CAST"
    ref = column.get("child") if is_cast else column
    found = [_constant(value, params) for value in values]
    is_cast = is_cast or any(map(_is_rounded, values))
    if _type_of(ref) == "COLUMN_REF" and None not in found:
        names = [str(name).lower() for name in ref.get("column_names", ())]
        yield names, sign, [text for text in found if text is not None], is_cast


def _is_rounded(node: Any) -> bool:
    """Whether a constant is cast to what may be less exact, as a time to its day."""
    if _type_of(node) != "OPERATOR_CAST":
        return False
    # By version of DuckDB.
    wanted = (node.get("type_expr") or {}).get("type_name", (node.get("cast_type") or {}).get("id"))
    return str(wanted).lower() not in EXACT or _is_rounded(node.get("child"))


def _constant(node: Any, params: Params) -> str | None:
    """Returns a constant as text; none for whatever else stands there."""
    if _type_of(node) == "OPERATOR_CAST":
        return _constant(node.get("child"), params)
    if _type_of(node) == "VALUE_PARAMETER":
        name = str(node.get("identifier"))
        try:
            value = params[name] if isinstance(params, Mapping) else params[int(name) - 1]
        except (KeyError, IndexError, ValueError):
            return None
        return None if value is None else str(value)
    if _type_of(node) != "VALUE_CONSTANT":
        return None
    # By version of DuckDB.
    text = node.get("literal", {}).get("text", node.get("value", {}).get("value"))
    return text if isinstance(text, str) else None


def _type_of(node: Any) -> str:
    return str(node.get("type")) if isinstance(node, dict) else ""


def _narrowed(table: str, tests: list[Test], takes_together: bool) -> Asked:
    sets: dict[str, frozenset[str]] = {}
    lower, upper = [], []
    for column, sign, values, is_cast in tests:
        if column in ("symbol", "venue") and sign == "COMPARE_EQUAL" and not is_cast:
            sets[column] = sets.get(column, frozenset(values)).intersection(values)
        elif column in TIMES:
            times = [_instant(value) for value in values]
            known = [time for time in times if time is not None]
            if len(known) < len(times):
                # A time that only DuckDB reads.
                continue
            is_day = is_cast or column == "date"
            if sign in LOWER:
                since = min(known)
                lower.append(since - since % DAY_NS if is_day else since)
            if sign in UPPER:
                more = 0 if sign == "COMPARE_LESSTHAN" else 1
                until = max(known)
                upper.append(until - until % DAY_NS + DAY_NS if is_day else until + more)
    last = _behind(table, min(upper, default=None))
    first = max(lower, default=None)
    return Asked(table, sets.get("symbol"), sets.get("venue"), first, last, takes_together)


def _behind(table: str, last: int | None) -> int | None:
    """Returns where the range of the rows ends: a bar stands for what follows on its time."""
    if last is None or table_of(table).kind != "bar":
        return last
    match = BARS_OF_LENGTH.fullmatch(table)
    if not match:
        return None
    length = parse_interval(match[1]) * NS_PER_MS
    return -(-last // length) * length


def _takes_together(node: Node) -> bool:
    names = set(_column_names([value for key, value in node.items() if key != "from_table"]))
    return "symbol" in names and "venue" not in names and "*" not in names


def _column_names(tree: Any) -> Iterator[str]:
    if isinstance(tree, list):
        for each in tree:
            yield from _column_names(each)
    elif isinstance(tree, dict):
        if tree.get("type") == "STAR":
            yield "*"
        if tree.get("type") == "COLUMN_REF":
            yield str(tree.get("column_names", [""])[-1]).lower()
        yield from _column_names(list(tree.values()))


def _instant(text: str) -> int | None:
    try:
        return parse_time(text)
    except TapeworksError:
        return None
