//! Set `sign`: who took the last trade, by the venue and by each rule.

use super::family::{Family, Moment, Print, Set, Values};
use super::sign::{chakrabarty, ellis, lee_ready, quote_rule, TickRule};
use super::table::{Line, Per};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

const fn line(name: &'static str, formula: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit: "-1, 0, 1", null: "no trade since the value before" }
}

pub(super) const SET: Set = Set {
    name: "sign",
    doc: "who took the last trade: 1 the buyer, -1 the seller, 0 not told",
    lines: &[
        line("aggressor", "as the venue tells"),
        line("sign_tick", "sign of the last change of the price that was not 0"),
        line("sign_quote", "side of the mid on which the price lies"),
        line("sign_lr", "sign_quote; at the mid, or without a quote, sign_tick"),
        line("sign_emo", "at the ask 1, at the bid -1, else sign_tick"),
        line("sign_clnv", "in the upper 30 % of the spread 1, in the lower -1, else sign_tick"),
    ],
    build: |_| Box::new(Signs::default()),
    has_book: false,
};

#[derive(Debug, Default)]
struct Signs {
    tick: TickRule,
    /// Of the last trade since the last sample.
    last: Option<[i8; 6]>,
}

impl Family for Signs {
    fn print(&mut self, print: &Print) {
        if !print.sets_price {
            return;
        }
        let (price, best) = (print.price, print.best.as_ref());
        let tick = self.tick.take(price);
        self.last = Some([
            print.side,
            tick,
            quote_rule(price, best),
            lee_ready(price, best, tick),
            ellis(price, best, tick),
            chakrabarty(price, best, tick),
        ]);
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn sample(&mut self, _: &Moment<'_>, out: &mut Values) {
        let last = self.last.take();
        for index in 0..6 {
            out.push(last.map(|signs| signs[index].into()), u64::from(last.is_some()));
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.tick.write(state);
        state.flag(self.last.is_some());
        self.last.iter().flatten().for_each(|&sign| state.u8(sign as u8));
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.tick = TickRule::read(state)?;
        self.last = None;
        if state.flag()? {
            let mut signs = [0; 6];
            for sign in &mut signs {
                *sign = state.u8()? as i8;
            }
            self.last = Some(signs);
        }
        Ok(())
    }
}
