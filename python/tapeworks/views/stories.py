"""News by symbol and time, as it stands or as it was known here at a time."""

from __future__ import annotations

from tapeworks._core import numbers, tells_news
from tapeworks.errors import QueryError
from tapeworks.views.conditions import parse_range
from tapeworks.views.opened import Symbols
from tapeworks.views.query import quote
from tapeworks.views.reach import may_tell_news
from tapeworks.views.result import Result
from tapeworks.views.symbols import Chosen
from tapeworks.views.tables import Tables
from tapeworks.views.times import TimeLike, parse_time


class Stories(Tables):
    """What `Lake` gives of news."""

    def news(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        as_of: TimeLike | None = None,
    ) -> Result:
        """Returns stories that were made with `start <= ts_event < end`, by time.

        Symbols are those that the venue tells a story to be about; none means all stories, also
        those about no symbol. Each story is as it was told last; with `as_of` as it was known here
        at that time: of what was received by then. All that was ever told of them is
        `news_revisions`.

        Raises:
            QueryError: no venue of this folder tells news.
        """
        known = None if as_of is None else parse_time(as_of)
        names = [symbols] if isinstance(symbols, str) else symbols
        told = "true"
        if names is not None:
            told = f"list_has_any(symbols, [{', '.join(quote(name) for name in names)}]::varchar[])"
        first, last = parse_range(start, end)
        asked = self._instruments.choose(None, source, None, None).sources
        telling = [each for each in asked if may_tell_news(self._engine.tail(each))]
        if asked and not telling:
            feeds = " and ".join(name for name, feed in numbers("feed").items() if tells_news(feed))
            raise QueryError(f"no news come from {', '.join(asked)}: they do from {feeds}")
        return self._chosen_rows("news", Chosen(telling, None), first, last, told, as_of=known)
