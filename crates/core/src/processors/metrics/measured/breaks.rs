//! What becomes of one instrument where its stream breaks.

use super::super::family::{Change, Values};
use super::{Measured, TRADING};
use crate::record::{Records, NONE};

impl Measured {
    /// Takes in whether it is traded, and says whether that was otherwise, as it may have been
    /// before a halt where nothing was told for sure.
    pub(in super::super) fn set_status(&mut self, status: u8) -> bool {
        let before = std::mem::replace(&mut self.status, status);
        let was_old = std::mem::replace(&mut self.is_status_old, false);
        match before {
            0 => status != TRADING,
            _ if before == status => was_old && status != TRADING,
            _ => true,
        }
    }

    /// Told that the stream broke: a halt or its end may be lost.
    pub(in super::super) fn doubt_status(&mut self) {
        self.is_status_old = true;
    }

    /// Forgets all that was, and says so in a sample of nulls, which is no earlier than the break.
    pub(in super::super) fn reset(
        &mut self,
        keeps_best: bool,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        let mut rows = Vec::new();
        self.windows.reset(&mut rows);
        self.write_windows(&rows, known, out);
        if self.ts == i64::MIN {
            return;
        }
        let sampled = if self.next == i64::MAX { i64::MIN } else { self.next - self.plan.interval };
        let ts = self.ts.max(sampled).max(self.broken);
        self.families.iter_mut().for_each(|family| family.reset());
        let kept = self.best.filter(|_| keeps_best);
        self.best = None;
        self.sample(ts, known, values, out);
        if let Some(after) = kept {
            let change = Change {
                ts,
                ts_recv: ts,
                ts_event: ts,
                latency: None,
                tick: self.tick,
                before: None,
                after,
            };
            self.families.iter_mut().for_each(|family| family.change(&change));
        }
        self.best = kept;
    }

    /// Writes the samples before the time `broken` at which the stream broke, of what is still
    /// known; [`NONE`]: not known. It is no later than the venue's time can be by now, and what
    /// comes counts no earlier.
    pub(in super::super) fn complete_until(
        &mut self,
        broken: i64,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        if broken == NONE || self.ts == i64::MIN {
            return;
        }
        let ts = broken.min(known.saturating_sub(self.lead.ahead));
        self.broken = self.broken.max(ts);
        if self.plan.interval != 0 && self.next != i64::MAX {
            self.write_until(ts, known, values, out);
        }
    }
}
