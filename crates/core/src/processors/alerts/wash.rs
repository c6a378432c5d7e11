//! `wash_like`: fills of one size, to and fro, against orders that were only just entered (Cong and
//! others 2023). Who owns an order is not in the data.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event, OrderEvent, Resting};
use super::table::{count, positive, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        count("fills", 4.0, "fills in a row, at least"),
        positive("gap_ms", 50.0, "time between two of them, at most"),
        positive("age_ms", 10.0, "an order that is filled must be younger"),
    ],
    has_orders: true,
    unit: "fills",
    ..Entry::new(
        "wash_like",
        "fills of equal size alternate their side, each against an order that was just entered",
        "count and value: fills of the run; size: of each; price: of the last",
        |rule| {
            let (fills, gap) = (rule.count("fills") as u64, rule.ns("gap_ms"));
            Box::new(Wash { fills, gap, age: rule.ns("age_ms"), run: None, side: 0 })
        },
    )
};

#[derive(Debug)]
struct Wash {
    fills: u64,
    gap: i64,
    age: i64,
    /// The run of fills that goes on.
    run: Option<Evidence>,
    /// The side of its last order.
    side: u8,
}

impl Wash {
    fn fill(&mut self, order: &Resting, size: i64, scope: &mut Scope<'_>) {
        let ts = scope.at.ts;
        let is_young = ts.saturating_sub(order.ts) < self.age;
        let goes_on = |run: &Evidence| {
            run.size == size && self.side != order.side && ts.saturating_sub(run.ts_end) <= self.gap
        };
        if !is_young || !self.run.as_ref().is_some_and(goes_on) {
            self.end(scope);
        }
        if !is_young {
            return;
        }
        let mut run = match self.run.take() {
            None => Evidence { count: 0, ..Evidence::at(&scope.at) },
            Some(run) => run,
        };
        run.count += 1;
        (run.ts_end, run.last) = (ts, scope.at.offset);
        (run.size, run.price, run.side) = (size, order.price, order.side);
        (run.value, run.threshold) = (run.count as f64, self.fills as f64);
        self.side = order.side;
        if run.count >= self.fills {
            scope.raise(&run);
        }
        self.run = Some(run);
    }

    fn end(&mut self, scope: &mut Scope<'_>) {
        if let Some(run) = self.run.take() {
            scope.end(run.ts_end, Some(&run));
        }
    }
}

impl Detector for Wash {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Order(OrderEvent::Filled { order, size, .. }, _) => {
                self.fill(order, *size, scope);
            }
            Event::Order(..) | Event::Message(..) => {
                let is_over = |run: &Evidence| scope.at.ts.saturating_sub(run.ts_end) > self.gap;
                if self.run.as_ref().is_some_and(is_over) {
                    self.end(scope);
                }
            }
            Event::Break => self.end(scope),
            _ => {}
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.u8(self.side);
        state.flag(self.run.is_some());
        if let Some(run) = &self.run {
            run.write(state);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.side = state.u8()?;
        self.run = None;
        if state.flag()? {
            self.run = Some(Evidence::read(state)?);
        }
        Ok(())
    }
}
