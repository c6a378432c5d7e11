-- Which sink a place is of: another one, of other symbols or kinds, would leave out what it passed.
-- None: it was left by an earlier version.
alter table places add column sink text;

-- A partition that was taken off its table is refused: nobody would see what is stored in it.
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
    elsif not exists (
        select from pg_inherits where inhrelid = to_regclass(quote_ident(part))
            and inhparent = to_regclass(quote_ident(parent))
    ) then
        raise exception '% is no partition of %: attach it again, or give it another name',
            part, parent;
    end if;
end $$;
