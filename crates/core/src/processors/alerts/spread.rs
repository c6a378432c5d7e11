//! `spread`: best prices that are too far apart.

use super::alarm::{Evidence, Scope};
use super::detector::{of_top, Detector, Event, Hold, Top};
use super::table::{positive, Entry, Number, FOR_MS};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("above_bps", 50.0, "basis points of the mid that are too many"),
        // A quote is wide for an instant hundreds of times a minute: that is nothing to tell of.
        Number { default: 1_000.0, ..FOR_MS },
    ],
    has_orders: true,
    unit: "bps",
    ..Entry::new(
        "spread",
        "the spread is above `above_bps`",
        "value: basis points; price and size: the bid; detail: both prices",
        |rule| {
            let (above, hold) = (rule.number("above_bps"), Hold::new(rule.ns("for_ms")));
            Box::new(Spread { above, hold, top: Top::EMPTY })
        },
    )
};

#[derive(Debug)]
struct Spread {
    above: f64,
    hold: Hold,
    top: Top,
}

impl Spread {
    fn look(&mut self, scope: &mut Scope<'_>) {
        let wide = self.top.spread_bps().filter(|&bps| bps > self.above);
        let evidence = wide.map(|value| Evidence {
            value,
            threshold: self.above,
            ..of_top(&self.top, &scope.at)
        });
        self.hold.set(evidence, scope);
    }
}

impl Detector for Spread {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Top(top) => {
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
