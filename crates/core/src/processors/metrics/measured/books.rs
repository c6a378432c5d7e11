//! The book of an instrument that the feed tells by level.

use super::super::family::Values;
use super::Measured;
use crate::book::{Step, SyncedBook};
use crate::processors::books::continuity;
use crate::record::{Header, Records, SyncState, FLAG_LAST, FLAG_OUT_OF_ORDER, NONE};

impl Measured {
    /// Takes in a step of the book that the record of `header` makes, and shows the book to the
    /// families where it is whole and verified. A change of the book is an event of its time,
    /// unless it is out of order: then it says nothing of the time.
    pub(in super::super) fn book(
        &mut self,
        header: &Header,
        is_change: bool,
        step: impl FnOnce(&mut SyncedBook) -> Step,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        let tells_time = header.ts_event != NONE && header.flags & FLAG_OUT_OF_ORDER == 0;
        if is_change && tells_time {
            // Samples before it are of the book before it.
            let late = self.late;
            self.advance(header.ts_event, known, values, out);
            // An update is many levels of one event.
            self.late = late + u64::from(self.late > late && header.flags & FLAG_LAST != 0);
        }
        let rule = continuity(self.feed);
        let synced = self.synced.get_or_insert_with(|| Box::new(SyncedBook::new(rule)));
        let step = step(synced);
        let is_verified = synced.sync().state() == SyncState::Continuous;
        if step.changed && !is_verified {
            self.families.iter_mut().for_each(|family| family.lose_book());
        }
        if !(step.applied || step.changed) || !is_verified || self.ts == i64::MIN {
            return;
        }
        if let Some(book) = synced.book() {
            let ts = self.ts;
            self.families.iter_mut().for_each(|family| family.book(ts, book));
            if self.plan.interval == 0 {
                self.sample(ts, known, values, out);
            }
        }
    }

    /// Takes in that the stream of the book ends.
    pub(in super::super) fn end_book(&mut self, step: impl FnOnce(&mut SyncedBook) -> Step) {
        if let Some(synced) = &mut self.synced {
            step(synced);
            self.families.iter_mut().for_each(|family| family.lose_book());
        }
    }
}
