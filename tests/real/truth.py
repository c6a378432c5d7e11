"""The recordings that metrics are compared on, and the values that are expected of them."""

import csv
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np

from tapeworks import _core

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "metrics"
PRICE, SIZE = 10**5, 10**8
"""Units of ours in one of the file: prices in 1e-4 dollar, sizes in shares."""
METRIC = np.dtype(_core.dtype_descr("metric"))
OPEN, CLOSE = 34_200 * 10**9, 57_600 * 10**9


def expected(name: str) -> dict:
    return json.loads((DATA / "expected" / name).read_text())


def expected_rows(name: str) -> list[dict[str, float | None]]:
    with (DATA / "expected" / name).open() as file:
        rows = list(csv.DictReader(file))
    return [{key: float(text) if text else None for key, text in row.items()} for row in rows]


def rows_of(kind: str, count: int, /, **columns: object) -> np.ndarray:
    rows = np.zeros(count, np.dtype(_core.dtype_descr(kind)))
    rows["length"], rows["kind"] = rows.dtype.itemsize // 8, _core.kind_of(kind)
    rows["feed"], rows["instrument"] = 1, 1
    for name, values in columns.items():
        rows[name] = values
    return rows


def number_of(text: str) -> int:
    """Returns seconds with decimals as ns; a float would be off in the last digits."""
    whole, _, rest = text.partition(".")
    return int(whole) * 10**9 + int(rest.ljust(9, "0"))


def table_of(name: str) -> dict[str, list[str]]:
    """Returns the columns of a compressed table."""
    with gzip.open(DATA / name, "rt") as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


class Day:
    """The events of the day, and the records made of them."""

    def __init__(self, folder: Path) -> None:
        name = "lobster/AMZN_2012-06-21_{}_1.csv.gz"
        with gzip.open(folder / name.format("message"), "rt") as file:
            messages = [line.strip().split(",") for line in file]
        with gzip.open(folder / name.format("orderbook"), "rt") as file:
            books = np.array([[int(text) for text in line.split(",")] for line in file])
        self.ts = np.array([number_of(message[0]) for message in messages])
        self.kind, self.size, self.price, self.direction = (
            np.array([int(message[at]) for message in messages]) for at in (1, 3, 4, 5)
        )
        self.order = np.array([int(message[2]) for message in messages])
        self.ask, self.ask_size, self.bid, self.bid_size = books.T
        self.is_trade = np.isin(self.kind, (4, 5))
        quotes = rows_of(
            "quote",
            len(books),
            ts_event=self.ts,
            ts_recv=self.ts,
            ask_price=books[:, 0] * PRICE,
            ask_size=books[:, 1] * SIZE,
            bid_price=books[:, 2] * PRICE,
            bid_size=books[:, 3] * SIZE,
        )
        traded = self.is_trade
        trades = rows_of(
            "trade",
            int(traded.sum()),
            ts_event=self.ts[traded],
            ts_recv=self.ts[traded],
            price=self.price[traded] * PRICE,
            size=self.size[traded] * SIZE,
            # The direction is that of the resting order.
            side=np.where(self.direction[traded] == -1, 1, 2),
            channel=1,
            count=1,
        )
        definition = rows_of("definition", 1, tick_size=100 * PRICE, symbol=b"AMZN")
        parts = [definition.tobytes()]
        places = np.cumsum(traded) - 1
        for row, is_trade in enumerate(traded):
            if is_trade:
                parts.append(trades[places[row]].tobytes())
            parts.append(quotes[row].tobytes())
        # The state at the close is that after the last event.
        quotes[-1]["ts_event"] = CLOSE
        parts.append(quotes[-1].tobytes())
        self.records = b"".join(parts)
        at_quote = 1 + np.arange(len(books)) + np.cumsum(traded)
        self.quote_samples = at_quote - 1
        """The sample behind the quote of each row: one behind each record but the definition."""
        self.trade_samples = self.quote_samples[traded] - 1


def units(values: np.ndarray, scale: float) -> np.ndarray:
    """Returns integers of the units of the file; they are exact."""
    whole = np.rint(values * scale)
    assert np.abs(values * scale - whole).max() < 1e-3
    return whole.astype(np.int64)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def close(found: np.ndarray, wanted: list[float | None]) -> None:
    """Fails unless the values are equal to 1e-9, and null where nulls are expected."""
    absent = np.array([value is None for value in wanted])
    assert (np.isnan(found) == absent).all()
    wanted_values = np.array([0.0 if value is None else value for value in wanted])
    np.testing.assert_allclose(np.where(absent, 0, found), wanted_values, rtol=1e-9, atol=1e-12)
