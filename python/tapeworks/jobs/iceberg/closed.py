"""Which days and hours of the lake are published: those that are over, or that settings name.

Tables that tell something of the rows of others do not wait: a gap, or a correction, of a period
that is over may be noted in one that is not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.files import UNDATED
from tapeworks.lake import Table
from tapeworks.published import TELLING, Coverage


@dataclass(frozen=True)
class Closed:
    """The instant up to which all periods are over, and what the settings choose of them."""

    until: datetime
    config: IcebergConfig
    is_now: bool = False
    """Whether what is not over is published as well."""

    @staticmethod
    def at(now: float, config: IcebergConfig) -> "Closed":
        """Returns what is closed at `now`, in seconds since 1970."""
        until = datetime.fromtimestamp(now, UTC) - timedelta(minutes=config.grace_minutes)
        hour = until.hour if config.closes == "hour" else 0
        until = until.replace(hour=hour, minute=0, second=0, microsecond=0)
        return Closed(until, config, config.now)

    def of(self, table: Table) -> "Closed":
        """Returns what holds for one table."""
        return replace(self, is_now=self.is_now or table.name in TELLING)

    @property
    def through(self) -> str:
        """The instant as text, which stands for time when compared."""
        return self.until.strftime("%Y-%m-%dT%H:%M:%SZ")

    def has(self, day: str, hour: str) -> bool:
        """Whether an hour of a day that was chosen is to be published; one without a time is."""
        if self.is_now or self.config.days or not hour:
            return True
        began = datetime.fromisoformat(day).replace(hour=int(hour), tzinfo=UTC)
        return began + timedelta(hours=1) <= self.until

    def choose(
        self, days: Iterable[str], covered: Coverage | None, *, is_behind: bool = False
    ) -> list[str]:
        """Returns those of `days` that are to be published, ascending.

        The day of an hour that is over is published once for each such hour, and where the table
        `is_behind` gaps that tell of rows that came late.
        """
        if self.config.days:
            return sorted(set(days) & set(self.config.days))
        today = self.until.date().isoformat()
        is_due = is_behind or covered is None or covered.through < self.through
        return sorted(
            day
            for day in days
            if day < today
            or day in UNDATED
            or self.is_now
            or (day == today and self.until.hour and is_due)
        )
