-- The first tables. {by_day} is `partition by range (ts)`, or nothing where TimescaleDB cuts them.
--
-- `id` is the offset on the tape: with `provider` (the source) it names a row for good. Prices and
-- sizes are exact. A time is in whole microseconds, the nanoseconds beyond it are in `..._ns`.
-- Symbols are compared by their bytes: an index of them does not depend on the locale of a system.

create table places (
    source text not null,
    topic text not null,
    tape_offset bigint not null,
    tape text,
    fingerprint text,
    stored_at timestamptz not null default clock_timestamp(),
    primary key (source, topic)
);
comment on table places is
    'the offset before which all of a tape is in the tables; written by the same transaction';

create table ticks (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    bid numeric,
    ask numeric,
    last numeric,
    volume numeric,
    provider text not null,
    ts_ns smallint not null
) {by_day};
comment on table ticks is 'bid, ask, last price and volume at every change: the uniform view';

create table trades (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    price numeric,
    size numeric,
    side text,
    trade_id numeric,
    sequence numeric,
    channel text,
    conditions integer,
    flags smallint not null,
    provider text not null,
    ts_recv timestamptz,
    ts_ns smallint not null,
    ts_recv_ns smallint
) {by_day};
comment on table trades is 'every trade as the venue told it first';

create table quotes (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    bid_price numeric,
    bid_size numeric,
    ask_price numeric,
    ask_size numeric,
    sequence numeric,
    flags smallint not null,
    provider text not null,
    ts_recv timestamptz,
    ts_ns smallint not null,
    ts_recv_ns smallint
) {by_day};
comment on table quotes is 'best bid and offer at every change';

create table bars (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    interval_ms bigint not null,
    open numeric,
    high numeric,
    low numeric,
    close numeric,
    volume numeric,
    buy_volume numeric,
    turnover numeric,
    buy_turnover numeric,
    trades numeric,
    closed smallint not null,
    channel text not null,
    flags smallint not null,
    provider text not null,
    unique (symbol, ts, interval_ms, provider, channel)
) {by_day};
comment on table bars is 'bars built from trades; a late trade or a repaired gap amends its bar';

create table metrics (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    metric text collate "C" not null,
    value double precision,
    count numeric,
    window_ns numeric,
    state text,
    provider text not null,
    ts_ns smallint not null
) {by_day};
comment on table metrics is 'values of metrics over time, one a row; null: it has no value';

create table corrections (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    trade_id numeric,
    action text,
    price numeric,
    size numeric,
    sequence numeric not null,
    provider text not null,
    ts_ns smallint not null,
    primary key (provider, id)
);
comment on table corrections is 'trades that the venue cancelled or corrected later';

create table gaps (
    id bigint not null,
    symbol text collate "C",
    channel text,
    cause text,
    state text,
    missing bigint,
    first_missing numeric,
    last_missing numeric,
    ts_from timestamptz,
    ts_to timestamptz,
    ts_detected timestamptz,
    flags smallint not null,
    provider text not null,
    primary key (provider, id)
);
comment on table gaps is 'what was lost, and what became of it; no symbol: of all instruments';

create table instruments (
    id bigint not null,
    instrument bigint not null,
    symbol text collate "C" not null,
    canonical text,
    asset_class text,
    currency text,
    tick_size numeric,
    lot_size numeric,
    contract_size numeric,
    valid_from timestamptz,
    valid_to timestamptz,
    status text,
    provider text not null,
    primary key (provider, instrument)
);
comment on table instruments is 'the instruments of each source as they were defined last';

-- A correction names a trade by its id, which begins anew each day: it means the trade of that id
-- before it on its own day, in New York. One of the time and sequence of a trade means that alone.
-- A corrected trade goes on under the id that is the sequence of its correction, if that is not 0.
-- Where the trades that may be meant differ, nobody knows which it is, and none is amended. Of two
-- corrections of one trade the later counts.
create view amended_trades as
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
        told.size as told_size, named.correction, named.action, named.price, named.size,
        told.ts = named.ts and told.ts_ns = named.ts_ns
            and told.sequence = named.sequence as is_own
    from named join trades told on told.provider = named.provider and told.symbol = named.symbol
        and told.trade_id = named.trade_id and told.ts <= named.ts and told.ts >= named.midnight
    where named.trade_id <> 0 or (told.sequence <> 0 and told.ts = named.ts
        and told.ts_ns = named.ts_ns and told.sequence = named.sequence)
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
comment on view amended_trades is 'trades as they stand after what the venue cancelled or corrected';

-- Makes the partition of a day, unless it is there. It runs as the owner of the tables, so that
-- whoever stores rows need not own them. To attach takes no lock that keeps readers out.
create function make_partition(parent text, day date) returns void
language plpgsql security definer set search_path from current as $$
declare
    part text := parent || '_' || to_char(day, 'YYYYMMDD');
    first timestamptz := day::timestamp at time zone 'UTC';
    past timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if parent not in ('ticks', 'trades', 'quotes', 'bars', 'metrics') then
        raise exception 'expected ticks, trades, quotes, bars or metrics, got %', parent;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('tapeworks partition ' || part, 0));
    if to_regclass(quote_ident(part)) is null then
        execute format(
            'create table %I (like %I including defaults including constraints)', part, parent
        );
        execute format(
            'alter table %I attach partition %I for values from (%L) to (%L)',
            parent, part, first, past
        );
    end if;
end $$;
revoke all on function make_partition(text, date) from public;
