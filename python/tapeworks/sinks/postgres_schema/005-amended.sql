-- Trades as they stand: a correction of a trade's time and sequence means that trade alone, also
-- where the trade came live, with a time in whole milliseconds.
--
-- A correction names a trade by its id, which begins anew each day, and on some venues at each
-- exchange: it means the trade of that id before it on its own day, in New York. One of the time
-- and sequence of a trade means that alone. A corrected trade goes on under the id that is the
-- sequence of its correction, if that is not 0. Where the trades that may be meant differ, nobody
-- knows which it is, and none is amended. Of two corrections of one trade the later counts.
create or replace view amended_trades as
with recursive named as (
    select provider, symbol, id as correction, trade_id, id as told_at, ts, ts_ns, sequence,
        action, price, size,
        date_trunc('day', ts at time zone 'America/New_York') at time zone 'America/New_York'
            as midnight
    from corrections
    union
    select named.provider, named.symbol, named.correction, earlier.trade_id, earlier.id, named.ts,
        named.ts_ns, named.sequence, named.action, named.price, named.size, named.midnight
    from named join corrections earlier on named.provider = earlier.provider
        and named.symbol = earlier.symbol and named.trade_id = earlier.sequence
        and earlier.sequence <> 0 and earlier.action = 'correct'
        and earlier.id < named.told_at and earlier.ts >= named.midnight
),
possible as (
    select distinct told.provider, told.id, told.ts, told.price as told_price,
        told.size as told_size, named.correction, named.action, named.price, named.size, is_own
    from named join trades told on told.provider = named.provider and told.symbol = named.symbol
        and told.trade_id = named.trade_id and told.ts <= named.ts and told.ts >= named.midnight
    cross join lateral (
        select told.sequence = named.sequence and (
            told.ts = named.ts and told.ts_ns = named.ts_ns
            or told.sequence <> 0 and told.ts_ns = 0
                and told.ts = date_trunc('milliseconds', named.ts)
        ) as is_own
    ) own
    where named.trade_id <> 0 or (is_own and told.sequence <> 0)
),
meant as (
    select *, is_own::int = max(is_own::int) over (partition by provider, correction) as is_meant
    from possible
),
hits as (
    select provider, id, ts, action, price, size,
        row_number() over (partition by provider, id order by correction desc) as place,
        min(told_price) over same = max(told_price) over same
            and min(told_size) over same = max(told_size) over same as is_clear
    from meant
    where is_meant
    window same as (partition by provider, correction)
)
select told.id, told.symbol, told.ts,
    case when hits.action is null then told.price else hits.price end as price,
    case when hits.action is null then told.size else hits.size end as size,
    told.side, told.trade_id, told.sequence, told.channel, told.conditions, told.flags,
    told.provider, told.ts_recv, told.ts_ns, told.ts_recv_ns
from trades told
left join hits on hits.provider = told.provider and hits.id = told.id and hits.ts = told.ts
    and hits.place = 1 and hits.is_clear
where hits.action is distinct from 'cancel';
