-- Imbalances: what an auction to come would do. Which tables are cut by day is told by the
-- database from here on, and by no list.

create table imbalances (
    id bigint not null,
    symbol text collate "C" not null,
    ts timestamptz not null,
    auction text,
    side text,
    state text,
    paired_size numeric,
    imbalance_size numeric,
    reference_price numeric,
    near_price numeric,
    far_price numeric,
    auction_time integer not null,
    code text not null,
    sequence numeric not null,
    flags smallint not null,
    provider text not null,
    ts_recv timestamptz,
    ts_ns smallint not null,
    ts_recv_ns smallint
) {by_day};
comment on table imbalances is
    'what an auction to come would do, as the venue tells it again and again before it';

create or replace function make_partition(parent text, day date) returns void
language plpgsql security definer set search_path from current as $$
declare
    part text := parent || '_' || to_char(day, 'YYYYMMDD');
    first timestamptz := day::timestamp at time zone 'UTC';
    past timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if not exists (
        select from pg_partitioned_table cut join pg_class found on found.oid = cut.partrelid
        where found.relname = parent and found.relnamespace = current_schema()::regnamespace
    ) then
        raise exception 'expected a table that is cut by day, got %', parent;
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
