//! Variance that bars imply by their range. All are means over bars, of squared log returns.

/// The four prices of a bar; NaN: missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ohlc {
    /// The first price.
    pub open: f64,
    /// The highest.
    pub high: f64,
    /// The lowest.
    pub low: f64,
    /// The last.
    pub close: f64,
}

impl Ohlc {
    /// The logs of all four.
    pub(super) fn logs(&self) -> Self {
        Self {
            open: self.open.ln(),
            high: self.high.ln(),
            low: self.low.ln(),
            close: self.close.ln(),
        }
    }

    /// The middle of the range.
    pub(super) const fn middle(&self) -> f64 {
        (self.high + self.low) / 2.0
    }
}

fn mean(bars: &[Ohlc], of: impl Fn(&Ohlc) -> f64) -> Option<f64> {
    let terms = bars.iter().map(|bar| of(&bar.logs())).filter(|term| !term.is_nan());
    let (count, sum) = terms.fold((0.0, 0.0), |(count, sum), term| (count + 1.0, sum + term));
    (count > 0.0).then(|| sum / count)
}

/// Parkinson 1980: by high and low.
pub fn parkinson(bars: &[Ohlc]) -> Option<f64> {
    mean(bars, |bar| (bar.high - bar.low).powi(2) / (4.0 * std::f64::consts::LN_2))
}

/// Garman & Klass 1980: by all four prices, without drift.
pub fn garman_klass(bars: &[Ohlc]) -> Option<f64> {
    let factor = 2.0 * std::f64::consts::LN_2 - 1.0;
    mean(bars, |bar| (bar.high - bar.low).powi(2) / 2.0 - factor * (bar.close - bar.open).powi(2))
}

/// Rogers & Satchell 1991: by all four prices, whatever the drift.
pub fn rogers_satchell(bars: &[Ohlc]) -> Option<f64> {
    mean(bars, |bar| {
        (bar.high - bar.close) * (bar.high - bar.open)
            + (bar.low - bar.close) * (bar.low - bar.open)
    })
}

/// Yang & Zhang 2000: Rogers & Satchell within bars, with the moves between them. Of three bars
/// or more.
pub fn yang_zhang(bars: &[Ohlc]) -> Option<f64> {
    let pairs = || bars.windows(2).map(|pair| (pair[0].logs(), pair[1].logs()));
    let n = bars.len().checked_sub(1).filter(|&count| count >= 2)? as f64;
    let variance = |of: fn(&(Ohlc, Ohlc)) -> f64| {
        let mean = pairs().map(|pair| of(&pair)).sum::<f64>() / n;
        pairs().map(|pair| (of(&pair) - mean).powi(2)).sum::<f64>() / (n - 1.0)
    };
    let between = variance(|(before, now)| now.open - before.close);
    let within = variance(|(_, now)| now.close - now.open);
    let k = 0.34 / (1.34 + (n + 1.0) / (n - 1.0));
    let value = between + k * within + (1.0 - k) * rogers_satchell(&bars[1..])?;
    value.is_finite().then_some(value)
}
