-- Alerts: each change of an alert with its evidence, and each alert as it stands.

create table alerts (
    id bigint not null,
    alert numeric not null,
    symbol text collate "C",
    ts timestamptz not null,
    rule text not null,
    detector text not null,
    state text,
    severity text,
    subject text,
    detail text,
    value double precision,
    threshold double precision,
    side text,
    price numeric,
    size numeric,
    count numeric,
    ts_start timestamptz,
    ts_end timestamptz,
    first_offset numeric,
    last_offset numeric,
    flags smallint not null,
    provider text not null,
    ts_ns smallint not null,
    primary key (provider, id)
);
comment on table alerts is 'every change of an alert; first_offset to last_offset: what caused it';
create index alerts_ts on alerts (ts);

create view current_alerts as
select distinct on (provider, alert) * from alerts order by provider, alert, id desc;
comment on view current_alerts is 'alerts as they stand';
