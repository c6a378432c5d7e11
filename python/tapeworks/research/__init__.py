"""Estimators over a range of history: arrays in, numbers out.

    from tapeworks import research

    rows = lake.metrics("BTCUSDT", ["mid", "ofi_10s"], start, end, make=True).to_pandas()
    research.regression(rows["ofi_10s"], rows["mid"].diff() / tick)

What a metric of the tape is made of, is the same code here: `bar_estimates`, `realized`,
`two_scale`, `realized_kernel`, `microprice`, `integrated_ofi`, `clock_line`. A result that has no
value is None or NaN, never 0. Rows are taken in the order that they have: nothing is sorted.
"""

from tapeworks.research import states
from tapeworks.research.bars import bar_estimates, trade_bars
from tapeworks.research.clocks import ClockLine, best_exchange, clock_line, nearest_rank
from tapeworks.research.dependence import (
    autocorrelation,
    hayashi_yoshida,
    lead_lag,
    variance_ratio,
)
from tapeworks.research.discovery import PriceDiscovery, price_discovery
from tapeworks.research.flow import (
    IntegratedOfi,
    Microprice,
    Regression,
    bulk_vpin,
    integrated_ofi,
    microprice,
    regression,
)
from tapeworks.research.points import Hawkes, ewma_rate, hawkes
from tapeworks.research.volatility import (
    kernel_lags,
    log_returns,
    previous_tick,
    realized,
    realized_kernel,
    two_scale,
)

__all__ = [
    "ClockLine",
    "Hawkes",
    "IntegratedOfi",
    "Microprice",
    "PriceDiscovery",
    "Regression",
    "autocorrelation",
    "bar_estimates",
    "best_exchange",
    "bulk_vpin",
    "clock_line",
    "ewma_rate",
    "hawkes",
    "hayashi_yoshida",
    "integrated_ofi",
    "kernel_lags",
    "lead_lag",
    "log_returns",
    "microprice",
    "nearest_rank",
    "previous_tick",
    "price_discovery",
    "realized",
    "realized_kernel",
    "regression",
    "states",
    "trade_bars",
    "two_scale",
    "variance_ratio",
]
