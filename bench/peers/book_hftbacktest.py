"""hftbacktest (Rust), fixed price window.

Its engine keeps two books, the exchange's and the local one: half of its time is one.
"""

import time

import numpy as np
from book_workload import measure
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    BacktestAsset,
    ROIVectorMarketDepthBacktest,
)


def run(rows: np.ndarray, n_snapshot: int) -> tuple[float, float | None]:
    from hftbacktest.types import event_dtype

    data = np.zeros(len(rows), event_dtype)
    flags = np.where(rows["side"] == 0, BUY_EVENT, SELL_EVENT)
    data["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | flags
    data["exch_ts"] = data["local_ts"] = 1_000_000 + rows["msg"].astype("i8") * 1000
    data["px"] = rows["px"] * 0.01
    data["qty"] = rows["qty"]
    asset = (
        BacktestAsset()
        .data([data])
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0, 0)
        .tick_size(0.01)
        .lot_size(1.0)
        .roi_lb(60_000.0)
        .roi_ub(74_000.0)
    )
    backtest = ROIVectorMarketDepthBacktest([asset])
    started = time.process_time()
    backtest.elapse(10_000_000_000_000)
    update = (time.process_time() - started) / len(rows)
    backtest.close()
    return update * 1e9 / 2, None


measure(run)
