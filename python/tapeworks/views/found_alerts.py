"""Alerts by symbol and time, each as it is now."""

from __future__ import annotations

from tapeworks.alert_notes import SEVERITIES
from tapeworks.errors import QueryError
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.opened import Opened, Symbols
from tapeworks.views.query import Scope, quote
from tapeworks.views.result import Result
from tapeworks.views.times import TimeLike

# Each alert by its newest row, with what was said when somebody acknowledged it before that.
NEWEST = (
    "select *, max(detail) filter (where state = 'acknowledged') over (partition by venue, id) "
    "as acknowledged from alerts qualify row_number() over "
    "(partition by venue, id order by tape_offset desc) = 1"
)


class Alerts(Opened):
    """What `Lake` gives of alerts."""

    def alerts(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        rule: str | None = None,
        severity: str | None = None,
        is_open: bool = False,
    ) -> Result:
        """Returns alerts whose newest change has `start <= ts_event < end`, by time of receipt.

        Each is one row, as it is now; `acknowledged` is what was said by who has seen it. With
        `is_open` those alone that are not closed. All changes of all alerts are
        `rows("alerts")`. `tape alerts list` says which rules looked at what.

        Raises:
            QueryError: there is no such severity, or as for `trades`.
        """
        if severity not in (None, *SEVERITIES):
            raise QueryError(f"expected a severity of {', '.join(SEVERITIES)}, got {severity!r}")
        first, last = parse_range(start, end)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        where = [chosen.condition(), *time_condition("ts_event", first, last)]
        where += [] if rule is None else [f"rule = {quote(rule)}"]
        where += [] if severity is None else [f"severity = {quote(severity)}"]
        where += ["state <> 'closed'"] if is_open else []
        found = self._engine.run(
            f"select * exclude (date) from ({NEWEST}) where {' and '.join(where)} "
            "order by ts_recv, venue, id",
            ["alerts"],
            Scope(chosen.sources),
        )
        return Result(found, " ".join(["alerts", *chosen.names]))
