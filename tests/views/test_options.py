"""Option symbols: what they say by the function, by SQL and in the table of instruments."""

from datetime import date
from decimal import Decimal

import pytest

import tapeworks as tw

CASES = [
    ("O:AAPL251219C00200000", tw.Option("AAPL", date(2025, 12, 19), "call", Decimal("200"))),
    ("AAPL251219P00002505", tw.Option("AAPL", date(2025, 12, 19), "put", Decimal("2.505"))),
    ("SPXW  240229C99999999", tw.Option("SPXW", date(2024, 2, 29), "call", Decimal("99999.999"))),
    ("O:BRKB1991231P00000001", tw.Option("BRKB1", date(2099, 12, 31), "put", Decimal("0.001"))),
    ("O:F690101C00010000", tw.Option("F", date(2069, 1, 1), "call", Decimal("10"))),
]
NONE = [
    "BTCUSDT",
    "AAPL",
    "O:AAPL251319C00200000",
    "O:AAPL250229C00200000",
    "O:AAPL251219X00200000",
    "O:AAPL251219C0020000",
    "O:AAPL251219C002000000",
    "O:AAPLXYZ251219C00200000",
    "X:AAPL251219C00200000",
    "O:aapl251219C00200000",
    "O:AAPL251219C0020000\u0660",
    "O:AAPL251219C00200000\n",
]


@pytest.mark.parametrize(("symbol", "said"), CASES)
def test_a_symbol_says_all_of_its_contract(symbol: str, said: tw.Option):
    assert tw.option(symbol) == said


@pytest.mark.parametrize("symbol", [*NONE, "", None, 5])
def test_what_is_none_is_an_error_that_names_it(symbol):
    with pytest.raises(tw.QueryError, match="expected an option symbol of the OCC such as O:AAPL"):
        tw.option(symbol)


def test_sql_says_the_same_and_null_of_all_else(spine, maker):
    # One definition for each symbol, of options and of what is none; asked by the columns of
    # instruments, by each way of asking, and by the macro on another table.
    symbols = tuple(symbol for symbol, _ in CASES) + tuple(NONE)
    made = maker.definitions(symbols)
    spine.append(made)
    times = {"ts_event": made["ts_recv"][0], "ts_recv": made["ts_recv"][0]}
    spine.append(
        maker.rows(
            "trade", 2, instrument=[1, 6], price=10**9, size=10**8, channel=1, flags=1, **times
        )
    )
    spine.drain()
    expected = {
        symbol: (said.underlying, said.expiry, said.right, said.strike) for symbol, said in CASES
    } | dict.fromkeys(NONE, (None,) * 4)
    columns = ("underlying", "expiry", "option_right", "strike")
    with tw.open(spine.path) as lake:
        query = f"select symbol, {', '.join(columns)} from instruments"
        for rows in (
            lake.instruments().to_pylist(),
            lake.sql(query).to_pylist(),
            lake.connect().sql(query).to_arrow_table().to_pylist(),
            lake.scan("instruments").reader().read_all().to_pylist(),
        ):
            assert {row["symbol"]: tuple(row[name] for name in columns) for row in rows} == expected
        traded = lake.sql("select symbol, occ(symbol).strike as k from trades order by symbol")
        assert traded.to_pylist() == [
            {"symbol": "BTCUSDT", "k": None},
            {"symbol": "O:AAPL251219C00200000", "k": Decimal(200)},
        ]
        told = lake.sql("describe instruments").to_pylist()
        assert all(row["meaning"] for row in told if row["column_name"] in columns)
