//! Spreads that bars imply, without quotes.
//!
//! Bars are consecutive. A price that is missing is NaN, and leaves out each term that it is part
//! of, and no other. Results are fractions of the price. A signed one is below 0 where noise
//! outweighs the spread: such values belong into means over many, and are no spread by themselves.

use super::ranges::Ohlc;

/// Bars of which an estimate is made, at least.
pub const BARS_MIN: usize = 3;

/// Mean, and mean square, of the terms that exist.
fn moments(terms: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for term in terms.filter(|term| !term.is_nan()) {
        count += 1.0;
        sum += term;
        squares += term * term;
    }
    (sum / count, squares / count)
}

fn mean(terms: impl Iterator<Item = f64>) -> f64 {
    moments(terms).0
}

fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The root of a square that noise may have made negative, with its sign.
fn signed_root(square: f64) -> f64 {
    square.abs().sqrt().copysign(square)
}

/// Corwin & Schultz 2012, from highs and lows: the mean over pairs of bars as it is, and the mean
/// with negative terms as 0.
pub fn corwin_schultz(bars: &[Ohlc]) -> Option<(f64, f64)> {
    let terms = || bars.windows(2).map(|pair| two_day_spread(&pair[0].logs(), &pair[1].logs()));
    // The larger of a number and 0, and NaN of NaN.
    let positive = |term: f64| if term < 0.0 { 0.0 } else { term };
    Some((known(mean(terms()))?, known(mean(terms().map(positive)))?))
}

fn two_day_spread(before: &Ohlc, now: &Ohlc) -> f64 {
    let k = 3.0 - 2.0 * 2.0_f64.sqrt();
    if [before.high, before.low, before.close, now.high, now.low].into_iter().any(f64::is_nan) {
        return f64::NAN;
    }
    // A move between bars is no range of theirs.
    let gap = (before.close - now.high).max(0.0) + (before.close - now.low).min(0.0);
    let beta = (now.high - now.low).powi(2) + (before.high - before.low).powi(2);
    let (high, low) = (now.high + gap, now.low + gap);
    let gamma = (high.max(before.high) - low.min(before.low)).powi(2);
    let alpha = ((2.0 * beta).sqrt() - beta.sqrt()) / k - (gamma / k).sqrt();
    2.0 * (alpha.exp() - 1.0) / (1.0 + alpha.exp())
}

/// Abdi & Ranaldo 2017, from closes and the middle of ranges; signed.
pub fn abdi_ranaldo(bars: &[Ohlc]) -> Option<f64> {
    let terms = bars.windows(2).map(|pair| {
        let (before, now) = (pair[0].logs(), pair[1].logs());
        4.0 * (before.close - before.middle()) * (before.close - now.middle())
    });
    known(signed_root(mean(terms)))
}

/// Roll 1984, from log closes; signed: negative where consecutive returns go the same way.
pub fn roll(bars: &[Ohlc]) -> Option<f64> {
    let changes = |pair: &[Ohlc]| pair[1].close.ln() - pair[0].close.ln();
    let pairs = || {
        bars.windows(3)
            .map(|three| (changes(&three[..2]), changes(&three[1..])))
            .filter(|(before, now)| !(before + now).is_nan())
    };
    let count = pairs().count() as f64;
    let before = mean(pairs().map(|pair| pair.0));
    let now = mean(pairs().map(|pair| pair.1));
    let products: f64 = pairs().map(|pair| (pair.0 - before) * (pair.1 - now)).sum();
    known(2.0 * signed_root(-products / (count - 1.0)))
}

/// Whether two prices differ; NaN where one is missing.
fn differ(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        f64::from(u8::from(a != b))
    }
}

/// The differences of one bar and that before it that EDGE is made of.
struct Steps {
    r: [f64; 5],
    tau: f64,
    at_open: [f64; 2],
    at_close: [f64; 2],
}

impl Steps {
    fn of(before: &Ohlc, now: &Ohlc) -> Self {
        let (b, n) = (before.logs(), now.logs());
        let (middle, last) = (n.middle(), b.middle());
        let missing = now.high.is_nan() || now.low.is_nan() || before.close.is_nan();
        let moves = now.high != now.low || now.low != before.close;
        let tau = if missing { f64::NAN } else { f64::from(u8::from(moves)) };
        Self {
            r: [middle - n.open, n.open - last, middle - b.close, b.close - last, n.open - b.close],
            tau,
            at_open: [tau * differ(now.open, now.high), tau * differ(now.open, now.low)],
            at_close: [
                tau * differ(before.close, before.high),
                tau * differ(before.close, before.low),
            ],
        }
    }
}

/// Ardia, Guidotti & Kroencke 2024 ("EDGE"), from all four prices; signed.
pub fn edge(bars: &[Ohlc]) -> Option<f64> {
    if bars.len() < BARS_MIN {
        return None;
    }
    let steps: Vec<Steps> = bars.windows(2).map(|pair| Steps::of(&pair[0], &pair[1])).collect();
    let over = |of: &dyn Fn(&Steps) -> f64| moments(steps.iter().map(of));
    let moved: f64 = steps.iter().map(|step| step.tau).filter(|tau| !tau.is_nan()).sum();
    let open = over(&|step| step.at_open[0]).0 + over(&|step| step.at_open[1]).0;
    let close = over(&|step| step.at_close[0]).0 + over(&|step| step.at_close[1]).0;
    // NaN where there is no term at all.
    if moved < 2.0 || [open, close].into_iter().any(|share| share.is_nan() || share <= 0.0) {
        return None;
    }
    let share = over(&|step| step.tau).0;
    let means = [0, 2, 4].map(|at| over(&|step| step.r[at]).0 / share);
    let d = |step: &Steps, which: usize| step.r[2 * which] - means[which] * step.tau;
    let first =
        over(&|step| -4.0 / open * d(step, 0) * step.r[1] - 4.0 / close * d(step, 1) * step.r[3]);
    let second =
        over(&|step| -4.0 / open * d(step, 0) * step.r[4] - 4.0 / close * d(step, 2) * step.r[3]);
    let variance = |(mean, square): (f64, f64)| square - mean * mean;
    let (v1, v2) = (variance(first), variance(second));
    let square = if v1 + v2 > 0.0 {
        (v2 * first.0 + v1 * second.0) / (v1 + v2)
    } else {
        (first.0 + second.0) / 2.0
    };
    known(signed_root(square))
}
