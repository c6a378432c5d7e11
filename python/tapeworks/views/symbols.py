"""Which instruments a name means: the venue's own symbol or the canonical one, by source.

A name that could mean two instruments is an error that lists them. A venue may define symbols that
are not recorded: those of which nothing is held are no choice where another is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tapeworks._core import numbers
from tapeworks.errors import ArgumentError
from tapeworks.nearest import nearest
from tapeworks.views.query import Engine, Scope, quote

ALL_SOURCES = "*"
OWN_FEED = "foreign"
FEEDS = {number: name for name, number in numbers("feed").items()}
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

    def with_all_of(self, other: "Chosen") -> "Chosen":
        """Returns what either is about."""
        sources = list(dict.fromkeys([*self.sources, *other.sources]))
        if self.symbols is None or other.symbols is None:
            return Chosen(sources, None)
        return Chosen(sources, {**self.symbols, **other.symbols})

    def condition(self) -> str:
        """Returns what must hold of a row, as SQL."""
        if self.symbols is None:
            return "true"
        wanted = [f"symbol in ({', '.join(map(quote, names))})" for names in self.symbols.values()]
        if len(set(wanted)) == 1:
            return wanted[0]
        by_source = zip(self.symbols, wanted, strict=True)
        return f"({' or '.join(f'(venue = {quote(s)} and {test})' for s, test in by_source)})"


@dataclass(frozen=True)
class Known:
    """The instruments of one source by name."""

    products: dict[str, str]
    """The venue's symbols, and what each is: spot, perpetual and so on; empty: not known."""
    canonical: dict[str, set[str]]
    """The venue's symbols that a canonical one stands for."""
    exchange: str

    def only(self, product: str) -> "Known":
        """Returns those of one product."""
        kept = {symbol: one for symbol, one in self.products.items() if one == product}
        canonical = {name: meant & kept.keys() for name, meant in self.canonical.items()}
        return Known(kept, {n: meant for n, meant in canonical.items() if meant}, self.exchange)


class Instruments:
    """The instruments of a data folder by name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: set[tuple[str, str]] = set()
        self._exchanges: dict[str, str] = {}

    def sources(self, source: str | None, exchange: str | None = None) -> list[str]:
        """Returns the sources that are meant: one, or all for none and `*`; those of `exchange`.

        Raises:
            ArgumentError: there is no such source or exchange.
        """
        known = self._engine.sources()
        if source is not None and source != ALL_SOURCES:
            if source not in known:
                listed = ", ".join(known) or "none"
                raise ArgumentError(
                    f"expected a source of {listed}, or '*' for all, got {source!r}"
                )
            known = [source]
        if exchange is None:
            return known
        exchanges = {name: self.exchange(name) for name in known}
        found = [name for name in known if exchanges[name] == str(exchange).lower()]
        if not found:
            listed = ", ".join(sorted(set(exchanges.values()))) or "none"
            raise ArgumentError(f"expected an exchange of {listed}, got {exchange!r}")
        return found

    def exchange(self, source: str) -> str:
        """Returns the exchange of a source: what the name of its feed begins with.

        Of a feed of the user's own, it is what the name of the source begins with.

        Raises:
            ArgumentError: there is no such source.
        """
        known = self._engine.sources()
        if source not in known:
            raise ArgumentError(
                f"expected a source of {', '.join(known) or 'none'}, got {source!r}"
            )
        if source not in self._exchanges:
            found = self._known(source)
            if not found.products:
                # A source without a definition may yet turn out to be of a feed of the core.
                return found.exchange
            self._exchanges[source] = found.exchange
        return self._exchanges[source]

    def choose(
        self,
        symbols: str | Sequence[str] | None,
        source: str | None,
        exchange: str | None = None,
        product: str | None = None,
        *,
        every: bool = False,
        asked_for: bool = False,
    ) -> Chosen:
        """Returns what `symbols` mean among those of `source`, `exchange` and `product`.

        With `every`, as with a source or `*` for all, they may mean several instruments. With
        `asked_for`, a symbol that a recorder subscribed need not be defined: one that the venue
        refused never is.

        Raises:
            ArgumentError: a name was never recorded, or means several instruments.
        """
        sources = self.sources(source, exchange)
        if symbols is None and product is None:
            return Chosen(sources, None)
        known = self._among(sources, product)
        if symbols is None:
            return Chosen(list(known), {n: sorted(one.products) for n, one in known.items()})
        if asked_for and product is None:
            for name, one in known.items():
                one.products.update(dict.fromkeys(self._asked_for(name) - one.products.keys(), ""))
        found: dict[str, list[str]] = {}
        for asked in _names(symbols):
            matches = _matches(asked, known, product)
            if not every and source is None:
                matches = self._only_held(matches)
                if len(matches) > 1:
                    raise _ambiguous(asked, matches, known, ", or take all with source='*'")
            for name, symbol in matches.items():
                found.setdefault(name, []).append(symbol)
        return Chosen(list(found), found)

    def choose_one(
        self,
        symbol: str,
        source: str | None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> tuple[str, str]:
        """Returns source and symbol of the one instrument that `symbol` means.

        Raises:
            ArgumentError: it was never recorded, or means several instruments.
        """
        known = self._among(self.sources(source, exchange), product)
        matches = self._only_held(_matches(symbol, known, product))
        if len(matches) > 1:
            raise _ambiguous(symbol, matches, known, "")
        [found] = matches.items()
        return found

    def all_symbols(
        self, source: str | None, exchange: str | None = None, product: str | None = None
    ) -> list[str]:
        """Returns all symbols that are defined, ascending."""
        known = self._among(self.sources(source, exchange), product)
        return sorted({symbol for one in known.values() for symbol in one.products})

    def holders(self, symbol: str) -> list[str]:
        """Returns the sources that hold something of `symbol`, as it is stored."""
        every = {name: self._known(name).products for name in self._engine.sources()}
        return [
            name for name, one in every.items() if symbol in one and self._is_held(name, symbol)
        ]

    def _among(self, sources: list[str], product: str | None) -> dict[str, Known]:
        known = {name: self._known(name) for name in sources}
        if product is None:
            return known
        products = {one for found in known.values() for one in found.products.values() if one}
        wanted = str(product).lower()
        if wanted not in products:
            listed = ", ".join(sorted(products)) or "none"
            raise ArgumentError(f"expected a product of {listed}, got {product!r}")
        only = {name: found.only(wanted) for name, found in known.items()}
        return {name: found for name, found in only.items() if found.products}

    def _known(self, source: str) -> Known:
        records = self._engine.tail(source).symbols().records()
        table = pa.record_batch(records.arrow("definition"))
        symbols, classes, names, feeds = (
            table.column(name).to_pylist()
            for name in ("symbol", "asset_class", "canonical", "feed")
        )
        canonical: dict[str, set[str]] = {}
        for name, symbol in zip(names, symbols, strict=True):
            if name:
                canonical.setdefault(name, set()).add(symbol)
        products = {s: one or "" for s, one in zip(symbols, classes, strict=True)}
        feed = FEEDS.get(feeds[-1], OWN_FEED) if feeds else OWN_FEED
        named = source if feed == OWN_FEED else feed
        return Known(products, canonical, named.partition("-")[0])

    def _asked_for(self, source: str) -> set[str]:
        sql = "select distinct symbol from subscriptions where symbol <> ''"
        found = self._engine.run(sql, ["subscriptions"], Scope([source]))
        return set(found.column(0).to_pylist())

    def _only_held(self, matches: dict[str, str]) -> dict[str, str]:
        """Leaves out those of several of which nothing is held, where something is of another."""
        if len(matches) == 1:
            return matches
        return {s: m for s, m in matches.items() if self._is_held(s, m)} or matches

    def _is_held(self, source: str, symbol: str) -> bool:
        if (source, symbol) not in self._held:
            for table in EVIDENCE:
                sql = f"select 1 from {table} where symbol = {quote(symbol)} limit 1"
                if self._engine.run(sql, [table], Scope([source])).num_rows:
                    self._held.add((source, symbol))
                    break
        return (source, symbol) in self._held


def _names(symbols: object) -> list[str]:
    if isinstance(symbols, str):
        return [symbols]
    if not isinstance(symbols, Iterable):
        raise ArgumentError(f"expected a symbol such as 'BTCUSDT', or several, got {symbols!r}")
    names = list(dict.fromkeys(symbols))
    if not names:
        raise ArgumentError("expected one symbol or more, or None for all, got an empty list")
    return names


def _matches(asked: str, known: dict[str, Known], product: str | None) -> dict[str, str]:
    """Returns source and symbol of each instrument that `asked` may mean, one a source."""
    if not isinstance(asked, str):
        raise ArgumentError(f"expected a symbol such as 'BTCUSDT', got {asked!r}")
    matches: dict[str, str] = {}
    for source, one in known.items():
        for name in (asked, asked.upper()):
            meant = {name} if name in one.products else one.canonical.get(name, set())
            if len(meant) > 1:
                raise _several(asked, source, sorted(meant), one)
            if meant:
                matches[source] = next(iter(meant))
                break
    if not matches:
        raise _unknown(asked, known, product)
    return matches


def _several(asked: str, source: str, meant: list[str], known: Known) -> ArgumentError:
    products = [known.products[symbol] for symbol in meant]
    advice = f"ask for {', '.join(meant)}"
    if len(set(products)) == len(products) and all(products):
        advice += f", or with product={products[0]!r} (--product)"
    return ArgumentError(f"{asked!r} of {source} is several instruments: {advice}")


def _ambiguous(
    asked: str, matches: dict[str, str], known: dict[str, Known], more: str
) -> ArgumentError:
    choices = ", ".join(f"{symbol} of {source}" for source, symbol in matches.items())
    ways = [f"source={next(iter(matches))!r} (--source)"]
    for way, values in (
        ("exchange", [known[source].exchange for source in matches]),
        ("product", [known[source].products[symbol] for source, symbol in matches.items()]),
    ):
        # A way that tells them apart; a product may not be known.
        if len(set(values)) == len(values) and all(values):
            ways.append(f"{way}={values[0]!r} (--{way})")
    return ArgumentError(f"{asked!r} could be {choices}: choose with {' or '.join(ways)}{more}")


def _unknown(asked: str, known: dict[str, Known], product: str | None) -> ArgumentError:
    symbols = {symbol for one in known.values() for symbol in one.products}
    every = symbols | {name for one in known.values() for name in one.canonical}
    near = nearest(asked.upper(), every, 3, likeness=0.4)
    some = near or sorted(symbols)[:5]
    what = f"{asked!r} was never recorded{f' as {product}' if product else ''}"
    if not some:
        return ArgumentError(f"{what}; no symbol was")
    return ArgumentError(f"{what}; {'near it are' if near else 'there are'} {', '.join(some)}")
