//! Variance of a series of log returns, its robust kin, tests for jumps, and estimators that noise
//! does not bias.
//!
//! Returns are those between two prices that were there: nothing stands in front of the first.

use std::f64::consts::{FRAC_PI_2, PI};

/// Returns that a value is made of, at least.
pub const RETURNS_MIN: usize = 10;
/// 2^(2/3) Gamma(7/6) / Gamma(1/2).
const MU: f64 = 0.830_860_925_029_559_2;

/// Sums over returns, all of sizes: of squares below and above 0; of products of two in a row; of
/// squares of the smaller of two, and of the middle of three; of fourth powers; of products of
/// three, to the power of 4/3, and of four.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Number of returns.
    pub count: f64,
    /// Of r^2 below 0.
    pub down: f64,
    /// Of r^2 above 0.
    pub up: f64,
    /// Of the product of two in a row.
    pub pairs: f64,
    /// Of the square of the smaller of two.
    pub smaller: f64,
    /// Of the square of the middle of three.
    pub middle: f64,
    /// Of r^4.
    pub fourth: f64,
    /// Of the product of three, to the power of 4/3.
    pub triples: f64,
    /// Of the product of four.
    pub quadruples: f64,
}

/// The middle one of three.
pub fn middle(a: f64, b: f64, c: f64) -> f64 {
    a.min(b).max(a.max(b).min(c))
}

/// What is made of [`Sums`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// Realized variance.
    pub rv: f64,
    /// That of returns below 0.
    pub down: f64,
    /// That of returns above 0.
    pub up: f64,
    /// Bipower variation.
    pub bv: f64,
    /// Bipower variation, for small samples.
    pub bv_ss: f64,
    /// By the smaller of two.
    pub min_rv: f64,
    /// By the middle of three.
    pub med_rv: f64,
    /// Quarticity.
    pub rq: f64,
    /// Tripower quarticity.
    pub tpq: f64,
    /// Quadpower quarticity.
    pub qpq: f64,
    /// Test for jumps, linear; none where the price does not move.
    pub bns_z: Option<f64>,
    /// Test for jumps, by the ratio.
    pub bns_z_ratio: Option<f64>,
    /// Share of the variance that is jumps.
    pub relative_jump: Option<f64>,
}

impl Sums {
    /// Those of `returns`.
    pub fn of(returns: &[f64]) -> Self {
        let mut sums = Self { count: returns.len() as f64, ..Self::default() };
        for (at, &change) in returns.iter().enumerate() {
            let square = change * change;
            *if change < 0.0 { &mut sums.down } else { &mut sums.up } += square;
            sums.fourth += square * square;
            let back = |steps: usize| at.checked_sub(steps).map(|at| returns[at].abs());
            let size = change.abs();
            let Some(one) = back(1) else { continue };
            sums.pairs += size * one;
            sums.smaller += size.min(one).powi(2);
            let Some(two) = back(2) else { continue };
            sums.middle += middle(size, one, two).powi(2);
            sums.triples += (size * one * two).cbrt().powi(4);
            let Some(three) = back(3) else { continue };
            sums.quadruples += size * one * two * three;
        }
        sums
    }

    /// The measures.
    pub fn measures(&self) -> Measures {
        let n = self.count;
        let (rv, bv) = (self.down + self.up, FRAC_PI_2 * self.pairs);
        let tpq = n * n / (n - 2.0) * MU.powi(-3) * self.triples;
        let theta = PI * PI / 4.0 + PI - 3.0;
        let moves = bv > 0.0 && tpq > 0.0;
        let z = n.sqrt() * (rv - bv) / ((theta - 2.0) * tpq).sqrt();
        let bound = (tpq / (bv * bv)).max(1.0);
        let ratio = n.sqrt() * (1.0 - bv / rv) / ((theta - 2.0) * bound).sqrt();
        Measures {
            rv,
            down: self.down,
            up: self.up,
            bv,
            bv_ss: bv * n / (n - 1.0),
            min_rv: PI / (PI - 2.0) * n / (n - 1.0) * self.smaller,
            med_rv: PI / (6.0 - 4.0 * 3.0_f64.sqrt() + PI) * n / (n - 2.0) * self.middle,
            rq: n / 3.0 * self.fourth,
            tpq,
            qpq: n * n / (n - 3.0) * PI * PI / 4.0 * self.quadruples,
            bns_z: moves.then_some(z),
            bns_z_ratio: moves.then_some(ratio),
            relative_jump: moves.then(|| (1.0 - bv / rv).max(0.0)),
        }
    }
}

/// Variance of the noise of a price that is observed at each of its changes; too large where there
/// is little.
pub fn noise_variance(returns: &[f64]) -> Option<f64> {
    let count = returns.len();
    let squares: f64 = returns.iter().map(|change| change * change).sum();
    (count >= RETURNS_MIN).then(|| squares / (2 * count) as f64)
}

/// Two-scale realized variance (Zhang, Mykland & Ait-Sahalia 2005) of log prices, `k` apart, with
/// the factor for small samples. None of fewer than `4 k` prices.
pub fn two_scale(logs: &[f64], k: usize) -> Option<f64> {
    let n = logs.len();
    if k < 2 || n < 4 * k {
        return None;
    }
    let average = |step: usize| {
        logs.iter().zip(&logs[step..]).map(|(a, b)| (b - a).powi(2)).sum::<f64>() / step as f64
    };
    let ratio = (n - k + 1) as f64 / k as f64 / n as f64;
    Some((average(k) - ratio * average(1)) / (1.0 - ratio))
}

/// Where the weights of a realized kernel lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taper {
    /// `k(h / (H + 1))`: never negative (Barndorff-Nielsen et al. 2009).
    NonNegative,
    /// `k((h - 1) / H)`: flat at the top; may be negative (2008).
    FlatTop,
}

/// The weights of Parzen.
pub fn parzen(x: f64) -> f64 {
    if x <= 0.5 {
        1.0 - 6.0 * x * x + 6.0 * x.powi(3)
    } else {
        2.0 * (1.0 - x).max(0.0).powi(3)
    }
}

/// How a realized kernel is calculated.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Lags.
    pub lags: usize,
    /// Where its weights lie.
    pub taper: Taper,
    /// Whether each autocovariance is scaled for the returns that its lag leaves out.
    pub is_scaled: bool,
    /// The weights.
    pub weights: fn(f64) -> f64,
}

/// Realized kernel of log returns.
pub fn kernel(returns: &[f64], kernel: Kernel) -> Option<f64> {
    let Kernel { lags, taper, is_scaled, weights: k } = kernel;
    if returns.len() < RETURNS_MIN.max(lags + 1) {
        return None;
    }
    let count = returns.len();
    let covariance = |lag: usize| {
        let sum = returns.iter().zip(&returns[lag..]).map(|(a, b)| a * b).sum::<f64>();
        if is_scaled {
            sum * count as f64 / (count - lag) as f64
        } else {
            sum
        }
    };
    let weight = |lag: usize| match taper {
        Taper::NonNegative => k(lag as f64 / (lags + 1) as f64),
        Taper::FlatTop => k((lag - 1) as f64 / lags as f64),
    };
    let rest: f64 = (1..=lags).map(|lag| weight(lag) * covariance(lag)).sum();
    Some(covariance(0) + 2.0 * rest)
}

/// Mean of the realized variances of log prices `k` apart, over all of their grids.
pub fn sparse_variance(logs: &[f64], k: usize) -> Option<f64> {
    let squares = logs.iter().zip(logs.get(k..)?).map(|(a, b)| (b - a).powi(2));
    (k > 0 && logs.len() > k).then(|| squares.sum::<f64>() / k as f64)
}

/// Lags of a Parzen kernel of `count` returns, by the variances of noise and price.
pub fn bandwidth(noise: f64, variance: f64, count: usize) -> Option<usize> {
    let lags = 3.5134 * (noise / variance).powf(0.4) * (count as f64).powf(0.6);
    (lags.is_finite() && variance > 0.0).then(|| (lags.ceil() as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_in_front_is_no_return() {
        // With a zero in front of the returns, whatever counts them differs: none is added here.
        let returns = [0.01, -0.02, 0.005, 0.01, -0.01, 0.02, 0.01, -0.005, 0.01, 0.02];
        let mut padded = vec![0.0];
        padded.extend(returns);
        let (found, wrong) = (Sums::of(&returns).measures(), Sums::of(&padded).measures());
        assert_eq!(found.rv.to_bits(), wrong.rv.to_bits());
        assert!(wrong.rq > found.rq * 1.09 && wrong.min_rv < found.min_rv);
        assert!(
            (found.rq - 10.0 / 3.0 * returns.map(|r| r * r * r * r).iter().sum::<f64>()).abs()
                < 1e-15
        );
    }

    #[test]
    fn kernel_that_is_flat_at_the_top_is_not_the_one_that_is_never_negative() {
        // A price that bounces between two values: the true variance is 0.
        let returns: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 0.01 } else { -0.01 }).collect();
        let with = |taper| Kernel { lags: 5, taper, is_scaled: false, weights: parzen };
        let of = |taper| kernel(&returns, with(taper)).unwrap();
        assert!(of(Taper::FlatTop) < 0.0 && of(Taper::NonNegative) >= 0.0);
        assert_eq!(kernel(&returns[..9], with(Taper::FlatTop)), None);
    }

    #[test]
    fn two_scales_need_four_times_as_many_prices() {
        let logs: Vec<f64> = (0..40).map(|i| f64::from(i % 7) / 100.0).collect();
        assert!(two_scale(&logs, 10).is_some() && two_scale(&logs[..39], 10).is_none());
    }
}
