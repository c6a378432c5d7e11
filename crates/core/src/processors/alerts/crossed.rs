//! `locked` and `crossed`: a best bid that is not below the best ask.

use super::alarm::Scope;
use super::detector::{of_top, Detector, Event, Hold, Top};
use super::rule::Rule;
use super::table::{Entry, FOR_MS};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{QuoteState, PRICE_SCALE};

const EVIDENCE: &str =
    "value: bid less ask; price: the bid; size: the smaller one; detail: both prices";

pub(super) const LOCKED: Entry = Entry {
    numbers: &[FOR_MS],
    has_orders: true,
    ..Entry::new("locked", "the best bid is the best ask", EVIDENCE, |rule| {
        Box::new(Crossed::new(rule, QuoteState::Locked))
    })
};

pub(super) const CROSSED: Entry = Entry {
    numbers: &[FOR_MS],
    has_orders: true,
    ..Entry::new(
        "crossed",
        "the best bid is above the best ask: of one venue while it trades, the feed is at fault",
        EVIDENCE,
        |rule| Box::new(Crossed::new(rule, QuoteState::Crossed)),
    )
};

#[derive(Debug)]
struct Crossed {
    wanted: QuoteState,
    hold: Hold,
    top: Top,
}

impl Crossed {
    fn new(rule: &Rule, wanted: QuoteState) -> Self {
        Self { wanted, hold: Hold::new(rule.ns("for_ms")), top: Top::EMPTY }
    }

    fn look(&mut self, scope: &mut Scope<'_>) {
        let evidence = (self.top.state() == self.wanted).then(|| {
            let over = self.top.bid_price.saturating_sub(self.top.ask_price);
            let mut evidence = of_top(&self.top, &scope.at);
            (evidence.value, evidence.threshold) = (over as f64 / PRICE_SCALE as f64, 0.0);
            evidence
        });
        self.hold.set(evidence, scope);
    }
}

impl Detector for Crossed {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Top(top) if *top != self.top => {
                self.top = *top;
                self.look(scope);
            }
            Event::Time if scope.at.ts_recv >= self.hold.due() => self.look(scope),
            Event::Break => {
                self.top = Top::EMPTY;
                self.look(scope);
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.hold.due()
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.hold.write(state);
        self.top.write(state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.hold.read(state)?;
        self.top = Top::read(state)?;
        Ok(())
    }
}
