"""The door to everything that is stored: `tw.open("data")`.

Reads only. A question sees the files and the tape behind them as of one instant, each row once,
while recorder and sink go on.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tapeworks._core import Records
from tapeworks.errors import QueryError
from tapeworks.views.books import BookAt, Books
from tapeworks.views.conditions import before_time, from_time, symbol_condition, time_condition
from tapeworks.views.past_books import Clock
from tapeworks.views.query import Engine, Scope, tables_in
from tapeworks.views.replay import DEFAULT_KINDS, Replay
from tapeworks.views.result import Result
from tapeworks.views.times import TimeLike, format_time, parse_interval, parse_time

Symbols = str | Sequence[str]


def open(path: str | Path = "data") -> "Lake":  # noqa: A001
    """Opens a data folder for reading.

    Raises:
        QueryError: there is no such folder, or nothing was recorded in it.
    """
    data = Path(path)
    if not (data / "tape").is_dir() and not (data / "lake").is_dir():
        raise QueryError(
            f"nothing is recorded in {data.absolute()}: `tape record binance BTCUSDT` records into "
            "./data, `tape demo` makes an example"
        )
    return Lake(data)


class Lake:
    """One data folder: trades, quotes, books and bars by symbol and time, and SQL over all."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._engine = Engine(data)
        self._books = Books(data)

    def __repr__(self) -> str:
        return f"Lake({str(self._data)!r}: {', '.join(self.sources()) or 'no sources'})"

    def sources(self) -> list[str]:
        """Returns the names of all sources that were recorded."""
        return self._engine.sources()

    def trades(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
    ) -> Result:
        """Returns trades with `start <= ts_event < end`, by time."""
        return self._rows("trades", symbols, start, end, source)

    def quotes(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
    ) -> Result:
        """Returns changes of best bid and offer, by time."""
        return self._rows("quotes", symbols, start, end, source)

    def ticks(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
    ) -> Result:
        """Returns the uniform view: bid, ask, last price, volume."""
        return self._rows("ticks", symbols, start, end, source)

    def bars(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        interval: str | int = "1m",
        source: str | None = None,
    ) -> Result:
        """Returns finished bars of `interval` that were built from trades.

        Raises:
            QueryError: no bars of that length are built; the message lists those that are.
        """
        length = parse_interval(interval)
        condition = f"interval_ms = {length} and closed = 1"
        found = self._rows("bars", symbols, start, end, source, condition)
        if not len(found):
            sql = "select distinct interval_ms from bars order by 1"
            held = self._engine.run(sql, ["bars"], Scope()).column(0).to_pylist()
            if held and length not in held:
                raise QueryError(
                    f"no bars of {length} ms are built; there are {', '.join(map(str, held))} ms: "
                    "add it to bars_ms in [processors]"
                )
        return found

    def snapshots(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
    ) -> Result:
        """Returns the best 20 levels of proven books, about once a second."""
        return self._rows("book_snapshots", symbols, start, end, source)

    def book(
        self,
        symbol: str,
        at: TimeLike | None = None,
        *,
        source: str | None = None,
        clock: Clock = "event",
    ) -> BookAt:
        """Returns the proven book of `symbol` as of `at` (all of it up to that ns), or the newest.

        `clock` says whose time `at` is: the venue's (`event`) or this host's (`receipt`).

        Raises:
            QueryError: the book was not proven at that instant; the message says since when.
        """
        [name] = self._check_symbols([symbol], source)
        ts = None if at is None else parse_time(at)
        refusal: QueryError | None = None
        for candidate in self._sources(source) or self.sources():
            known = self._engine.tail(candidate).symbols().ids()
            ids = [number for found, number in known if found == name]
            if not ids:
                continue
            try:
                tail = self._engine.tail(candidate)
                return self._books.at(tail, candidate, name, ids, ts, clock)
            except QueryError as error:
                refusal = refusal or error
        raise refusal or QueryError(f"{symbol!r} has no book")

    def instruments(self, *, source: str | None = None) -> Result:
        """Returns what is known of each instrument now."""
        sql = (
            "select * exclude (tape_offset, flags, sequence, feed, date, ts_event, ts_event_ns, "
            "ts_recv, ts_recv_ns) from instruments qualify row_number() over "
            "(partition by venue, instrument order by tape_offset desc) = 1 order by venue, symbol"
        )
        scope = Scope(sources=self._sources(source))
        return Result(self._engine.run(sql, ["instruments"], scope), "instruments")

    def gaps(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
    ) -> Result:
        """Returns the ledger of what was lost: the latest state of each gap that touches."""
        first, last = _range(start, end)
        names = None if symbols is None else self._check_symbols(symbols, source)
        return self._gaps(names, first, last, source)

    def dead_letters(
        self,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
    ) -> Result:
        """Returns frames that could not be decoded, by time of receipt, with their bytes.

        `frame` is what was received, byte for byte; `reason` and `byte` say why and where decoding
        stopped. A null frame means that retention took it before it could be copied.
        """
        return self._rows("dead_letters", None, start, end, source)

    def sql(self, query: str) -> Result:
        """Runs SQL (DuckDB) over the lake's tables and what is on the tape behind them.

        Raises:
            QueryError: the query is wrong; the message is DuckDB's.
        """
        found = self._engine.run(query, tables_in(query), Scope())
        return Result(found, "query")

    def replay(
        self,
        symbols: Symbols | None = None,
        kinds: Sequence[str] = DEFAULT_KINDS,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        speed: float | None = None,
        source: str | None = None,
        batch_records: int = 65_536,
    ) -> Iterator[Records]:
        """Yields records as they came, several instruments and kinds merged by receive time.

        `speed` 1 takes as long as it took, 10 a tenth of it, none no time at all. Memory is
        bounded whatever the range. `Records.arrow(kind)` and `Records.numpy(kind)` give columns.

        Raises:
            QueryError: a symbol or a kind is not known, or the range is not on the tape any more.
        """
        names = None if symbols is None else self._check_symbols(symbols, source)
        return iter(
            Replay(
                self._data,
                self._engine,
                self._sources(source) or self.sources(),
                names,
                tuple(kinds),
                *_range(start, end),
                speed,
                batch_records,
            )
        )

    def symbols(self, *, source: str | None = None) -> list[str]:
        """Returns all symbols, ascending."""
        known = self._known(source)
        return sorted(set(known.values()))

    def _rows(
        self,
        table: str,
        symbols: Symbols | None,
        start: TimeLike | None,
        end: TimeLike | None,
        source: str | None,
        condition: str = "true",
    ) -> Result:
        first, last = _range(start, end)
        names = None if symbols is None else self._check_symbols(symbols, source)
        where = [condition, *symbol_condition(names), *time_condition("ts_event", first, last)]
        scope = Scope(self._sources(source), first, last)
        sql = (
            f"select * exclude (date) from {table} where {' and '.join(where)} "
            "order by ts_event, ts_event_ns, tape_offset"
        )
        found = self._engine.run(sql, [table], scope)
        if not found.num_rows:
            self._check_range(table, names, scope)
        title = " ".join([table, *(names or [])])
        return Result(found, title, lambda: self._gaps(names, first, last, source))

    def _gaps(
        self,
        symbols: list[str] | None,
        first: int | None,
        last: int | None,
        source: str | None,
    ) -> Result:
        where = ["true"]
        if symbols is not None:
            where = [f"(symbol is null or {symbol_condition(symbols)[0]})"]
        # An open gap goes on; one whose beginning is not known began at any time before.
        if first is not None:
            where.append(f"(state = 'open' or {from_time('ts_to', first)})")
        if last is not None:
            where.append(f"(ts_from is null or {before_time('ts_from', last)})")
        sql = (
            "select * exclude (flags, sequence, date, latest) from (select *, row_number() over ("
            "partition by venue, symbol, channel, cause, first_missing, ts_from, ts_from_ns "
            "order by tape_offset desc) as latest from gaps) "
            f"where latest = 1 and {' and '.join(where)} order by ts_detected, ts_detected_ns"
        )
        scope = Scope(sources=self._sources(source))
        found = self._engine.run(sql, ["gaps"], scope)
        return Result(found, " ".join(["gaps", *(symbols or [])]))

    def _check_range(self, table: str, symbols: list[str] | None, scope: Scope) -> None:
        # An empty answer within what is held is an answer; outside of it, it is a mistake.
        if scope.start is None and scope.end is None:
            return
        where = " and ".join(["true", *symbol_condition(symbols)])
        sql = f"select epoch_ns(min(ts_event)), epoch_ns(max(ts_event)) from {table} where {where}"
        held = self._engine.run(sql, [table], replace(scope, start=None, end=None))
        low, high = held.column(0)[0].as_py(), held.column(1)[0].as_py()
        what = f"{table} of {', '.join(symbols)}" if symbols else table
        if low is None:
            raise QueryError(f"no {what} are held at all")
        outside = (scope.end is not None and scope.end <= low) or (
            scope.start is not None and scope.start > high
        )
        if outside:
            raise QueryError(
                f"no {what} in that range; held are {format_time(low)} to {format_time(high)}"
            )

    def _sources(self, source: str | None) -> list[str] | None:
        if source is None:
            return None
        known = self.sources()
        if source not in known:
            raise QueryError(f"wanted a source of {', '.join(known)}; found {source!r}")
        return [source]

    def _known(self, source: str | None) -> dict[str, str]:
        """Returns every name by which a symbol may be asked for, with the venue's symbol."""
        known: dict[str, str] = {}
        for name in self._sources(source) or self.sources():
            table = pa.record_batch(self._engine.tail(name).symbols().records().arrow("definition"))
            symbols = table.column("symbol").to_pylist()
            for canonical, symbol in zip(
                table.column("canonical").to_pylist(), symbols, strict=True
            ):
                if canonical:
                    known.setdefault(canonical, symbol)
            known.update({symbol: symbol for symbol in symbols})
        return known

    def _check_symbols(self, symbols: Symbols, source: str | None) -> list[str]:
        known = self._known(source)
        found = []
        for symbol in [symbols] if isinstance(symbols, str) else symbols:
            match = known.get(symbol) or known.get(symbol.upper())
            if match is None:
                near = difflib.get_close_matches(symbol.upper(), known, n=3, cutoff=0.4)
                some = near or sorted(set(known.values()))[:5]
                raise QueryError(
                    f"{symbol!r} was never recorded; "
                    + (
                        f"{'near it are' if near else 'there are'} {', '.join(some)}"
                        if some
                        else "no symbol was"
                    )
                )
            found.append(match)
        return found


def _range(start: TimeLike | None, end: TimeLike | None) -> tuple[int | None, int | None]:
    first = None if start is None else parse_time(start)
    last = None if end is None else parse_time(end)
    if first is not None and last is not None and first >= last:
        raise QueryError(
            f"wanted start before end; found {format_time(first)} and {format_time(last)}"
        )
    return first, last
