"""SQL reads the lake alone: no file, no database, no extension, and no row is changed by it."""

import pytest

import tapeworks as tw
from conftest import START
from tapeworks.errors import QueryError
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

TOPIC = "market-data.normalized"
COUNT = 300


@pytest.fixture
def stored(spine, maker):
    """A lake of trades, some still on the tape, and a file beside it."""
    spine.append(maker.definitions())
    spine.append(maker.trades(COUNT // 2))
    config = ParquetConfig()
    sink = ParquetPartition(config, spine.path, spine.source, TOPIC)
    feeder = Feeder(sink, spine.tape(), config.policy)
    feeder.drain(seconds_max=30)
    feeder.close()
    spine.append(maker.trades(COUNT // 2, COUNT // 2))
    (spine.path / "secret.csv").write_text("a,b\n1,2\n")
    return spine


def everything(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# {data} is the data folder, {file} a file of the lake's table of trades.
ESCAPES = [
    "copy trades to '{data}/out.csv'",
    "copy trades to '{file}' (format parquet)",
    "copy (select 1) to '{data}/lake/trades/out.parquet'",
    "copy (pivot trades on side using count(*)) to '{data}/lake/out.parquet'",
    "explain analyze copy trades to '{data}/lake/out.parquet'",
    "explain analyze explain analyze copy trades to '{data}/lake/out.parquet'",
    "/* a */ explain /* b */ analyze copy trades to '{data}/lake/out.parquet'",
    "select 1; copy trades to '{data}/lake/out.parquet'",
    "export database '{data}/lake/out'",
    "import database '{data}/lake/out'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_csv('{data}/secret.csv')",
    "select * from read_csv('{data}/lake/../secret.csv')",
    "select * from '{data}/secret.csv'",
    "select * from read_text('{data}/secret.csv')",
    "select * from read_blob('{data}/tape/*')",
    "select * from glob('/etc/*')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from read_parquet('https://example.org/x.parquet')",
    "select getenv('HOME')",
    "attach '{data}/other.db'",
    "install httpfs",
    "load httpfs",
    "set timezone = 'Asia/Tokyo'",
    "set global enable_external_access = true",
    "reset lock_configuration",
    "pragma enable_profiling",
    "create secret s (type s3)",
    "insert into trades select * from trades",
    "create or replace view trades as select 1 as price",
    "create or replace temp view trades as select 1 as price",
    "create table trades as select 1 as price",
    "create macro count() as 7",
    "drop view trades",
    "delete from trades",
    "update trades set price = 0",
    "alter view trades rename to other",
    "checkpoint",
    "call pragma_version()",
    "select * from query('copy trades to ''{data}/lake/out.csv''')",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_sql_changes_and_reads_nothing_else(stored, escape):
    # The statement is refused in one clear error; the folder is as before, and so is the answer.
    opened = tw.open(stored.path)
    [file] = (stored.path / "lake" / "trades").rglob("*.parquet")
    before = everything(stored.path)
    with pytest.raises(QueryError):
        opened.sql(escape.format(data=stored.path, file=file))
    assert everything(stored.path) == before
    [row] = opened.sql("select count(*) as n, min(ts_event) as t from trades").to_pylist()
    assert row == {"n": COUNT, "t": "2023-11-17T23:00:00.000000Z"}


def test_queries_of_every_form_run(stored):
    # What is refused is not what a reader needs.
    opened = tw.open(stored.path)
    for query in (
        "from trades",
        "with a as (select * from trades) select count(*) from a",
        "describe trades",
        "summarize trades",
        "pivot trades on side using count(*)",
        "explain select * from trades",
        "explain analyze select * from trades",
        "-- a comment\nselect count(*) from trades",
        "values (1)",
        "show tables",
        f"select count(*) from trades where epoch_ns(ts_event) > {START}",
    ):
        assert len(opened.sql(query)) >= 1, query


def test_an_explicit_flag_opens_everything(stored):
    # Who wants DuckDB whole gets it, for this one lake.
    opened = tw.open(stored.path, external_access=True)
    target = stored.path / "out.csv"
    opened.sql(f"copy (select count(*) as n from trades) to '{target}'")
    assert target.read_text() == f"n\n{COUNT}\n"
    assert opened.sql(f"select * from read_csv('{stored.path}/secret.csv')").to_pylist() == [
        {"a": 1, "b": 2}
    ]
    with pytest.raises(QueryError, match="external_access=True"):
        tw.open(stored.path).sql(f"select * from read_csv('{target}')")


def test_a_folder_reached_by_another_name_is_read(stored, tmp_path, monkeypatch):
    # A relative path and a link lead to the same lake: its files are the ones that may be read.
    link = tmp_path / "link"
    link.symlink_to(stored.path)
    monkeypatch.chdir(tmp_path)
    for path in (link, "link", f"{stored.path}/../{stored.path.name}"):
        assert len(tw.open(path).trades()) == COUNT


@pytest.mark.parametrize(
    "sql", ["select 1; select 2", "select 1; explain select 2", ";select 1;select 2;"]
)
@pytest.mark.parametrize("external_access", [False, True])
def test_several_answers_are_refused(stored, sql, external_access):
    # Only the last would be shown.
    with pytest.raises(QueryError, match="expected one statement"):
        tw.open(stored.path, external_access=external_access).sql(sql)
