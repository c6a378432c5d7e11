//! `metric` and `volatility`: a metric beyond a limit, or far from its own history.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event, Hold};
use super::history::{History, TO_SD};
use super::rule::Rule;
use super::table::{count, number, Entry, Number, Text, FOR_MS};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{unpadded, FLAG_MAYBE_BAD, FLAG_OUT_OF_ORDER};

/// What stands for "no limit".
const NEVER: f64 = 1e300;
/// Values without which there is no history to compare with.
const VALUES_MIN: usize = 60;

const fn limit(name: &'static str, default: f64, doc: &'static str) -> Number {
    Number { name, default, least: -NEVER, most: NEVER, is_whole: false, doc }
}

const NUMBERS: &[Number] = &[
    limit("above", NEVER, "the value is too high above this"),
    limit("below", -NEVER, "the value is too low below this"),
    number("deviations", 0.0, "robust standard deviations from its median of before; 0: never"),
    count("history", 600.0, "values that are what was before; at least 60 must have come"),
    FOR_MS,
];

pub(super) const ENTRY: Entry = Entry {
    numbers: NUMBERS,
    texts: &[Text {
        name: "metric",
        default: "",
        doc: "name of a metric with its parameters, such as ofi_10s, which [metrics] makes",
    }],
    check,
    ..Entry::new(
        "metric",
        "a metric is `above` or `below` a limit, or `deviations` from its own history",
        "subject: the metric; value; threshold: the limit; detail: median and deviation",
        |rule| Box::new(Measured::new(rule)),
    )
};

pub(super) const VOLATILITY: Entry = Entry {
    numbers: NUMBERS,
    texts: &[Text {
        name: "metric",
        default: "rv_60s",
        doc: "which measure of volatility, which [metrics] makes",
    }],
    check,
    ..Entry::new("volatility", "as `metric`, of realized variance", "as `metric`", |rule| {
        Box::new(Measured::new(rule))
    })
};

fn check(rule: &Rule) -> Result<()> {
    if rule.text("metric").is_empty() {
        return Err(Error::invalid("metric: expected the name of a metric, got none"));
    }
    let has_limit = rule.number("above") < NEVER || rule.number("below") > -NEVER;
    if !has_limit && rule.number("deviations") == 0.0 {
        return Err(Error::invalid("expected above, below or deviations, got none"));
    }
    Ok(())
}

#[derive(Debug)]
struct Measured {
    metric: String,
    above: f64,
    below: f64,
    deviations: f64,
    history: History,
    hold: Hold,
    last: f64,
    limit: Option<(f64, f64, f64)>,
}

impl Measured {
    fn new(rule: &Rule) -> Self {
        Self {
            metric: rule.text("metric").to_owned(),
            above: rule.number("above"),
            below: rule.number("below"),
            deviations: rule.number("deviations"),
            history: History::new(rule.count("history").max(VALUES_MIN)),
            hold: Hold::new(rule.ns("for_ms")),
            last: f64::NAN,
            limit: None,
        }
    }

    /// Median and median deviation. Where most values are one and the same, as a spread of a tick
    /// is, their median deviation is 0 whatever the others are: there the standard deviation stands
    /// for it.
    fn spread(&self) -> Option<(f64, f64)> {
        let (middle, deviation) = self.history.spread()?;
        if deviation > 0.0 {
            return Some((middle, deviation));
        }
        Some((middle, self.history.deviation_about(middle)? / TO_SD))
    }

    /// The limit that `value` is beyond, with the median and the deviation of its history.
    fn beyond(&self, value: f64) -> Option<(f64, f64, f64)> {
        let has_history = self.deviations > 0.0 && self.history.len() >= VALUES_MIN;
        let (middle, deviation) =
            self.spread().filter(|_| has_history).unwrap_or((f64::NAN, f64::NAN));
        let reach = self.deviations * TO_SD * deviation;
        if value > self.above {
            Some((self.above, middle, deviation))
        } else if value < self.below {
            Some((self.below, middle, deviation))
        } else if (value - middle).abs() > reach {
            let limit = if value > middle { middle + reach } else { middle - reach };
            Some((limit, middle, deviation))
        } else {
            None
        }
    }

    fn look(&mut self, scope: &mut Scope<'_>) {
        let evidence = self.limit.map(|(threshold, middle, deviation)| Evidence {
            value: self.last,
            threshold,
            subject: self.metric.clone(),
            detail: if middle.is_nan() {
                String::new()
            } else {
                format!("median={middle:.6e} deviation={:.6e}", TO_SD * deviation)
            },
            ..Evidence::at(&scope.at)
        });
        self.hold.set(evidence, scope);
    }
}

impl Detector for Measured {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            // A late trade that corrects a window which is over says nothing of now.
            Event::Metric(metric) if metric.header.flags & FLAG_OUT_OF_ORDER != 0 => {}
            Event::Metric(metric) if unpadded(&metric.metric) == self.metric => {
                // Nothing is known without a value, or of a part: it is neither beyond nor within.
                let is_bound = metric.header.flags & FLAG_MAYBE_BAD != 0;
                let value = metric.value().filter(|_| !is_bound);
                self.last = value.unwrap_or(f64::NAN);
                self.limit = value.and_then(|value| self.beyond(value));
                if let Some(value) = value.filter(|_| self.limit.is_none()) {
                    self.history.push(value);
                }
                self.look(scope);
            }
            Event::Time if scope.at.ts_recv >= self.hold.due() => self.look(scope),
            Event::Break => {
                self.limit = None;
                self.history.clear();
                self.look(scope);
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.hold.due()
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.history.write(state);
        self.hold.write(state);
        state.u64(self.last.to_bits());
        state.flag(self.limit.is_some());
        if let Some((limit, middle, deviation)) = self.limit {
            [limit, middle, deviation].iter().for_each(|value| state.u64(value.to_bits()));
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.history.read(state)?;
        self.hold.read(state)?;
        let float = |state: &mut StateReader<'_>| state.u64().map(f64::from_bits);
        self.last = float(state)?;
        self.limit = None;
        if state.flag()? {
            self.limit = Some((float(state)?, float(state)?, float(state)?));
        }
        Ok(())
    }
}
