//! Bindings of the core's `estimators`. Numbers come as buffers of doubles or of 64-bit integers.

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tapeworks_core::estimators::hawkes::{self, Hawkes};
use tapeworks_core::estimators::microprice::{Grid, Steps};
use tapeworks_core::estimators::ranges::{self, Ohlc};
use tapeworks_core::estimators::realized::{self, Kernel, Sums, Taper};
use tapeworks_core::estimators::trade_bars::{BarTrade, Bars, Closing, Measure};
use tapeworks_core::estimators::{bar_spreads, clock_line, linear};

use crate::released::released;

fn values<T: Element>(data: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    PyBuffer::<T>::get(data)?.to_vec(data.py())
}

fn of_one_length(lengths: &[usize]) -> PyResult<usize> {
    match lengths {
        [first, rest @ ..] if rest.iter().all(|length| length == first) => Ok(*first),
        _ => Err(PyValueError::new_err(format!("expected columns of one length, got {lengths:?}"))),
    }
}

/// Slope, intercept, t and R2 of `y` on `x`; none where `x` does not vary.
#[pyfunction]
fn regress(x: &Bound<'_, PyAny>, y: &Bound<'_, PyAny>) -> PyResult<Option<(f64, f64, f64, f64)>> {
    let (x, y) = (values::<f64>(x)?, values::<f64>(y)?);
    of_one_length(&[x.len(), y.len()])?;
    let points: Vec<(f64, f64)> = x.into_iter().zip(y).collect();
    Ok(linear::regress(&points).map(|line| (line.slope, line.intercept, line.t, line.r2)))
}

/// Weights of the first principal component of rows of `n` values, and the share that it explains.
#[pyfunction]
fn principal(rows: &Bound<'_, PyAny>, n: usize) -> PyResult<Option<(Vec<f64>, f64)>> {
    Ok(linear::principal(&values(rows)?, n))
}

/// All estimates of bars, by name.
#[pyfunction]
fn bar_estimates<'py>(
    py: Python<'py>,
    open: &Bound<'py, PyAny>,
    high: &Bound<'py, PyAny>,
    low: &Bound<'py, PyAny>,
    close: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let columns: [Vec<f64>; 4] = [values(open)?, values(high)?, values(low)?, values(close)?];
    let count = of_one_length(&columns.each_ref().map(Vec::len))?;
    let [open, high, low, close] = &columns;
    let bar = |at: usize| Ohlc { open: open[at], high: high[at], low: low[at], close: close[at] };
    let bars: Vec<Ohlc> = (0..count).map(bar).collect();
    let spread = bar_spreads::corwin_schultz(&bars);
    let found = PyDict::new(py);
    found.set_item("spread_cs_signed", spread.map(|both| both.0))?;
    found.set_item("spread_cs_zero", spread.map(|both| both.1))?;
    found.set_item("spread_ar", bar_spreads::abdi_ranaldo(&bars))?;
    found.set_item("spread_edge", bar_spreads::edge(&bars))?;
    found.set_item("spread_roll", bar_spreads::roll(&bars))?;
    found.set_item("parkinson", ranges::parkinson(&bars))?;
    found.set_item("garman_klass", ranges::garman_klass(&bars))?;
    found.set_item("rogers_satchell", ranges::rogers_satchell(&bars))?;
    found.set_item("yang_zhang", ranges::yang_zhang(&bars))?;
    Ok(found)
}

/// Realized variance of log returns and its kin, by name.
#[pyfunction]
fn realized_measures<'py>(
    py: Python<'py>,
    returns: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let returns: Vec<f64> = values(returns)?;
    let found = PyDict::new(py);
    let is_enough = returns.len() >= realized::RETURNS_MIN;
    let one = Sums::of(&returns).measures();
    let pairs = [
        ("rv", Some(one.rv)),
        ("rsv_down", Some(one.down)),
        ("rsv_up", Some(one.up)),
        ("bv", Some(one.bv)),
        ("bv_ss", Some(one.bv_ss)),
        ("min_rv", Some(one.min_rv)),
        ("med_rv", Some(one.med_rv)),
        ("rq", Some(one.rq)),
        ("tpq", Some(one.tpq)),
        ("qpq", Some(one.qpq)),
        ("bns_z", one.bns_z),
        ("bns_z_ratio", one.bns_z_ratio),
        ("relative_jump", one.relative_jump),
        ("noise_var", realized::noise_variance(&returns)),
    ];
    for (name, value) in pairs {
        found.set_item(name, value.filter(|_| is_enough))?;
    }
    Ok(found)
}

/// Two-scale realized variance of log prices `k` apart.
#[pyfunction]
fn two_scale(logs: &Bound<'_, PyAny>, k: usize) -> PyResult<Option<f64>> {
    Ok(realized::two_scale(&values::<f64>(logs)?, k))
}

/// Realized kernel of log returns, of Parzen or with equal weights.
#[pyfunction]
fn realized_kernel(
    returns: &Bound<'_, PyAny>,
    lags: usize,
    options: (bool, bool, bool),
) -> PyResult<Option<f64>> {
    let (flat_top, equal, is_scaled) = options;
    let taper = if flat_top { Taper::FlatTop } else { Taper::NonNegative };
    let weights = if equal { |_| 1.0 } else { realized::parzen };
    let kernel = Kernel { lags, taper, is_scaled, weights };
    Ok(realized::kernel(&values::<f64>(returns)?, kernel))
}

/// Lags of a Parzen kernel.
#[pyfunction]
fn kernel_bandwidth(noise: f64, variance: f64, count: usize) -> Option<usize> {
    realized::bandwidth(noise, variance, count)
}

/// The microprice table of quotes in their order, as integers: adjustments in ticks, the first term
/// of each, the largest change of each term, steps that began in each state.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn microprice_table(
    py: Python<'_>,
    columns: [Bound<'_, PyAny>; 4],
    tick: i64,
    spreads: usize,
    buckets: usize,
) -> PyResult<Option<(Vec<Option<f64>>, Vec<f64>, Vec<f64>, Vec<u64>)>> {
    let [bid, bid_size, ask, ask_size]: [Vec<i64>; 4] =
        [values(&columns[0])?, values(&columns[1])?, values(&columns[2])?, values(&columns[3])?];
    let count = of_one_length(&[bid.len(), bid_size.len(), ask.len(), ask_size.len()])?;
    if spreads == 0 || buckets == 0 || spreads * buckets > 1_000 {
        return Err(PyValueError::new_err("expected 1 to 1,000 states"));
    }
    let grid = Grid { spreads, buckets };
    let table = released(py, || {
        let mut steps = Steps::new(grid);
        let mut before: Option<(usize, i128)> = None;
        for at in 0..count {
            let spread = i128::from(ask[at]) - i128::from(bid[at]);
            let mid2 = i128::from(ask[at]) + i128::from(bid[at]);
            let now = grid.state(spread, tick, bid_size[at], ask_size[at]).map(|s| (s, mid2));
            if let (Some(before), Some(now)) = (before, now) {
                steps.add(before.0, now.0, i64::try_from(now.1 - before.1).unwrap_or(0));
            }
            before = now;
        }
        steps.fit(tick)
    });
    Ok(table.map(|table| (table.adjustment, table.first, table.terms, table.counts)))
}

/// Intensity just before each probe; log-likelihood, compensator and residuals until `end`.
#[pyfunction]
fn hawkes_path(
    times: &Bound<'_, PyAny>,
    end: f64,
    parameters: (f64, f64, f64),
    probes: &Bound<'_, PyAny>,
) -> PyResult<(Vec<f64>, f64, f64, Vec<f64>)> {
    let (mu, alpha, beta) = parameters;
    let (process, times) = (Hawkes { mu, alpha, beta }, values::<f64>(times)?);
    let found = process.likelihood(&times, end);
    let lambda = process.intensities(&times, &values::<f64>(probes)?);
    Ok((lambda, found.log, found.compensator, found.residuals))
}

/// The parameters of the largest likelihood.
#[pyfunction]
fn hawkes_fit(
    py: Python<'_>,
    times: &Bound<'_, PyAny>,
    end: f64,
) -> PyResult<Option<(f64, f64, f64)>> {
    let times: Vec<f64> = values(times)?;
    let found = released(py, || Hawkes::fit(&times, end));
    Ok(found.map(|one| (one.mu, one.alpha, one.beta)))
}

/// Exponentially averaged rate of events at each probe.
#[pyfunction]
fn ewma_rate(times: &Bound<'_, PyAny>, tau: f64, probes: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    Ok(hawkes::ewma_rate(&values::<f64>(times)?, tau, &values::<f64>(probes)?))
}

/// The line under delays `y` at times `x`: slope, height at the first time, corners of the hull.
#[pyfunction]
fn delay_line(x: &Bound<'_, PyAny>, y: &Bound<'_, PyAny>) -> PyResult<Option<(f64, f64, usize)>> {
    let (x, y) = (values::<i64>(x)?, values::<i64>(y)?);
    of_one_length(&[x.len(), y.len()])?;
    let mut hull = clock_line::Hull::default();
    x.iter().zip(&y).for_each(|(&x, &y)| hull.add(x, y));
    Ok(hull.line().map(|line| (line.slope, line.at(x[0]), hull.corners().len())))
}

/// First and last time, open, high, low, close, volume, trades, value, buy volume.
type Bar = (i64, i64, i64, i64, i64, i64, i128, u64, i128, i128);

/// Bars of trades: `kind` is `time`, or `sum`, `imbalance` or `runs` of `measure`.
#[pyfunction]
fn trade_bars(
    py: Python<'_>,
    columns: [Bound<'_, PyAny>; 4],
    kind: &str,
    measure: &str,
    threshold: i128,
    options: (bool, bool),
) -> PyResult<Vec<Bar>> {
    let [ts, price, size, sign]: [Vec<i64>; 4] =
        [values(&columns[0])?, values(&columns[1])?, values(&columns[2])?, values(&columns[3])?];
    let count = of_one_length(&[ts.len(), price.len(), size.len(), sign.len()])?;
    let (by_tick, rest) = options;
    let measure = match measure {
        "trades" => Measure::Trades,
        "volume" => Measure::Volume,
        "value" => Measure::Value,
        other => return Err(PyValueError::new_err(format!("expected a measure, got {other:?}"))),
    };
    if threshold <= 0 {
        return Err(PyValueError::new_err(format!(
            "expected a threshold above 0, got {threshold}"
        )));
    }
    let closing = match kind {
        "time" => Closing::Time(i64::try_from(threshold).unwrap_or(i64::MAX)),
        "sum" => Closing::Sum(measure, threshold),
        "imbalance" => Closing::Imbalance(measure, threshold),
        "runs" => Closing::Runs(measure, threshold),
        other => return Err(PyValueError::new_err(format!("expected a kind, got {other:?}"))),
    };
    let bars = released(py, || {
        let mut bars = Bars::new(closing, by_tick);
        let trade = |at: usize| BarTrade {
            ts: ts[at],
            price: price[at],
            size: size[at],
            sign: sign[at].signum() as i8,
        };
        let mut found: Vec<_> = (0..count).filter_map(|at| bars.add(&trade(at))).collect();
        found.extend(bars.rest().filter(|_| rest));
        found
    });
    let row = |bar: &tapeworks_core::estimators::trade_bars::TradeBar| {
        let prices = (bar.open, bar.high, bar.low, bar.close);
        let (open, high, low, close) = prices;
        let sums = (bar.volume, bar.trades, bar.value, bar.buy_volume);
        (bar.first, bar.last, open, high, low, close, sums.0, sums.1, sums.2, sums.3)
    };
    Ok(bars.iter().map(row).collect())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(regress, module)?)?;
    module.add_function(wrap_pyfunction!(principal, module)?)?;
    module.add_function(wrap_pyfunction!(bar_estimates, module)?)?;
    module.add_function(wrap_pyfunction!(realized_measures, module)?)?;
    module.add_function(wrap_pyfunction!(two_scale, module)?)?;
    module.add_function(wrap_pyfunction!(realized_kernel, module)?)?;
    module.add_function(wrap_pyfunction!(kernel_bandwidth, module)?)?;
    module.add_function(wrap_pyfunction!(microprice_table, module)?)?;
    module.add_function(wrap_pyfunction!(hawkes_path, module)?)?;
    module.add_function(wrap_pyfunction!(hawkes_fit, module)?)?;
    module.add_function(wrap_pyfunction!(ewma_rate, module)?)?;
    module.add_function(wrap_pyfunction!(delay_line, module)?)?;
    module.add_function(wrap_pyfunction!(trade_bars, module)?)?;
    Ok(())
}
