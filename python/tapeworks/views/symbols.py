"""Which instruments a name means: the venue's own symbol or the canonical one, by source.

A name that could mean two instruments is an error that lists them. A venue may define symbols that
are not recorded: those of which nothing is held are no choice where another is.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.views.query import Engine, Scope, quote

ALL_SOURCES = "*"
# Whatever is recorded of an instrument, something of it is in one of these.
EVIDENCE = ("trades", "quotes", "marks", "venue_bars", "book_levels", "bars", "ticks")


@dataclass(frozen=True)
class Chosen:
    """What a question is about: sources, and the symbols of each by the venue's name."""

    sources: list[str]
    symbols: dict[str, list[str]] | None
    """None means all."""

    @property
    def names(self) -> list[str]:
        """The symbols of all sources, each once."""
        return list(
            dict.fromkeys(name for names in (self.symbols or {}).values() for name in names)
        )

    def condition(self) -> str:
        """Returns what must hold of a row, as SQL."""
        if self.symbols is None:
            return "true"
        wanted = [f"symbol in ({', '.join(map(quote, names))})" for names in self.symbols.values()]
        if len(set(wanted)) == 1:
            return wanted[0]
        by_source = zip(self.symbols, wanted, strict=True)
        return f"({' or '.join(f'(venue = {quote(s)} and {test})' for s, test in by_source)})"


class Instruments:
    """The instruments of a data folder by name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: set[tuple[str, str]] = set()

    def sources(self, source: str | None) -> list[str]:
        """Returns the sources that `source` means: one, or all for none and `*`.

        Raises:
            QueryError: there is no such source.
        """
        known = self._engine.sources()
        if source is None or source == ALL_SOURCES:
            return known
        if source not in known:
            raise QueryError(
                f"expected a source of {', '.join(known) or 'none'}, or '*' for all, got {source!r}"
            )
        return [source]

    def choose(
        self,
        symbols: str | Sequence[str] | None,
        source: str | None,
        *,
        every: bool = False,
        asked_for: bool = False,
    ) -> Chosen:
        """Returns what `symbols` of `source` mean; with `every`, those of all sources.

        With `asked_for`, a symbol that a recorder subscribed need not be defined: one that the
        venue refused never is.

        Raises:
            QueryError: a name was never recorded, or means several instruments.
        """
        sources = self.sources(source)
        if symbols is None:
            return Chosen(sources, None)
        every = every or source is not None
        found: dict[str, list[str]] = {}
        known = {name: self._known(name) for name in sources}
        if asked_for:
            known = {name: (s | self._asked_for(name), c) for name, (s, c) in known.items()}
        for asked in [symbols] if isinstance(symbols, str) else symbols:
            matches = self._matches(asked, known)
            if len(matches) > 1 and not every:
                held = {s: m for s, m in matches.items() if self._is_held(s, m)}
                if len(held) > 1:
                    raise _ambiguous(asked, held)
                matches = held or matches
            for name, symbol in matches.items():
                found.setdefault(name, []).append(symbol)
        return Chosen(list(found), found)

    def all_symbols(self, source: str | None) -> list[str]:
        """Returns all symbols that are defined, ascending."""
        return sorted({s for name in self.sources(source) for s in self._known(name)[0]})

    def _known(self, source: str) -> tuple[set[str], dict[str, set[str]]]:
        """Returns the venue's symbols, and those that a canonical symbol stands for."""
        records = self._engine.tail(source).symbols().records()
        table = pa.record_batch(records.arrow("definition"))
        symbols = table.column("symbol").to_pylist()
        canonical: dict[str, set[str]] = {}
        for name, symbol in zip(table.column("canonical").to_pylist(), symbols, strict=True):
            if name:
                canonical.setdefault(name, set()).add(symbol)
        return set(symbols), canonical

    def _asked_for(self, source: str) -> set[str]:
        sql = "select distinct symbol from subscriptions where symbol <> ''"
        found = self._engine.run(sql, ["subscriptions"], Scope([source]))
        return set(found.column(0).to_pylist())

    def _matches(
        self, asked: str, known: dict[str, tuple[set[str], dict[str, set[str]]]]
    ) -> dict[str, str]:
        if not isinstance(asked, str):
            raise QueryError(f"expected a symbol such as 'BTCUSDT', got {asked!r}")
        matches: dict[str, str] = {}
        for source, (symbols, canonical) in known.items():
            for name in (asked, asked.upper()):
                meant = {name} if name in symbols else canonical.get(name, set())
                if len(meant) > 1:
                    listed = ", ".join(sorted(meant))
                    raise QueryError(
                        f"{asked!r} of {source} is several instruments: ask for {listed}"
                    )
                if meant:
                    matches[source] = next(iter(meant))
                    break
        if not matches:
            raise _unknown(asked, known)
        return matches

    def _is_held(self, source: str, symbol: str) -> bool:
        if (source, symbol) not in self._held:
            for table in EVIDENCE:
                sql = f"select 1 from {table} where symbol = {quote(symbol)} limit 1"
                if self._engine.run(sql, [table], Scope([source])).num_rows:
                    self._held.add((source, symbol))
                    break
        return (source, symbol) in self._held


def _ambiguous(asked: str, matches: dict[str, str]) -> QueryError:
    choices = ", ".join(f"{symbol} of {source}" for source, symbol in matches.items())
    return QueryError(
        f"{asked!r} could be {choices}: choose with source={next(iter(matches))!r} "
        "(--source), or take all with source='*'"
    )


def _unknown(asked: str, known: dict[str, tuple[set[str], dict[str, set[str]]]]) -> QueryError:
    symbols = {name for found, _ in known.values() for name in found}
    every = symbols | {name for _, canonical in known.values() for name in canonical}
    near = difflib.get_close_matches(asked.upper(), every, n=3, cutoff=0.4)
    some = near or sorted(symbols)[:5]
    if not some:
        return QueryError(f"{asked!r} was never recorded; no symbol was")
    listed = f"{'near it are' if near else 'there are'} {', '.join(some)}"
    return QueryError(f"{asked!r} was never recorded; {listed}")
