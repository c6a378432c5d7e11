//! Set `range`: variance and spread that bars of trade prices imply, without quotes.
//!
//! A bar is [kW, (k+1)W), W = `bar_ms`; one without a trade is none. Values are of the last
//! `span_bars` bars that are over.

use std::collections::VecDeque;

use super::family::{Family, Moment, Print, Set, Values};
use super::table::{Line, Per};
use crate::error::Result;
use crate::estimators::bar_spreads::{self, BARS_MIN};
use crate::estimators::ranges::{self, Ohlc};
use crate::processors::state::{StateReader, StateWriter};

const FEW: &str = "fewer than 3 bars with a trade";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: FEW }
}

const VARIANCE: &str = "squared log return of a bar";
const SPREAD: &str = "fraction of the price, signed";

pub(super) const SET: Set = Set {
    name: "range",
    doc: "variance and spread that the last bars of trade prices imply, without quotes",
    lines: &[
        line("parkinson", "mean of ln(H/L)^2 / (4 ln 2)", VARIANCE),
        line("garman_klass", "mean of ln(H/L)^2/2 - (2 ln 2 - 1) ln(C/O)^2", VARIANCE),
        line("rogers_satchell", "mean of ln(H/C) ln(H/O) + ln(L/C) ln(L/O)", VARIANCE),
        line(
            "yang_zhang",
            "var(ln(O/C before)) + k var(ln(C/O)) + (1-k) rogers_satchell, \
             k = 0.34/(1.34+(n+1)/(n-1))",
            VARIANCE,
        ),
        line(
            "spread_cs_signed",
            "mean over pairs of bars of 2(e^a - 1)/(1 + e^a), a by highs and lows \
             (Corwin & Schultz)",
            SPREAD,
        ),
        Line {
            unit: "fraction of the price",
            ..line("spread_cs_zero", "the same with negative terms as 0", SPREAD)
        },
        line(
            "spread_ar",
            "signed root of the mean of 4 (c' - eta')(c' - eta), eta the middle of the logs of H \
             and L, c the log of C, ' of the bar before (Abdi & Ranaldo)",
            SPREAD,
        ),
        line("spread_edge", "by all four prices (Ardia, Guidotti & Kroencke 2024)", SPREAD),
    ],
    build: |terms| Box::new(Range::new(terms.bar, terms.span)),
    has_book: false,
};

/// Open, high, low, close.
type Bar = [i64; 4];

#[derive(Debug)]
struct Range {
    bar: i64,
    span: usize,
    /// End of the open bar; `i64::MAX` before the first trade.
    end: i64,
    open: Option<Bar>,
    bars: VecDeque<Bar>,
    values: [Option<f64>; 8],
}

impl Range {
    const fn new(bar: i64, span: usize) -> Self {
        Self { bar, span, end: i64::MAX, open: None, bars: VecDeque::new(), values: [None; 8] }
    }

    fn advance(&mut self, ts: i64) {
        if ts < self.end && self.end != i64::MAX {
            return;
        }
        if let Some(bar) = self.open.take() {
            if self.bars.len() == self.span {
                self.bars.pop_front();
            }
            self.bars.push_back(bar);
            self.values = self.calculate();
        }
        self.end = (ts.div_euclid(self.bar) + 1).saturating_mul(self.bar);
    }

    fn calculate(&self) -> [Option<f64>; 8] {
        if self.bars.len() < BARS_MIN {
            return [None; 8];
        }
        let of = |bar: &Bar| {
            let [open, high, low, close] = bar.map(|price| price as f64);
            Ohlc { open, high, low, close }
        };
        let bars: Vec<Ohlc> = self.bars.iter().map(of).collect();
        let spread = bar_spreads::corwin_schultz(&bars);
        [
            ranges::parkinson(&bars),
            ranges::garman_klass(&bars),
            ranges::rogers_satchell(&bars),
            ranges::yang_zhang(&bars),
            spread.map(|both| both.0),
            spread.map(|both| both.1),
            bar_spreads::abdi_ranaldo(&bars),
            bar_spreads::edge(&bars),
        ]
    }
}

impl Family for Range {
    fn print(&mut self, print: &Print) {
        self.advance(print.ts);
        // What is not above 0 has no log.
        if !print.sets_price || print.price <= 0 {
            return;
        }
        let price = print.price;
        match &mut self.open {
            None => self.open = Some([price; 4]),
            Some([_, high, low, close]) => {
                (*high, *low, *close) = ((*high).max(price), (*low).min(price), price);
            }
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.bar, self.span);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.end != i64::MAX {
            self.advance(moment.ts);
        }
        self.values.into_iter().for_each(|value| out.push(value, self.bars.len() as u64));
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.bar);
        state.i64(self.span as i64);
        state.i64(self.end);
        state.flag(self.open.is_some());
        state.length(self.bars.len());
        self.open.iter().chain(&self.bars).flatten().for_each(|&price| state.i64(price));
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("bar_ms", self.bar, state.i64()?)?;
        super::same_setting("span_bars", self.span as i64, state.i64()?)?;
        self.end = state.i64()?;
        let is_open = state.flag()?;
        let count = state.length(32)?;
        let mut bar =
            || -> Result<Bar> { Ok([state.i64()?, state.i64()?, state.i64()?, state.i64()?]) };
        self.open = if is_open { Some(bar()?) } else { None };
        self.bars.clear();
        for _ in 0..count {
            self.bars.push_back(bar()?);
        }
        self.values = self.calculate();
        Ok(())
    }
}
