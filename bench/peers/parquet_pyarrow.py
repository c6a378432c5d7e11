"""Trades to Parquet (zstd) with pyarrow, tuned by hand. Argument 3: `integers` or `decimals`.

`integers`: seven columns, prices as integers without a scale: the least that one could store.
`decimals`: the 15 columns of our lake, exact decimals that every reader understands.
Both start from columns in memory, by symbol and time: nothing is read, sorted, committed or synced.

Sketch: ids and times delta coded, prices, sizes and names by dictionary; 5 to 30 ns a value.
"""

import json
import os
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SYMBOLS = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "DOT", "UNI")
DELTA = ("ts_event", "ts_recv", "sequence", "trade_id", "tape_offset")


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


def main() -> None:
    path, exact = sys.argv[2] + "/pyarrow.parquet", sys.argv[3] == "decimals"
    rows = table(np.load(sys.argv[1]), exact)
    delta = [name for name in rows.column_names if name in DELTA]
    started = time.process_time()
    pq.write_table(
        rows,
        path,
        compression="zstd",
        use_dictionary=[name for name in rows.column_names if name not in delta],
        column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
        row_group_size=131_072,
    )
    took = time.process_time() - started
    size = os.path.getsize(path)
    os.unlink(path)
    print(json.dumps({"value": len(rows) / took, "bytes_a_row": size / len(rows)}))


main()
