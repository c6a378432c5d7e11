//! `gap`: an entry of the gap ledger.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::table::{number, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Channel, GapCause, GapState, Marker, NONE};

const COUNT_UNKNOWN: u32 = u32::MAX;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[number(
        "least_ms",
        0.0,
        "a gap that is shorter, and whose length is known, is none",
    )],
    may_be_of_source: true,
    is_of_both: true,
    ..Entry::new(
        "gap",
        "something was lost: an entry of the gap ledger",
        "value: seconds lost; subject: channel; detail: cause and sequences; count: messages, 0 \
         for not known",
        |rule| Box::new(Gaps { least: rule.ns("least_ms") }),
    )
};

#[derive(Debug)]
struct Gaps {
    least: i64,
}

fn evidence_of(gap: &Marker, scope: &Scope<'_>) -> Evidence {
    let named = |name: Option<&'static str>| name.unwrap_or("unknown");
    let cause = named(GapCause::try_from(gap.cause).ok().map(GapCause::name));
    let channel = Channel::try_from(gap.channel).ok().map(Channel::name);
    let start = if gap.ts_start == NONE { gap.header.ts_event } else { gap.ts_start };
    let end = if gap.header.ts_event == NONE { scope.at.ts } else { gap.header.ts_event };
    let lost = end.saturating_sub(start).max(0);
    Evidence {
        ts_start: if start == NONE { end } else { start },
        ts_end: end,
        value: if start == NONE { f64::NAN } else { lost as f64 / 1e9 },
        count: if gap.count == COUNT_UNKNOWN { 0 } else { u64::from(gap.count) },
        subject: channel.filter(|name| !name.is_empty()).unwrap_or("all").to_owned(),
        detail: format!("cause={cause} first={} last={}", gap.first, gap.last),
        ..Evidence::at(&scope.at)
    }
}

impl Detector for Gaps {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        let Event::Gap(gap) = event else { return };
        let evidence = evidence_of(gap, scope);
        if gap.state == GapState::Open as u8 {
            scope.raise(&evidence);
        } else if gap.state == GapState::Closed as u8 {
            let lost = evidence.ts_end.saturating_sub(evidence.ts_start);
            if scope.is_open() {
                scope.end(evidence.ts_end, Some(&evidence));
            } else if evidence.value.is_nan() || lost >= self.least {
                scope.tell(&evidence);
            }
        }
    }

    fn write(&self, _state: &mut StateWriter<'_>) {}

    fn read(&mut self, _state: &mut StateReader<'_>) -> Result<()> {
        Ok(())
    }
}
