"""Read API for a data folder: `tw.open("data")`.

Reads only. A question sees the files and the tape behind them as of one instant, each row once,
while recorder and sink go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.bars import Bars
from tapeworks.views.batches import DEFAULT_KINDS, Batch
from tapeworks.views.books import BookAt, outage
from tapeworks.views.conditions import parse_range
from tapeworks.views.contents import contents
from tapeworks.views.coverage import Coverage
from tapeworks.views.follow import Live
from tapeworks.views.found_alerts import Alerts
from tapeworks.views.markouts import Markouts
from tapeworks.views.measures import Measures
from tapeworks.views.notices import notices_of_sql
from tapeworks.views.opened import Symbols
from tapeworks.views.order_books import OrderBookAt
from tapeworks.views.past_books import Clock, check_clock
from tapeworks.views.published import Published, address_of
from tapeworks.views.query import Params, Scope, check_table, tables_in
from tapeworks.views.recorded import channel_groups
from tapeworks.views.replay import Replay
from tapeworks.views.result import Result
from tapeworks.views.scan import Scans
from tapeworks.views.stories import Stories
from tapeworks.views.times import TimeLike, format_time, parse_time

ORDERS_HINT = "it has single orders, whose book `--orders` (depth='orders') makes"


def open(  # noqa: A001
    path: str | Path = "data", *, external_access: bool = False, cache: Path | None = None
) -> Lake:
    """Opens a data folder for reading, or a history that was published to Iceberg.

    That is `s3://bucket/prefix`, or a folder, as `tape publish iceberg` was given. What a question
    needs of it is fetched to `cache`, by default in `~/.cache/tapeworks`.

    SQL reads the lake alone and changes nothing; with `external_access` it may do all that DuckDB
    can: read and write any file, attach databases, load extensions.

    Raises:
        QueryError: there is no such folder, or nothing was recorded in it.
    """
    if (address := address_of(path)) is not None:
        published = Published(address, cache)
        return Lake(published.folder, external_access=external_access, published=published)
    data = Path(path)
    if not (data / "tape").is_dir() and not (data / "lake").is_dir():
        raise QueryError(
            f"nothing is recorded in {data.absolute()}: `tape record binance BTCUSDT` records into "
            "./data, `tape demo` makes an example"
        )
    return Lake(data, external_access=external_access)


class Lake(Alerts, Bars, Live, Markouts, Measures, Scans, Stories):
    """One data folder: trades, quotes, books and bars by symbol and time, and SQL over all.

    A symbol is the venue's own or the canonical one (`BTC-USDT`), none means all. One that could
    mean several instruments is an error that lists them: choose with `source` (`binance-spot`),
    `exchange` (`binance`) or `product` (`spot`, `perpetual`, `future` and so on), or take all with
    `source="*"`. The column `venue` of each row holds its source. Of gaps and coverage, all that a
    symbol may mean is told, since each row names its source.

    A range is `start <= time < end`, in UTC. Where nothing is held of it there are no rows, and the
    answer tells why: a loop over days goes on. A name that was never recorded, and an end that is
    not behind the start, are errors. A time is text in ISO form, a datetime or date, of
    NumPy, pandas or Arrow, or an integer of ns since 1970; without a zone it is UTC.
    """

    def __repr__(self) -> str:
        if self._engine.is_closed:
            return f"Lake({self._name!r}: closed)"
        return f"Lake({self._name!r}: {', '.join(self.sources()) or 'no sources'})"

    def sources(self) -> list[str]:
        """Returns the names of all sources that were recorded."""
        return self._engine.sources()

    def exchange(self, source: str) -> str:
        """Returns the exchange of a source, such as `binance` of `binance-spot`.

        Raises:
            QueryError: there is no such source.
        """
        return self._instruments.exchange(source)

    def trades(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        as_of: TimeLike | None = None,
        follow: bool = False,
    ) -> Result:
        """Returns trades with `start <= ts_event < end`, by time.

        A trade that the venue cancelled later is not among them, and one that it corrected has the
        corrected price and size. With `as_of` they are as they were known here at that time: of
        what was received by then. All as they were told first are `original_trades`.
        """
        known = None if as_of is None else parse_time(as_of)
        return self._rows(
            "trades", symbols, start, end, source, exchange, product, as_of=known, follow=follow
        )

    def quotes(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        follow: bool = False,
    ) -> Result:
        """Returns changes of best bid and offer, by time; `follow` is as for `trades`."""
        return self._rows("quotes", symbols, start, end, source, exchange, product, follow=follow)

    def orders(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Result:
        """Returns events of single orders, by time; of feeds that tell of them."""
        return self._rows("orders", symbols, start, end, source, exchange, product)

    def ticks(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Result:
        """Returns the uniform view: bid, ask, last price, volume."""
        return self._rows("ticks", symbols, start, end, source, exchange, product)

    def snapshots(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Result:
        """Returns the best 20 levels of verified books, about once a second."""
        return self._rows("book_snapshots", symbols, start, end, source, exchange, product)

    @overload
    def book(
        self,
        symbol: str,
        at: TimeLike | None = None,
        *,
        depth: Literal["levels"] = "levels",
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        clock: Clock = "event",
        last: bool = False,
    ) -> BookAt: ...

    @overload
    def book(
        self,
        symbol: str,
        at: TimeLike | None = None,
        *,
        depth: Literal["orders"],
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        clock: Clock = "event",
        last: bool = False,
    ) -> OrderBookAt: ...

    def book(
        self,
        symbol: str,
        at: TimeLike | None = None,
        *,
        depth: Literal["levels", "orders"] = "levels",
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        clock: Clock = "event",
        last: bool = False,
    ) -> BookAt:
        """Returns the verified book of `symbol` as of `at` (up to and with that ns), or the newest.

        With `depth="orders"` it is made of single orders, where the feed tells of them, from the
        start of the day in New York on: each with its place in the queue. `is_whole` and `notice`
        then say whether all of the day was recorded.

        `clock` says whose time `at` is: the venue's (`event`) or this host's (`receipt`). After the
        end of a recording the newest is the last verified one; with `last` it is so wherever none
        was verified at that instant. Its `notice` then says why it is that of an earlier one.

        Raises:
            QueryError: the book was not verified at that instant, and the message says since when;
                nothing was received of that instant yet; or `symbol` means several instruments.
        """
        check_clock(clock)
        candidate, name = self._instruments.choose_one(symbol, source, exchange, product)
        ts = None if at is None else parse_time(at)
        if depth == "orders":
            return self._orders.at(name, candidate, ts, clock)
        if depth != "levels":
            raise QueryError(f"expected depth 'levels' or 'orders', got {depth!r}")
        tail = self._engine.tail(candidate)
        ids = [number for found, number in tail.symbols().ids() if found == name]
        try:
            book = self._books.at(tail, candidate, name, ids, ts, clock, last)
        except QueryError as error:
            if tail.files(TABLES["orders"])[0]:
                raise QueryError(f"{error}; {ORDERS_HINT}") from None
            raise
        since = None if book.notice else self._ledger.down_since(candidate, name, ts)
        if since is not None and not last:
            raise outage(book, since, ts)
        if since is not None:
            book.notice = f"its line is down since {format_time(since)}: this is the last verified"
        return book

    def instruments(
        self,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Result:
        """Returns what is known of each instrument now."""
        chosen = self._instruments.choose(None, source, exchange, product)
        sql = (
            "select * exclude (tape_offset, flags, sequence, feed, date, ts_event, ts_event_ns, "
            f"ts_recv, ts_recv_ns) from instruments where {chosen.condition()} qualify "
            "row_number() over (partition by venue, instrument order by tape_offset desc) = 1 "
            "order by venue, symbol"
        )
        scope = Scope(sources=chosen.sources)
        return Result(self._engine.run(sql, ["instruments"], scope), "instruments")

    def gaps(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Result:
        """Returns the ledger of what was lost: the latest state of each gap that touches."""
        chosen = self._instruments.choose(symbols, source, exchange, product, every=True)
        return self._ledger.gaps(chosen, *parse_range(start, end))

    def coverage(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        channel: str | None = None,
    ) -> Coverage:
        """Returns what keeps a range from being complete: gaps, and time not recorded or not known.

        Each channel that was ever asked for must have been subscribed; or `channel` alone, such as
        `trade`, `quote` or `depth`. No rows mean that all of it was recorded, and that the ledger
        has no gap in it.

        Raises:
            QueryError: there is no such symbol, source or channel.
        """
        chosen = self._instruments.choose(
            symbols, source, exchange, product, every=True, asked_for=True
        )
        return self._ledger.coverage(chosen, *parse_range(start, end), channel_groups(channel))

    def rows(
        self,
        table: str,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Result:
        """Returns rows of any table of the lake, by time; only days within the range are opened.

        Raises:
            QueryError: there is no such table, or as for `trades`.
        """
        check_table(table)
        return self._rows(table, symbols, start, end, source, exchange, product)

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
        return self._rows("dead_letters", None, start, end, source, None, None)

    def sql(self, query: str, params: Params | None = None) -> Result:
        """Runs SQL (DuckDB) over the lake's tables and what is on the tape behind them.

        `params` stand for `?` by place, or in a dictionary for `$name`: no text need be quoted.

        What the answer may lack is told by its `notices()`, and wherever it is shown.

        Raises:
            QueryError: the query is wrong; the message is DuckDB's.
        """
        found = self._engine.run(query, tables_in(query), Scope(), params)
        return Result(
            found,
            "query",
            keeps_names=True,
            notices=lambda: notices_of_sql(
                self._engine, self._instruments, self._ledger, query, params
            ),
        )

    def replay(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        kinds: str | Sequence[str] = DEFAULT_KINDS,
        speed: float | None = None,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        batch_records: int = 65_536,
    ) -> Iterator[Batch]:
        """Yields batches of records with `start <= ts_recv < end`, merged by that time.

        `kinds` are of trades, quotes, orders, depth, marks, venue_bars, definitions, markers,
        book_levels, bars, ticks and gaps. `speed` 1 takes as long as it took, 10 a tenth of it,
        none no time at all. Memory is bounded whatever the range. A batch has the records of a kind
        as a `Result` (`batch["trades"]`), and iterates over all of them in order as dictionaries;
        each has its source and symbol. All records of a batch are of the kinds that were asked for.

        Raises:
            QueryError: a symbol or a kind is not known, or the range is not on the tape any more.
        """
        chosen = self._instruments.choose(symbols, source, exchange, product)
        return iter(
            Replay(
                self._data,
                self._engine,
                chosen,
                (kinds,) if isinstance(kinds, str) else tuple(kinds),
                *parse_range(start, end),
                speed,
                batch_records,
            )
        )

    def symbols(
        self,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> list[str]:
        """Returns all symbols, ascending."""
        return self._instruments.all_symbols(source, exchange, product)

    def contents(self, *, source: str | None = None) -> Result:
        """Returns what is held by source, symbol and table: rows, first and last event time."""
        return Result(contents(self._engine, self._instruments.sources(source)), "contents")
