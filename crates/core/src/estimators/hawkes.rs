//! Hawkes processes with one exponential kernel: intensity, likelihood, residuals, fit.
//!
//! `lambda(t) = mu + alpha beta S(t)`, where S decays by `beta` and each event adds 1 to it behind
//! itself. Times are seconds, and distinct: events of one time are to be merged first.

/// The parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hawkes {
    /// Events a second that nothing excites.
    pub mu: f64,
    /// Events that each event excites; below 1 where the process is stable.
    pub alpha: f64,
    /// Decay, a second.
    pub beta: f64,
}

/// How well a process fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// In nats.
    pub log: f64,
    /// Events that were expected from 0 to the end.
    pub compensator: f64,
    /// What was expected between two events: exponential with mean 1 if the model is right.
    pub residuals: Vec<f64>,
}

impl Hawkes {
    /// The intensity just before each of `probes`, which rise, as do `times`.
    pub fn intensities(&self, times: &[f64], probes: &[f64]) -> Vec<f64> {
        let (mut sum, mut last, mut next) = (0.0, 0.0, 0);
        let mut found = Vec::with_capacity(probes.len());
        for &probe in probes {
            while let Some(&time) = times.get(next).filter(|&&time| time < probe) {
                sum = sum * (-self.beta * (time - last)).exp() + 1.0;
                (last, next) = (time, next + 1);
            }
            let decayed = sum * (-self.beta * (probe - last)).exp();
            found.push(self.mu + self.alpha * self.beta * decayed);
        }
        found
    }

    /// The likelihood of events at `times` from 0 to `end`.
    pub fn likelihood(&self, times: &[f64], end: f64) -> Likelihood {
        let (mut sum, mut last, mut log, mut before) = (0.0, 0.0, 0.0, 0.0);
        let mut residuals = Vec::with_capacity(times.len());
        let mut excited = 0.0;
        for &time in times {
            let gap = time - last;
            let decay = (-self.beta * gap).exp();
            // What the events before excite until this one.
            let expected = self.mu * gap + self.alpha * sum * (1.0 - decay);
            residuals.push(expected);
            before += expected;
            sum *= decay;
            log += (self.mu + self.alpha * self.beta * sum).ln();
            sum += 1.0;
            last = time;
            excited += 1.0 - (-self.beta * (end - time)).exp();
        }
        debug_assert!(before >= 0.0);
        let compensator = self.mu * end + self.alpha * excited;
        Likelihood { log: log - compensator, compensator, residuals }
    }

    /// The parameters of the largest likelihood, by the simplex of Nelder & Mead over their logs.
    /// None of fewer than 10 events, or where `end` is not behind them.
    pub fn fit(times: &[f64], end: f64) -> Option<Self> {
        let count = times.len() as f64;
        if times.len() < 10 || times.last().is_none_or(|&last| last > end) || end <= 0.0 {
            return None;
        }
        let rate = count / end;
        let of = |point: &[f64; 3]| Self {
            mu: point[0].exp(),
            // Between 0 and 1.
            alpha: 1.0 / (1.0 + (-point[1]).exp()),
            beta: point[2].exp(),
        };
        let cost = |point: &[f64; 3]| {
            let cost = -of(point).likelihood(times, end).log;
            if cost.is_finite() {
                cost
            } else {
                f64::MAX
            }
        };
        // Kernels that decay over one to a thousand events are tried from the start.
        let starts =
            [0.1, 1.0, 10.0, 100.0].map(|factor| [(rate / 2.0).ln(), 0.0, (rate * factor).ln()]);
        let found = starts.map(|start| simplex(start, cost));
        let best = found.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(of(&best.0))
    }
}

/// The point of the least cost near `start`.
fn simplex(start: [f64; 3], cost: impl Fn(&[f64; 3]) -> f64) -> ([f64; 3], f64) {
    let mut points: Vec<([f64; 3], f64)> = (0..4)
        .map(|at| {
            let mut point = start;
            if at > 0 {
                point[at - 1] += 0.5;
            }
            (point, cost(&point))
        })
        .collect();
    for _ in 0..400 {
        points.sort_by(|a, b| a.1.total_cmp(&b.1));
        if points[3].1 - points[0].1 <= 1e-12 * points[0].1.abs() {
            break;
        }
        let centre: [f64; 3] =
            std::array::from_fn(|i| points[..3].iter().map(|one| one.0[i]).sum::<f64>() / 3.0);
        let along = |factor: f64| {
            let worst = points[3].0;
            let point = std::array::from_fn(|i| centre[i] + factor * (worst[i] - centre[i]));
            (point, cost(&point))
        };
        let mirrored = along(-1.0);
        let next = if mirrored.1 < points[0].1 {
            let further = along(-2.0);
            if further.1 < mirrored.1 {
                further
            } else {
                mirrored
            }
        } else if mirrored.1 < points[2].1 {
            mirrored
        } else {
            along(if mirrored.1 < points[3].1 { -0.5 } else { 0.5 })
        };
        if next.1 < points[3].1 {
            points[3] = next;
            continue;
        }
        let best = points[0].0;
        for (point, value) in &mut points[1..] {
            *point = std::array::from_fn(|i| (best[i] + point[i]) / 2.0);
            *value = cost(point);
        }
    }
    points.sort_by(|a, b| a.1.total_cmp(&b.1));
    points[0]
}

/// Rate of events that is averaged exponentially over `tau` seconds, read at each of `probes`:
/// an event at the time of a probe is in.
pub fn ewma_rate(times: &[f64], tau: f64, probes: &[f64]) -> Vec<f64> {
    let (mut rate, mut last, mut next) = (0.0, 0.0, 0);
    let mut found = Vec::with_capacity(probes.len());
    for &probe in probes {
        while let Some(&time) = times.get(next).filter(|&&time| time <= probe) {
            rate = rate * (-(time - last) / tau).exp() + 1.0 / tau;
            (last, next) = (time, next + 1);
        }
        found.push(rate * (-(probe - last) / tau).exp());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intensity_jumps_behind_an_event_and_residuals_add_up_to_the_compensator() {
        let process = Hawkes { mu: 0.5, alpha: 0.4, beta: 2.0 };
        let times = [1.0, 1.5, 4.0];
        let found = process.intensities(&times, &[1.0, 1.5, 1.500_001]);
        assert_eq!(found[0], 0.5);
        assert!((found[1] - (0.5 + 0.8 * (-1.0_f64).exp())).abs() < 1e-15);
        assert!((found[2] - (0.5 + 0.8 * (1.0 + (-1.0_f64).exp()))).abs() < 1e-5);
        let all = process.likelihood(&times, 4.0);
        assert!((all.residuals.iter().sum::<f64>() - all.compensator).abs() < 1e-12);
    }

    #[test]
    fn fit_is_better_than_the_parameters_that_events_were_made_with() {
        // Thinned by a fixed sequence of numbers: 3,000 events of a process that is known.
        let made = Hawkes { mu: 0.5, alpha: 0.6, beta: 3.0 };
        let mut state = 7_u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        let (mut times, mut now, mut sum) = (Vec::new(), 0.0_f64, 0.0_f64);
        while times.len() < 3_000 {
            let most = made.mu + made.alpha * made.beta * sum;
            let gap = -uniform().ln() / most;
            (now, sum) = (now + gap, sum * (-made.beta * gap).exp());
            if uniform() * most <= made.mu + made.alpha * made.beta * sum {
                times.push(now);
                sum += 1.0;
            }
        }
        let found = Hawkes::fit(&times, now).unwrap();
        assert!(found.likelihood(&times, now).log >= made.likelihood(&times, now).log);
        assert!((found.alpha - 0.6).abs() < 0.06 && (found.beta - 3.0).abs() < 0.6, "{found:?}");
        assert_eq!(Hawkes::fit(&times[..9], now), None);
    }
}
