"""What to say beside an answer: what is missing in it, and names that match nothing.

An answer that nothing is said of is whole: what a query narrows down in a way that is not known for
sure counts as not narrowed.
"""

from __future__ import annotations

from tapeworks.views.asked import Asked, asked_in, is_of_all_lengths
from tapeworks.views.coverage import Ledger, told
from tapeworks.views.query import Engine, Params, table_of
from tapeworks.views.symbols import Chosen, Instruments
from tapeworks.views.watched import unwatched

# Of several symbols that are of several sources, so many are looked at.
SHARED_MAX = 3
# Its rows are what rules found: where none looked, none are no news.
ALERTS = "alerts"


def notices_of_sql(
    engine: Engine, instruments: Instruments, ledger: Ledger, sql: str, params: Params | None
) -> list[str]:
    """Returns what to say beside the answer to `sql`."""
    lines = []
    if is_of_all_lengths(sql):
        lines.append(
            "bars holds bars of all lengths, which sums count several times: bars_1m and the like "
            "hold those of one, or add `where interval_ms = 60000`"
        )
    asked = [
        one
        for one in asked_in(engine, sql, params)
        if table_of(one.table).channels or one.table == ALERTS
    ]
    if not asked:
        return lines
    sources = engine.sources()
    if not sources:
        return [*lines, "nothing is recorded here"]
    symbols = {name: set(instruments.all_symbols(name)) for name in sources}
    names = list(dict.fromkeys(name for one in asked for name in _unknown(one, symbols)))
    coverages = []
    for one in asked:
        chosen = _chosen(one, symbols)
        is_empty = one.first is not None and one.last is not None and one.first >= one.last
        if chosen is None or is_empty:
            # Nothing was asked for that could be there.
            continue
        if one.takes_together:
            names += _shared(one, chosen, instruments)
        if one.table == ALERTS:
            lines += unwatched(engine, ledger.data, chosen, one.first, one.last)
            continue
        table = table_of(one.table)
        coverages.append(ledger.coverage(chosen, one.first, one.last, table.channels, table.topic))
    return [*lines, *dict.fromkeys(names), *told(coverages)]


def _unknown(asked: Asked, symbols: dict[str, set[str]]) -> list[str]:
    lines = []
    every = set().union(*symbols.values())
    for name in sorted((asked.symbols or set()) - every):
        if name.upper() in every:
            lines.append(f"symbols are compared as they are stored: {name!r} is {name.upper()!r}")
        else:
            lines.append(f"{name!r} was never recorded: `tape sources` lists what was")
    for name in sorted((asked.sources or set()) - symbols.keys()):
        lines.append(f"{name!r} is no source: there are {', '.join(symbols)}")
    return lines


def _chosen(asked: Asked, symbols: dict[str, set[str]]) -> Chosen | None:
    """Returns the sources and symbols that are meant; none if there are none of them."""
    sources = [name for name in symbols if asked.sources is None or name in asked.sources]
    if asked.symbols is None:
        return Chosen(sources, None) if sources else None
    found = {name: sorted(symbols[name].intersection(asked.symbols)) for name in sources}
    found = {name: held for name, held in found.items() if held}
    return Chosen(list(found), found) if found else None


def _shared(asked: Asked, chosen: Chosen, instruments: Instruments) -> list[str]:
    """Says which symbols are of several instruments, whose rows are taken together."""
    if len(chosen.sources) < 2:
        return []
    held = chosen.symbols or {name: instruments.all_symbols(name) for name in chosen.sources}
    every = [name for names in held.values() for name in names]
    shared = sorted({name for name in every if every.count(name) > 1})
    lines = []
    for symbol in shared[:SHARED_MAX]:
        sources = [name for name in instruments.holders(symbol) if name in chosen.sources]
        if len(sources) > 1:
            lines.append(
                f"{symbol} is of {' and '.join(sources)}, which are taken together: add "
                f"`venue = {sources[0]!r}`, or group by venue"
            )
    return lines
