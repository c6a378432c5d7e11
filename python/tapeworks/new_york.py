"""The days of New York, by which feeds of equities tell their times."""

import importlib
from datetime import UTC, date, datetime, tzinfo

from tapeworks.errors import ConfigError

ZONE = "America/New_York"
# Loaded where a day is asked for: most questions ask for none.
ZONES = "zoneinfo"


def midnight_of(day: date) -> int:
    """Returns the start of `day` in New York, in ns since the epoch.

    Raises:
        ConfigError: this host has no data of time zones.
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=_zone()).timestamp()) * 1_000_000_000


def day_at(ts: int) -> date:
    """Returns the date in New York at `ts` ns.

    Raises:
        ConfigError: this host has no data of time zones.
    """
    return datetime.fromtimestamp(ts // 1_000_000_000, UTC).astimezone(_zone()).date()


def told_at(ts: int) -> str:
    """Returns the date and time in New York at `ts` ns, to the second, as text for people.

    Raises:
        ConfigError: this host has no data of time zones.
    """
    found = datetime.fromtimestamp(ts // 1_000_000_000, UTC).astimezone(_zone())
    return f"{found:%Y-%m-%d %H:%M:%S} in New York"


def _zone() -> tzinfo:
    zones = importlib.import_module(ZONES)
    try:
        found: tzinfo = zones.ZoneInfo(ZONE)
    except zones.ZoneInfoNotFoundError as error:
        raise ConfigError(
            f"no data of the time zone {ZONE}: install the package tzdata of the system, or "
            "`pip install tzdata`"
        ) from error
    return found
