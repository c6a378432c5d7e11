"""Average spread and traded volume by symbol and second, with one line of SQL.

Run after `make demo`: .venv/bin/python examples/spread_by_second.py [DATA]
"""

import sys

import tapeworks as tw

SQL = """
with spreads as (
    select symbol, date_trunc('second', ts_event::timestamptz) as second,
        avg(ask_price - bid_price) as spread
    from quotes where venue = 'binance-spot' group by all
), volumes as (
    select symbol, date_trunc('second', ts_event::timestamptz) as second, sum(size) as volume
    from trades where venue = 'binance-spot' group by all
)
select * from spreads join volumes using (symbol, second) order by symbol, second
"""

lake = tw.open(sys.argv[1] if len(sys.argv) > 1 else "demo")
print(lake.sql(SQL))
