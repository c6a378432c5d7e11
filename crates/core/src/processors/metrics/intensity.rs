//! Set `hawkes`: the intensity of orders that take, as a process that excites itself.
//!
//! Events are trades of distinct times: a run of trades of one time is one event. The parameters
//! are those of the setting `hawkes`, of a fit on days before: `research.hawkes` makes it. Without
//! them all is null.

use super::family::{Family, Moment, Print, Set, Values};
use super::table::{Line, Per};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

const NONE_GIVEN: &str = "`hawkes` is not set, or no trade since the stream began";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: NONE_GIVEN }
}

pub(super) const SET: Set = Set {
    name: "hawkes",
    doc: "intensity of orders that take, which excite each other, by parameters that are given",
    lines: &[
        line(
            "hawkes_lambda",
            "mu + alpha beta S, S <- e^(-beta dt) (S + 1) at each event; just behind the moment",
            "a second",
        ),
        line(
            "hawkes_loglik",
            "sum of ln lambda before each event, less what was expected since the stream began",
            "nats",
        ),
        line("hawkes_expected", "events that were expected since the stream began", "events"),
    ],
    build: |terms| Box::new(Intensity::new(terms.hawkes)),
    has_book: false,
};

#[derive(Debug)]
struct Intensity {
    /// The bits of mu, alpha, beta.
    given: Option<[u64; 3]>,
    /// Time of the first event and of the last; `i64::MIN` before them.
    first: i64,
    last: i64,
    /// S behind the last event.
    sum: f64,
    log: f64,
    /// What was expected until the last event.
    expected: f64,
    events: u64,
}

impl Intensity {
    const fn new(given: Option<[u64; 3]>) -> Self {
        Self {
            given,
            first: i64::MIN,
            last: i64::MIN,
            sum: 0.0,
            log: 0.0,
            expected: 0.0,
            events: 0,
        }
    }

    /// At `ts`: S, and what was expected since the last event.
    fn at(&self, ts: i64, [mu, alpha, beta]: [f64; 3]) -> (f64, f64) {
        let gap = (ts - self.last) as f64 / 1e9;
        let decay = (-beta * gap).exp();
        (self.sum * decay, mu * gap + alpha * self.sum * (1.0 - decay))
    }
}

impl Family for Intensity {
    fn print(&mut self, print: &Print) {
        let Some(given) = self.given.map(|given| given.map(f64::from_bits)) else { return };
        if print.ts == self.last {
            return;
        }
        if self.first == i64::MIN {
            // What is before the first event is not known: the stream begins with it.
            (self.first, self.last, self.sum, self.events) = (print.ts, print.ts, 1.0, 1);
            return;
        }
        let [mu, alpha, beta] = given;
        let (sum, expected) = self.at(print.ts, given);
        self.log += (mu + alpha * beta * sum).ln();
        self.expected += expected;
        (self.sum, self.last) = (sum + 1.0, print.ts);
        self.events += 1;
    }

    fn reset(&mut self) {
        *self = Self::new(self.given);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        let given = self.given.filter(|_| self.first != i64::MIN);
        let found = given.map(|given| {
            let given = given.map(f64::from_bits);
            let (sum, expected) = self.at(moment.ts, given);
            let expected = self.expected + expected;
            [given[0] + given[1] * given[2] * sum, self.log - expected, expected]
        });
        (0..3).for_each(|at| out.push(found.map(|found| found[at]), self.events));
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.given.unwrap_or_default().into_iter().for_each(|bits| state.u64(bits));
        state.i64(self.first);
        state.i64(self.last);
        [self.sum, self.log, self.expected]
            .into_iter()
            .for_each(|value| state.u64(value.to_bits()));
        state.u64(self.events);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        for ours in self.given.unwrap_or_default() {
            super::same_setting("hawkes", ours as i64, state.i64()?)?;
        }
        (self.first, self.last) = (state.i64()?, state.i64()?);
        for value in [&mut self.sum, &mut self.log, &mut self.expected] {
            *value = f64::from_bits(state.u64()?);
        }
        self.events = state.u64()?;
        Ok(())
    }
}
