"""What SQL shows of a table beside what its files hold: columns of its own, and chosen rows."""

from tapeworks.views import options
from tapeworks.views.corrections import ORIGINALS

# Bars are written again when trades come late, and stories when they are corrected: a view of the
# last revisions, and one of all.
REVISIONS = {
    "bar_revisions": "bars",
    "venue_bar_revisions": "venue_bars",
    "news_revisions": "news",
}
REVISED = {last: every for every, last in REVISIONS.items()}
# Whose rows a view has.
TABLE_OF = {**REVISIONS, ORIGINALS: "trades"}
# The flag of a bar that may lack trades: a recording began or ended in it, or something was lost.
MAYBE_BAD = 32


def newest_revisions(table: str) -> str:
    """Returns the SQL of the last revision of each bar or story of a view of all revisions."""
    key, order = "venue, symbol, channel, interval_ms, ts_event", "tape_offset desc"
    if REVISIONS[table] == "news":
        # An answer of the history may tell an earlier word on a story than is known.
        key, order = "venue, sequence", "ts_updated desc, ts_updated_ns desc, tape_offset desc"
    return (
        f"select * from {table} qualify row_number() over (partition by {key} order by {order}) = 1"
    )


def finished_bars(length: int) -> str:
    """Returns the SQL of the finished bars of one length in ms."""
    return f"select * from bars where interval_ms = {length} and closed = 1"


def with_columns(table: str, rows: str) -> str:
    """Returns the SQL of `rows`, a query of all rows of a table, with the columns that no file has.

    Of bars, `partial` says whether trades may be missing; of instruments, what the symbol of an
    option says.
    """
    if table in ("bars", "venue_bars"):
        return f"select *, flags & {MAYBE_BAD} != 0 as partial from ({rows})"
    if table == "instruments":
        return f"select *, {options.COLUMNS} from ({rows})"
    return rows
