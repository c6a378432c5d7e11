//! `price_spike`: a trade far from those before it, and whether the price came back.

use super::alarm::{Evidence, Scope};
use super::detector::{told, Detector, Event, Print};
use super::history::{History, TO_SD};
use super::rule::Rule;
use super::table::{count, positive, share, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::PRICE_SCALE;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        count("prints", 50.0, "trades before it that are compared with; so many must have come"),
        positive("deviations", 10.0, "robust standard deviations from their median"),
        positive("back_ms", 5_000.0, "how long the price may take to come back"),
        share("back", 0.7, "share of the distance that it must come back"),
    ],
    has_orders: true,
    unit: "deviations",
    ..Entry::new(
        "price_spike",
        "a trade is `deviations` from the median of those before it; confirmed where the price \
         comes back",
        "price and size: of the trade; value: its distance in deviations; detail: median, and \
         confirmed or unconfirmed",
        |rule| Box::new(Spike::new(rule)),
    )
};

#[derive(Debug)]
struct Spike {
    deviations: f64,
    back: i64,
    share: f64,
    prints: usize,
    /// Prices in units of 1e-9: whole numbers, so that a float of a price up to 9e6 is exact.
    before: History,
    /// A spike that is not confirmed: its evidence, and the median.
    open: Option<(Evidence, f64)>,
    due: i64,
}

impl Spike {
    fn new(rule: &Rule) -> Self {
        Self {
            deviations: rule.number("deviations"),
            back: rule.ns("back_ms"),
            share: rule.number("back"),
            prints: rule.count("prints"),
            before: History::new(rule.count("prints")),
            open: None,
            due: i64::MAX,
        }
    }

    fn print(&mut self, print: &Print, scope: &mut Scope<'_>) {
        let price = print.price as f64;
        self.confirm(price, scope);
        if self.open.is_none() && self.before.len() >= self.prints {
            if let Some((middle, deviation)) = self.before.spread() {
                let least = (TO_SD * deviation).max(scope.tick as f64 / 2.0);
                let distance = (price - middle).abs();
                // Of a price that never moved, and whose tick is not known, any step is not far.
                if least > 0.0 && distance > self.deviations * least {
                    self.begin(print, middle, distance / least, scope);
                }
            }
        }
        self.before.push(price);
    }

    fn begin(&mut self, print: &Print, middle: f64, value: f64, scope: &mut Scope<'_>) {
        let evidence = Evidence {
            value,
            threshold: self.deviations,
            price: print.price,
            size: print.size,
            side: print.side,
            detail: format!("median={} unconfirmed", middle / PRICE_SCALE as f64),
            ..Evidence::at(&scope.at)
        };
        scope.raise(&evidence);
        self.due = scope.at.ts_recv.saturating_add(self.back);
        self.open = Some((evidence, middle));
    }

    /// Whether a later trade at `price` says that the price came back, or it is too late for that.
    fn confirm(&mut self, price: f64, scope: &mut Scope<'_>) {
        let Some((evidence, middle)) = self.open.as_mut() else { return };
        let waited = scope.at.ts.saturating_sub(evidence.ts_start);
        let spiked = evidence.price as f64;
        let returned = (spiked - price) / (spiked - *middle);
        if waited <= self.back && returned >= self.share {
            evidence.detail = format!(
                "median={} confirmed at={} after_ms={:.3}",
                *middle / PRICE_SCALE as f64,
                told(price as i64),
                waited as f64 / 1e6
            );
            (evidence.ts_end, evidence.last) = (scope.at.ts, scope.at.offset);
            let evidence = evidence.clone();
            self.end(&evidence, scope);
        } else if waited > self.back {
            let evidence = evidence.clone();
            self.end(&evidence, scope);
        }
    }

    fn end(&mut self, evidence: &Evidence, scope: &mut Scope<'_>) {
        scope.end(evidence.ts_end, Some(evidence));
        (self.open, self.due) = (None, i64::MAX);
    }
}

impl Detector for Spike {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Print(print, _) if print.sets_price => self.print(print, scope),
            Event::Time if scope.at.ts_recv >= self.due => {
                if let Some((evidence, _)) = self.open.clone() {
                    self.end(&evidence, scope);
                }
            }
            Event::Break => {
                if let Some((evidence, _)) = self.open.clone() {
                    self.end(&evidence, scope);
                }
                self.before.clear();
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.due
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.before.write(state);
        state.flag(self.open.is_some());
        if let Some((evidence, middle)) = &self.open {
            evidence.write(state);
            state.u64(middle.to_bits());
        }
        state.i64(self.due);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.before.read(state)?;
        self.open = None;
        if state.flag()? {
            self.open = Some((Evidence::read(state)?, f64::from_bits(state.u64()?)));
        }
        self.due = state.i64()?;
        Ok(())
    }
}
