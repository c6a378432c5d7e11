"""What is said where there are no alerts: which rules looked, since when, or that none did."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tapeworks.alert_watches import Watch, read_watches
from tapeworks.config import Section
from tapeworks.errors import ArgumentError
from tapeworks.nearest import nearest
from tapeworks.views.times import format_time
from tapeworks.views.watched import NAMES_SHOWN, NOBODY

Watches = Mapping[str, Sequence[Watch]]


def watches_of(folder: Path, sources: Sequence[str], rule: str | None) -> Watches:
    """Returns the watches of each source, of one rule or of all."""
    return {
        source: [one for one in read_watches(folder, source) if rule in (None, one.rule)]
        for source in sources
    }


def check_rule(rule: str, known: Sequence[str]) -> None:
    """Raises unless `rule` is one of those that are set, or that ever looked.

    Raises:
        ArgumentError: it is none of them; the message names one that is written like it.
    """
    if rule in known:
        return
    near = nearest(rule, known, likeness=0.5)
    listed = f"expected any of {', '.join(known)}" if known else "there are no rules"
    advice = f"did you mean {near[0]}?" if near else listed
    raise ArgumentError(f"there is no rule {rule!r}: {advice}")


def written_rules(written: Section) -> list[str]:
    """Returns the names of the rules that the settings have, without a look at the rest of them."""
    entry = written.entries.get("alerts")
    tables = getattr(entry, "raw", None)
    named = [one.get("name") for one in tables if isinstance(one, dict)] if tables else []
    budgets = written.table("latency").entries
    stages = [f"latency-{key.removesuffix('_ms')}" for key in budgets if key.endswith("_ms")]
    return [name for name in named if isinstance(name, str)] + stages


def told(watches: Watches) -> list[str]:
    """Returns a line for each source: which rules looked at what of it."""
    return [
        f"{source}: {'; '.join(map(_told, found)) if found else NOBODY}"
        for source, found in watches.items()
    ]


def _told(one: Watch) -> str:
    named = sorted(one.symbols)
    more = f" and {len(named) - NAMES_SHOWN} more" if len(named) > NAMES_SHOWN else ""
    only = f" ({', '.join(named[:NAMES_SHOWN])}{more} only)" if named else ""
    if one.since is None and not one.is_over:
        return f"{one.rule} looks at all that is derived{only}"
    since = "the first record" if one.since is None else format_time(one.since)
    if not one.is_over:
        return f"{one.rule} looks from {since} on{only}"
    if one.last == one.first:
        return f"{one.rule} looked at nothing: it stopped at its first record: {one.why}"
    until = "its first record" if one.until is None else format_time(one.until)
    why = "" if one.why is None else f"; there it stopped: {one.why}"
    return f"{one.rule}, as it was then, looked from {since} to {until}{only}{why}"
