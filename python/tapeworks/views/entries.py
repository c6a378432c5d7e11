"""The entries of the gap ledger: each loss once, in its latest state.

A row of the table `gaps` is one state of a loss. An open one is superseded by what is told of it
later, a closed one by its repair; an entry that is told twice is one. Two losses are never one: of
items of a tape, the tape and both ends belong to what an entry is. What was noted as lost, and is
on no tape yet, is an entry as well: where nobody records any more, it never comes onto one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from tapeworks import lake
from tapeworks._core import topic_number
from tapeworks.tape import DAMAGE, RETENTION, UNKNOWN, Loss, read_losses, tapes_of
from tapeworks.topics import GAPS, RAW
from tapeworks.views.conditions import before_time, from_time
from tapeworks.views.query import quote
from tapeworks.views.symbols import Chosen
from tapeworks.views.tail import SourceTail

# Items that are missing are counted in so many bits; the greatest number stands for more.
COUNT_MAX = 2**32 - 2
# What is the same of all states of one loss.
ENTRY = "venue, symbol, channel, cause, items_of, first_missing, ts_from, ts_from_ns"
# Before it, an end that was not known was written as the least number of 64 bits.
LEAST = "timestamptz '1678-01-01 00:00:00+00'"
_TIME = pa.timestamp("us", "UTC")
ENTRY_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("symbol", pa.string()),
    ("ts_to", _TIME),
    ("ts_to_ns", pa.int16()),
    ("ts_detected", _TIME),
    ("ts_detected_ns", pa.int16()),
    ("cause", pa.string()),
    ("state", pa.string()),
    ("channel", pa.string()),
    ("missing", pa.uint32()),
    ("first_missing", pa.uint64()),
    ("last_missing", pa.uint64()),
    ("ts_from", _TIME),
    ("ts_from_ns", pa.int16()),
    ("tape_offset", pa.uint64()),
    ("venue", pa.string()),
    ("topic", pa.string()),
)
"""What `gaps_sql` gives."""


def has_entries(data: Path, source: str, tail: SourceTail) -> bool:
    """Returns whether anything was ever noted as lost: what of it counts, `gaps_sql` tells."""
    reader = tail.tape(GAPS)
    if tail.committed(GAPS) or (reader is not None and reader.end):
        return True
    return any(True for _ in read_losses(data, source))


def gaps_sql(
    data: Path,
    chosen: Chosen,
    first: int | None,
    last: int | None,
    channels: Sequence[tuple[str, ...]] | None = None,
    *,
    outages: bool = False,
) -> str:
    """Returns SQL over the table `gaps` that gives the entries which touch symbols and range.

    An end that is not known may be anywhere: the entry touches whatever it could. Ids show what an
    outage cost: nothing, or what an entry of theirs says; with `outages` it is given all the same
    where it cost something.
    """
    where = [f"(symbol is null or {chosen.condition()})"]
    if channels is not None:
        # A gap of a connection, or of the whole source, concerns every channel.
        names = ", ".join(quote(name) for group in channels for name in group)
        where.append(f"(channel is null or channel in ('session', {names}))")
    if first is not None:
        where.append(f"(state = 'open' or ts_to is null or {from_time('ts_to', first)})")
    if last is not None:
        where.append(f"(ts_from is null or {before_time('ts_from', last)})")
    newest = f"max(tape_offset) over (partition by {ENTRY})"
    repaired = (
        "max(tape_offset) filter (where state = 'repaired') "
        f"over (partition by {ENTRY}, last_missing)"
    )
    latest = (
        f"row_number() over (partition by {ENTRY}, last_missing, ts_to, ts_to_ns, state "
        "order by tape_offset desc nulls last)"
    )
    return (
        "select * exclude (flags, sequence, date, items_of, newest, repaired, latest) from ("
        f"select *, {newest} as newest, {repaired} as repaired, {latest} as latest "
        f"from ({_states_sql(data, chosen.sources)})) "
        "where latest = 1 and not (cause = 'disconnect' and state = 'closed' and "
        f"{'missing is not distinct from 0' if outages else 'missing is not null'}) "
        "and not (state = 'open' and tape_offset < newest) "
        "and not (state = 'closed' and coalesce(tape_offset < repaired, false)) "
        f"and {' and '.join(where)} order by ts_detected, ts_detected_ns, tape_offset"
    )


def _states_sql(data: Path, sources: Sequence[str]) -> str:
    """Returns SQL that gives all states, with the tape whose items are lost."""
    noted = [row for source in sources for row in _noted_rows(data, source)]
    body = "select * from gaps" + (f" union all by name ({_noted_sql(noted)})" if noted else "")
    lost = f"cause in ({quote(RETENTION)}, {quote(DAMAGE)})"
    names = " ".join(
        f"when {topic_number(topic)} then {quote(topic)}" for topic in _topics(data, sources)
    )
    return (
        f"select * replace (case when ts_to >= {LEAST} then ts_to end as ts_to, "
        f"case when ts_to >= {LEAST} then ts_to_ns end as ts_to_ns), "
        f"case when {lost} then sequence end as items_of, "
        f"case when {lost} then case sequence {names} end end as topic from ({body})"
    )


def _topics(data: Path, sources: Sequence[str]) -> list[str]:
    tapes = {path.name for source in sources for path in tapes_of(data, source)}
    return sorted({RAW, *lake.TOPICS, *tapes})


def _noted_rows(data: Path, source: str) -> Iterator[str]:
    for path, loss in read_losses(data, source):
        try:
            detected = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        if not isinstance(loss, Loss):
            # Something is lost; a damaged note does not tell what.
            yield _row(source, DAMAGE, [None, None, None, None, None, None, detected])
            continue
        known = [None if ts == UNKNOWN else ts for ts in (loss.ts_start, loss.ts_end)]
        missing = min(loss.last - loss.first + 1, COUNT_MAX)
        number = topic_number(loss.topic)
        yield _row(source, loss.cause, [missing, loss.first, loss.last, number, *known, detected])


def _row(source: str, cause: str, values: list[int | None]) -> str:
    numbers = ", ".join("null" if value is None else str(value) for value in values)
    return f"({quote(source)}, {quote(cause)}, {numbers})"


def _noted_sql(rows: list[str]) -> str:
    """Returns the rows with the names and types of the table."""
    times = ", ".join(
        f"make_timestamptz({name}::bigint // 1000) as {name}, "
        f"({name}::bigint % 1000)::smallint as {name}_ns"
        for name in ("ts_from", "ts_to", "ts_detected")
    )
    return (
        "select venue, cause, 'closed' as state, 'session' as channel, "
        "missing::uinteger as missing, first_missing::ubigint as first_missing, "
        f"last_missing::ubigint as last_missing, sequence::ubigint as sequence, {times} "
        f"from (values {', '.join(rows)}) as noted(venue, cause, missing, first_missing, "
        "last_missing, sequence, ts_from, ts_to, ts_detected)"
    )
