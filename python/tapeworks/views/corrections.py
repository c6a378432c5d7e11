"""Trades as they stand after what the venue cancelled or corrected.

A correction names a trade by its id, which begins anew each day, and on some venues at each
exchange: it means the trade of that id within the day before it. Where trades of that id differ in
price or size, nobody knows which is meant, and none is amended. Of two corrections of one trade the
later counts.
"""

ORIGINALS = "original_trades"
"""The view of all trades as they were told first."""
FOUND = "_corrections"
"""The view of the corrections that the trades of a question may be subject to."""
CANCEL = "cancel"
OF_CORRECTION = "(partition by found.venue, found.tape_offset)"

AMENDED = f"""
    with hits as (
        select told.venue, told.tape_offset, found.action, found.price, found.size
        from {ORIGINALS} as told join {FOUND} as found
        on told.venue = found.venue and told.symbol = found.symbol
        and told.trade_id = found.trade_id and found.trade_id != 0
        and told.ts_event <= found.ts_event and told.ts_event > found.ts_event - interval 1 day
        qualify row_number() over (
            partition by told.venue, told.tape_offset order by found.tape_offset desc
        ) = 1
        and min(told.price) over {OF_CORRECTION} = max(told.price) over {OF_CORRECTION}
        and min(told.size) over {OF_CORRECTION} = max(told.size) over {OF_CORRECTION}
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
