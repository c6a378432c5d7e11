"""Alerts by symbol and time, each as it is now."""

from __future__ import annotations

from tapeworks.alert_notes import SEVERITIES
from tapeworks.errors import QueryError
from tapeworks.topics import ALERTS
from tapeworks.views.conditions import parse_range
from tapeworks.views.coverage import Coverage
from tapeworks.views.opened import Opened, Symbols
from tapeworks.views.query import Scope, quote
from tapeworks.views.result import Result
from tapeworks.views.times import TimeLike
from tapeworks.views.watched import unwatched

START, END = "ts_start", "ts_end"

# Each alert by its newest row, with what was said when somebody acknowledged it before that.
NEWEST = (
    "select *, max(detail) filter (where state = 'acknowledged') over (partition by venue, id) "
    "as acknowledged from alerts qualify row_number() over "
    "(partition by venue, id order by tape_offset desc) = 1"
)


def life_condition(first: int | None, last: int | None) -> list[str]:
    """Returns what must hold of the newest row of an alert so that its life touches a range."""
    found = [] if last is None else [f"epoch_ns({START}) + {START}_ns < {last}"]
    if first is not None:
        found.append(f"(state <> 'closed' or epoch_ns({END}) + {END}_ns >= {first})")
    return found


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
        """Returns alerts whose life, from `ts_start` to `ts_end`, touches a range, by receipt.

        Each is one row, as it is now; `acknowledged` is what was said by who has seen it. With
        `is_open` those alone that are not closed. All changes of all alerts are `rows("alerts")`.
        Notices say what no rule looked at: there, no alerts are no news.

        Raises:
            QueryError: there is no such severity, or as for `trades`.
        """
        if severity not in (None, *SEVERITIES):
            raise QueryError(f"expected a severity of {', '.join(SEVERITIES)}, got {severity!r}")
        first, last = parse_range(start, end)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        where = [chosen.condition(), *life_condition(first, last)]
        where += [] if rule is None else [f"rule = {quote(rule)}"]
        where += [] if severity is None else [f"severity = {quote(severity)}"]
        where += ["state <> 'closed'"] if is_open else []
        found = self._engine.run(
            f"select * exclude (date) from ({NEWEST}) where {' and '.join(where)} "
            "order by ts_recv, venue, id",
            ["alerts"],
            Scope(chosen.sources),
        )

        def coverage() -> Coverage:
            return self._ledger.coverage(chosen, first, last, None, ALERTS)

        def notices() -> list[str]:
            missing = unwatched(
                self._engine, self._data, chosen, first, last, rule=rule, severity=severity
            )
            return list(dict.fromkeys([*missing, *coverage().notices()]))

        title = " ".join(["alerts", *chosen.names])
        return Result(found, title, coverage, notices=notices)
