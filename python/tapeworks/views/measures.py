"""Values of metrics as a wide frame: a row for each moment, a column for each metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.nearest import nearest
from tapeworks.topics import METRICS
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.made_metrics import KINDS, make_metrics
from tapeworks.views.metric_names import Settings, can_be_made, settings_of
from tapeworks.views.metric_settings import changes
from tapeworks.views.opened import Opened, Symbols
from tapeworks.views.query import Scope, quote
from tapeworks.views.recorded import NOT_MEASURED
from tapeworks.views.replay import Replay
from tapeworks.views.result import Result, noting
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TimeLike
from tapeworks.views.valueless import reasons
from tapeworks.views.view_sql import MAYBE_BAD

TABLE = "metrics"
# Where nothing tells the columns of a frame apart from the moment.
MOMENT = ("venue", "symbol", "ts_event", "ts_event_ns")
NAMES_SHOWN = 40
BATCH_RECORDS = 65_536


class Measures(Opened):
    """What `Lake` gives of metrics."""

    def metrics(
        self,
        symbols: Symbols | None,
        names: str | Sequence[str],
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        make: bool | Settings = False,
    ) -> Result:
        """Returns a row for each moment that was measured, with a column for each of `names`.

        A name has its parameters: `ofi_10s` is that of 10 seconds. A null means that the metric had
        no value then: its window was not covered yet, or the book was not known; of one that has
        none at all, `notices()` says why. `ts_event` is the moment, with all events up to and with
        it. Their windows, counts and states are in the table `metrics`.

        With `make` they are made of the trades and quotes that are held, by the processor that
        makes them live, also where nothing was measured: sets and windows follow from the names.
        It may be further settings, such as `{"interval_ms": 0}` or `{"bar_ms": 300_000}`. Windows
        reach back before `start`, as far as the longest of them. What is of the whole book is made
        live alone.

        Raises:
            QueryError: no value of one of `names` is held, and the message names those of which
                there are within the range; nothing was ever measured; or as for `trades`.
        """
        wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        if not wanted or not all(isinstance(name, str) for name in wanted):
            raise QueryError(f"expected names of metrics, got {names!r}")
        first, last = parse_range(start, end)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        if make is not False:
            return self._made(chosen, wanted, {} if make is True else make, (first, last))
        scope = Scope(chosen.sources, first, last)
        where = " and ".join([chosen.condition(), *time_condition("ts_event", first, last)])
        listed = ", ".join(map(quote, wanted))
        moment = ", ".join(MOMENT)
        columns = ", ".join(
            f"last(value order by tape_offset) filter (metric = {quote(name)}) as {quoted(name)}"
            for name in wanted
        )
        rows = self._engine.run(
            f"select {moment}, {columns} from {TABLE} where {where} and metric in ({listed}) "
            f"group by {moment} order by ts_event, ts_event_ns, venue, symbol",
            [TABLE],
            scope,
        )
        if missing := [name for name in wanted if rows.num_rows == rows[name].null_count]:
            self._check_held(missing, chosen, where, scope)
        found = Result(
            rows,
            TABLE,
            lambda: self._ledger.coverage(
                chosen, first, last, None, METRICS, measured=(chosen, wanted)
            ),
        )

        def knows_prices() -> bool:
            sql = f"select 1 from {TABLE} where {where} and state <> '' limit 1"
            return bool(self._engine.run(sql, [TABLE], scope).num_rows)

        told = partial(self._bounds, wanted, where, scope)
        more = partial(self._settings_changed, chosen, wanted, (first, last))
        return noting(
            found,
            lambda: self._remarks(found, rows, wanted, chosen, knows_prices) + told() + more(),
        )

    def _made(
        self,
        chosen: Chosen,
        names: Sequence[str],
        given: Settings,
        within: tuple[int | None, int | None],
    ) -> Result:
        """Returns metrics that are made now, with what is `given` of their settings."""
        asked = settings_of(names, given)
        replay = Replay(self._data, self._engine, chosen, KINDS, *within, None, BATCH_RECORDS)
        made = make_metrics(replay, names, asked, given)
        found = Result(
            made.table,
            TABLE,
            lambda: self._ledger.coverage(chosen, *within, None, begun_anew=made.begun_anew),
        )
        reasons_of = partial(self._without_value, made.table, names, chosen)
        return noting(
            found,
            lambda: [
                *reasons_of(lambda: made.knows_prices, made.settings),
                *self._settings_changed(chosen, names, within),
            ],
        )

    def _settings_changed(
        self, chosen: Chosen, names: Sequence[str], within: tuple[int | None, int | None]
    ) -> list[str]:
        """Returns which settings of metrics changed within a range."""
        return [
            line
            for source in chosen.sources
            for line in changes(self._data, source, names, *within)
        ]

    def _remarks(
        self,
        found: Result,
        rows: pa.Table,
        names: Sequence[str],
        chosen: Chosen,
        knows_prices: Callable[[], bool],
    ) -> list[str]:
        missing = not_measured(found)
        others = [name for name in names if name not in missing]
        without = self._without_value(rows, others, chosen, knows_prices)
        return [*without, *advice_of(missing)]

    def _bounds(self, names: Sequence[str], where: str, scope: Scope) -> list[str]:
        """Returns of each metric of how many values a part of the book alone is known."""
        rows = self._engine.run(
            f"select metric, count(*) as bounds from {TABLE} where {where} and "
            f"metric in ({', '.join(map(quote, names))}) and flags & {MAYBE_BAD} != 0 "
            "group by metric order by metric",
            [TABLE],
            scope,
        )
        return [
            f"{row['metric']} is a bound in {row['bounds']:,} of its rows (flags & {MAYBE_BAD} of "
            "the table `metrics`): the snapshot that the book began with ended before the levels "
            "that it is made of; `snapshot_limit` of the feed is how many it has"
            for row in rows.to_pylist()
        ]

    def _without_value(
        self,
        rows: pa.Table,
        names: Sequence[str],
        chosen: Chosen,
        knows_prices: Callable[[], bool],
        settings: Settings | None = None,
    ) -> list[str]:
        """Returns why metrics have no value at all in `rows`."""

        def holds(table: str) -> bool:
            sql = f"select 1 from {table} where {chosen.condition()} limit 1"
            return bool(self._engine.run(sql, [table], Scope(chosen.sources)).num_rows)

        return reasons(rows, names, settings, holds, knows_prices)

    def _check_held(self, missing: Sequence[str], chosen: Chosen, where: str, scope: Scope) -> None:
        """Raises where one of the metrics that a range lacks is held of no other range either."""
        distinct = f"select distinct metric from {TABLE} where"
        within = self._engine.run(f"{distinct} {where} order by metric", [TABLE], scope)
        known = self._engine.run(
            f"{distinct} {chosen.condition()} and metric in ({', '.join(map(quote, missing))})",
            [TABLE],
            Scope(chosen.sources),
        )
        unknown = set(missing) - set(known.column(0).to_pylist())
        check_held(sorted(unknown), within.column(0).to_pylist())
        if not within.num_rows:
            self._check_measured(chosen)

    def _check_measured(self, chosen: Chosen) -> None:
        """Raises where nothing was ever measured: no other range would have values."""
        sql = f"select 1 from {TABLE} where {chosen.condition()} limit 1"
        if not self._engine.run(sql, [TABLE], Scope(chosen.sources)).num_rows:
            raise QueryError(
                f"nothing was measured of {', '.join(chosen.names or chosen.sources)}: "
                "`make=True` makes metrics of what is recorded, sets of [metrics] in the settings "
                "have them made as it comes"
            )


def not_measured(found: Result) -> set[str]:
    """Returns which metrics were not measured in a part of what was asked for."""
    rows = found.coverage().to_pylist()
    return {str(row["channel"]) for row in rows if row["finding"] == NOT_MEASURED}


def advice_of(missing: set[str]) -> list[str]:
    """Returns a sentence on what has metrics that were not measured in a part of a range."""
    if not (names := sorted(filter(can_be_made, missing))):
        return []
    return [
        f"lake.metrics(..., make=True) makes {', '.join(names)} of what is recorded, also where "
        "nothing was measured, or a gap was filled later"
    ]


def quoted(name: str) -> str:
    """Returns `name` as SQL has the name of a column."""
    return '"' + name.replace('"', '""') + '"'


def check_held(wanted: Sequence[str], held: Sequence[str]) -> None:
    """Raises where values of metrics are held, and none of one that is wanted.

    Raises:
        QueryError: the message names one that is written like it.
    """
    for name in wanted:
        if name in held or not held:
            continue
        near = nearest(name, held, likeness=0.5)
        shown = ", ".join(held[:NAMES_SHOWN])
        advice = f"did you mean {near[0]}? " if near else ""
        raise QueryError(
            f"no value of the metric {name!r} is held: {advice}expected any of {shown}; "
            "`make=True` makes others of what is recorded, metrics of your own are on their tapes "
            "alone"
        )
