"""States of trading: rows of files and of the tape, by symbol and in a replay."""

from decimal import Decimal

import numpy as np

import tapeworks as tw
from tapeworks import _core

START = 1_770_000_000_000_000_000


def test_states_of_trading_are_rows_and_are_replayed(spine, maker):
    # A halt with its reason in a file, bands of another symbol on the tape; then all in files.
    none, second = _core.NONE, 10**9
    spine.append(maker.definitions())
    halt = {"status": 2, "reason": b"LUDP", "price_low": none, "price_high": none}
    bands = {"status": 1, "reason": b"", "price_low": 9 * 10**9, "price_high": 11 * 10**9}
    times = {"ts_event": START + second, "ts_recv": START + 2 * second}
    rows = np.concatenate(
        [
            maker.rows("status", 1, instrument=1, sequence=1, flags=1, **times, **halt),
            maker.rows("status", 1, instrument=2, sequence=2, flags=1, **times, **bands),
        ]
    )
    spine.append(rows[:1])
    spine.drain()
    spine.append(rows[1:])
    lake = tw.open(spine.path)
    for _ in range(2):
        columns = "symbol, status, reason, price_low, price_high"
        found = lake.sql(f"select {columns} from statuses order by sequence").to_pylist()
        assert [tuple(row.values()) for row in found] == [
            ("BTCUSDT", "halted", "LUDP", None, None),
            ("ETHUSDT", "trading", "", Decimal(9), Decimal(11)),
        ]
        assert lake.rows("statuses", "ETHUSDT").to_pylist()[0]["status"] == "trading"
        spine.drain()
    spine.close()
    replayed = b"".join(bytes(batch) for batch in lake.replay(kinds=["statuses"]))
    assert replayed == rows.tobytes()
