-- News: stories as venues told them, and each as it was told last. What a venue tells again of its
-- past does not amend what it said later.

create table news_revisions (
    id bigint not null,
    story text,
    ts timestamptz,
    ts_updated timestamptz,
    symbols text[] not null,
    headline text,
    summary text,
    author text,
    source text,
    url text,
    raw text,
    flags smallint not null,
    provider text not null,
    ts_recv timestamptz,
    primary key (provider, id)
);
comment on table news_revisions is 'every word of a venue on a story; no headline: its text is lost';
create index news_revisions_story on news_revisions (provider, story, ts_updated desc, id desc);
create index news_revisions_symbols on news_revisions using gin (symbols);

create view news as
select distinct on (provider, story) * from news_revisions
where headline is not null
order by provider, story, ts_updated desc, id desc;
comment on view news is 'stories as they were told last';
