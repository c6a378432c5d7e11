"""Trades as they stand after what the venue cancelled or corrected.

A correction names a trade by its id, which begins anew each day, and on some venues at each
exchange: it means the trade of that id before it on its own day, in New York, as all venues that
tell corrections count days. One that is told with a trade, of its time and sequence, means that
trade alone; the trade may have come live, with a time in whole ms. A corrected trade may go on
under a new id: what names that id means the same trade. Where the trades that may be meant differ
in price or size, nobody knows which it is, and none is amended. Of two corrections of one trade
the later counts.
"""

from tapeworks.new_york import ZONE

ORIGINALS = "original_trades"
"""The view of all trades as they were told first."""
FOUND = "_corrections"
"""The view of the corrections that the trades of a question may be subject to."""
CANCEL, CORRECT = "cancel", "correct"
OF_CORRECTION = "(partition by venue, correction)"
MIDNIGHT = f"timezone('{ZONE}', date_trunc('day', timezone('{ZONE}', ts_event)))"

# `sequence` of a correction to another price or size is the id that the trade has from then on.
# Each step of `named` is further back on the tape than the one before, so that it ends.
AMENDED = f"""
    with recursive named as (
        select venue, symbol, tape_offset as correction, trade_id, tape_offset as told_at,
            ts_event, ts_event_ns, sequence, action, price, size, {MIDNIGHT} as midnight
        from {FOUND}
        union
        select named.* replace (earlier.trade_id as trade_id, earlier.tape_offset as told_at)
        from named join {FOUND} as earlier
        on named.venue = earlier.venue and named.symbol = earlier.symbol
        and named.trade_id = earlier.sequence and earlier.sequence != 0
        and earlier.action = '{CORRECT}'
        and earlier.tape_offset < named.told_at
        and earlier.ts_event >= named.midnight
    ),
    meant as (
        select distinct named.venue, named.correction, named.action, named.price, named.size,
            told.tape_offset, told.price as told_price, told.size as told_size,
            told.sequence = named.sequence and (
                told.ts_event = named.ts_event and told.ts_event_ns = named.ts_event_ns
                or told.sequence != 0 and told.ts_event_ns = 0
                    and told.ts_event = date_trunc('millisecond', named.ts_event)
            ) as is_own
        from {ORIGINALS} as told join named
        on told.venue = named.venue and told.symbol = named.symbol
        and told.trade_id = named.trade_id
        and told.ts_event <= named.ts_event and told.ts_event >= named.midnight
        where named.trade_id != 0 or (is_own and told.sequence != 0)
        qualify is_own = max(is_own) over (partition by named.venue, named.correction)
    ),
    hits as (
        select venue, tape_offset, action, price, size from meant
        qualify row_number() over (
            partition by venue, tape_offset order by correction desc
        ) = 1
        and min(told_price) over {OF_CORRECTION} = max(told_price) over {OF_CORRECTION}
        and min(told_size) over {OF_CORRECTION} = max(told_size) over {OF_CORRECTION}
    )
    select told.* replace (
        if(hits.action is null, told.price, hits.price) as price,
        if(hits.action is null, told.size, hits.size) as size
    )
    from {ORIGINALS} as told
    left join hits on told.venue = hits.venue and told.tape_offset = hits.tape_offset
    where hits.action is distinct from '{CANCEL}'
"""
"""The SQL of all trades of `ORIGINALS` as amended by `FOUND`."""


def known_at(rows: str, as_of: int) -> str:
    """Returns the SQL of those of `rows` that were received by `as_of`, in ns."""
    return f"select * from ({rows}) where epoch_ns(ts_recv) + ts_recv_ns <= {as_of}"
