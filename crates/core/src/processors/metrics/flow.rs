//! Set `flow`: volume by the side that took, over rolling windows.

use super::family::{price, size, Family, Moment, Print, Set, Terms, Values};
use super::sign::{taker, TickRule};
use super::table::{Line, Per};
use super::window::Rolling;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{NONE, SIZE_SCALE};

const UNCOVERED: &str = "the window is not covered";
const WITHOUT: &str = "the window is not covered, or had no such volume";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::Window, formula, unit, null: UNCOVERED }
}

pub(super) const SET: Set = Set {
    name: "flow",
    doc: "trades by the side that took: the venue's word, or the rule of Lee & Ready without it",
    lines: &[
        line("buy_volume", "volume whose taker bought", "size"),
        line("sell_volume", "volume whose taker sold", "size"),
        line("unsigned_volume", "volume whose taker is not known", "size"),
        line("signed_volume", "buy_volume - sell_volume", "size"),
        Line { null: WITHOUT, ..line("tfi", "(buy - sell) / (buy + sell)", "-1 to 1") },
        Line { null: WITHOUT, ..line("vwap", "sum of price times size / volume", "price") },
        line("trades", "number of trades", "trades"),
        line("parent_orders", "number of runs of trades of one time and one taker", "orders"),
    ],
    build: |terms| Box::new(Flow::new(terms)),
    has_book: false,
};

/// Volume bought, sold, of neither; turnover; trades; parent orders.
const TERMS: usize = 6;

#[derive(Debug)]
struct Flow {
    rolling: Rolling<TERMS>,
    tick: TickRule,
    /// Time and sign of the last trade.
    last: (i64, i8),
    partial: bool,
}

const NOTHING: (i64, i8) = (NONE, 0);

impl Flow {
    fn new(terms: &Terms) -> Self {
        let rolling = Rolling::new(&terms.windows);
        Self { rolling, tick: TickRule::default(), last: NOTHING, partial: terms.partial }
    }

    /// Appends a value for each window; `value` is none where there is none.
    fn each(&self, ts: i64, out: &mut Values, value: impl Fn(&[i128; TERMS]) -> Option<f64>) {
        for index in 0..self.rolling.len() {
            let sums = self.rolling.sums(index);
            let is_shown = self.rolling.is_shown(index, ts, self.partial);
            out.push(value(sums).filter(|_| is_shown), sums[4] as u64);
        }
    }
}

impl Family for Flow {
    fn print(&mut self, print: &Print) {
        self.rolling.begin(print.ts);
        let tick = if print.sets_price { self.tick.take(print.price) } else { 0 };
        if !print.counts {
            return;
        }
        let sign = taker(print, tick);
        let size = i128::from(print.size);
        let turnover = i128::from(print.price) * size;
        let is_new = self.last != (print.ts_event, sign);
        self.last = (print.ts_event, sign);
        let part = |wanted: i8| if sign == wanted { size } else { 0 };
        self.rolling.add([part(1), part(-1), part(0), turnover, 1, i128::from(is_new)]);
    }

    fn reset(&mut self) {
        self.rolling.reset();
        (self.tick, self.last) = (TickRule::default(), NOTHING);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        let ts = moment.ts;
        self.rolling.close(ts);
        self.each(ts, out, |sums| Some(size(sums[0])));
        self.each(ts, out, |sums| Some(size(sums[1])));
        self.each(ts, out, |sums| Some(size(sums[2])));
        self.each(ts, out, |sums| Some(size(sums[0] - sums[1])));
        self.each(ts, out, |&[buy, sell, ..]| {
            (buy + sell > 0).then(|| (buy - sell) as f64 / (buy + sell) as f64)
        });
        self.each(ts, out, |&[buy, sell, neither, turnover, ..]| {
            let volume = buy + sell + neither;
            (volume > 0).then(|| price(turnover) / SIZE_SCALE as f64 / size(volume))
        });
        self.each(ts, out, |sums| Some(sums[4] as f64));
        self.each(ts, out, |sums| Some(sums[5] as f64));
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.rolling.write(state);
        self.tick.write(state);
        state.i64(self.last.0);
        state.u8(self.last.1 as u8);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.rolling.read(state)?;
        self.tick = TickRule::read(state)?;
        self.last = (state.i64()?, state.u8()? as i8);
        Ok(())
    }
}
