"""Trades to Parquet (zstd) with pyarrow, tuned by hand. Argument 3: what is written, and how.

`integers`: seven columns, prices as integers without a scale: the least that one could store.
`decimals`: the 15 columns of our lake, exact decimals that every reader understands.
`settings`: the same, with all settings of our files: the sums of pages and the index cost time, the
statistics and dictionaries that we leave out save more.
All start from columns in memory, by symbol and time: nothing is read, sorted, committed or synced.

Sketch: ids and times delta coded, prices, sizes and names by dictionary; 5 to 30 ns a value.
"""

import json
import os
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SYMBOLS = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "DOT", "UNI")
DELTA = ("ts_event", "ts_recv", "sequence", "trade_id", "tape_offset")
STATISTICS = ("symbol", "price", "ts_event", "ts_recv", "sequence", "tape_offset")


def decimals(values: np.ndarray, places: int) -> pa.Array:
    words = np.stack([values, values >> 63], axis=1)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(words))]
    return pa.Array.from_buffers(pa.decimal128(19, places), len(values), buffers)


def names(values: np.ndarray, known: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(values), pa.array(known))


def times(column: dict[str, np.ndarray], name: str, exact: bool) -> dict[str, pa.Array]:
    whole, rest = np.divmod(column[name], 1_000)
    columns = {name: pa.array(whole, pa.timestamp("us", "UTC"))}
    return columns | ({f"{name}_ns": pa.array(rest.astype("i2"))} if exact else {})


def table(rows: np.ndarray, exact: bool) -> pa.Table:
    order = np.lexsort((rows["ts_event"], rows["instrument"]))
    rows = rows[order]
    column = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names}
    money = (decimals(column["price"], 9), decimals(column["size"], 8))
    columns = {
        "symbol": names(column["instrument"].astype("i4") - 1, [f"{s}USDT" for s in SYMBOLS]),
        **times(column, "ts_event", exact),
        **times(column, "ts_recv", exact),
        "price": money[0] if exact else pa.array(column["price"]),
        "size": money[1] if exact else pa.array(column["size"]),
        "trade_id": pa.array(column["trade_id"]),
        "side": names(column["side"].astype("i1") - 1, ["buy", "sell"]),
    }
    if exact:
        columns["channel"] = names(column["channel"].astype("i1") - 1, ["trade"])
        for name in ("count", "conditions", "sequence", "flags"):
            columns[name] = pa.array(column[name])
        columns["tape_offset"] = pa.array(order.astype("u8"))
    made = pa.table(columns)
    # No value is absent: required columns take less time, for us and for pyarrow.
    return made.cast(pa.schema([field.with_nullable(False) for field in made.schema]))


def ours(rows: pa.Table, delta: list[str]) -> dict:
    """Returns the settings of `python/tapeworks/sinks/writer.py`."""
    uniform = [name for name in rows.column_names if is_uniform(rows[name])]
    plain = {*delta, *uniform, "price"}
    return {
        "compression_level": 1,
        "use_dictionary": [name for name in rows.column_names if name not in plain],
        "dictionary_pagesize_limit": 128 << 10,
        "write_page_index": True,
        "write_page_checksum": True,
        "write_statistics": list(STATISTICS),
        "max_rows_per_page": 1 << 20,
    }


def is_uniform(column: pa.ChunkedArray) -> bool:
    ends = pc.min_max(column) if pa.types.is_integer(column.type) else None
    return ends is not None and ends["min"] == ends["max"]


def main() -> None:
    path, exact = sys.argv[2] + "/pyarrow.parquet", sys.argv[3] != "integers"
    rows = table(np.load(sys.argv[1]), exact)
    delta = [name for name in rows.column_names if name in DELTA]
    settings = {"use_dictionary": [name for name in rows.column_names if name not in delta]}
    if sys.argv[3] == "settings":
        settings = ours(rows, delta)
    started = time.process_time()
    pq.write_table(
        rows,
        path,
        compression="zstd",
        column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
        row_group_size=131_072,
        **settings,
    )
    took = time.process_time() - started
    size = os.path.getsize(path)
    os.unlink(path)
    print(json.dumps({"value": len(rows) / took, "bytes_a_row": size / len(rows)}))


main()
