//! The book of an instrument that the feed tells by level, and how far it is known.

use super::super::family::Values;
use super::Measured;
use crate::book::{Action, Step, SyncedBook};
use crate::error::Result;
use crate::processors::books::continuity;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{
    Channel, Header, Level, Marker, MarkerCode, Records, Side, SyncState, FLAG_LAST,
    FLAG_OUT_OF_ORDER, NONE, SNAPSHOT_CUT,
};

/// A record that books are made of.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Part<'a> {
    Level(&'a Level),
    Marker(&'a Marker),
}

impl Part<'_> {
    pub(in super::super) const fn header(&self) -> &Header {
        match self {
            Self::Level(level) => &level.header,
            Self::Marker(marker) => &marker.header,
        }
    }

    /// Whether it changes the book, and so is an event of its time.
    const fn is_change(&self) -> bool {
        match self {
            Self::Level(level) => level.channel == Channel::Depth as u8,
            Self::Marker(marker) => marker.code == MarkerCode::EmptyUpdate as u8,
        }
    }

    fn apply(&self, book: &mut SyncedBook) -> Step {
        match self {
            Self::Level(level) => book.level(level),
            Self::Marker(marker) => book.marker(marker),
        }
    }
}

/// How far the snapshot reached that the book began with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    /// Of each side whether it was cut.
    is_cut: [bool; 2],
    /// Prices of the last levels of sides that were.
    last: [Option<i64>; 2],
}

impl Reach {
    /// The price of each side up to which all levels are known; none: to its end.
    pub(super) const fn prices(&self) -> [Option<i64>; 2] {
        self.last
    }

    fn take(&mut self, part: &Part<'_>, step: &Step) {
        match part {
            Part::Marker(marker) if step.action == Action::Clear => {
                let is_cut = SNAPSHOT_CUT.map(|cut| marker.state & cut != 0);
                *self = Self { is_cut, last: [None; 2] };
            }
            Part::Level(level)
                if step.action == Action::Set && level.channel == Channel::Snapshot as u8 =>
            {
                let is_ask = level.side == Side::Ask as u8;
                let side = usize::from(is_ask);
                if self.is_cut[side] {
                    let last = self.last[side].unwrap_or(level.price);
                    let further =
                        if is_ask { last.max(level.price) } else { last.min(level.price) };
                    self.last[side] = Some(further);
                }
            }
            _ => {}
        }
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        for (&is_cut, last) in self.is_cut.iter().zip(self.last) {
            state.flag(is_cut);
            state.i64(last.unwrap_or(NONE));
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut reach = Self::default();
        for (is_cut, last) in reach.is_cut.iter_mut().zip(&mut reach.last) {
            *is_cut = state.flag()?;
            *last = Some(state.i64()?).filter(|&price| price != NONE);
        }
        Ok(reach)
    }
}

impl Measured {
    /// Takes in a record of the book, and shows the book to the families where it is whole and
    /// verified. A change is an event of its time, unless it is out of order: then it says nothing
    /// of the time.
    pub(in super::super) fn book(
        &mut self,
        part: Part<'_>,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        let header = part.header();
        let tells_time = header.ts_event != NONE && header.flags & FLAG_OUT_OF_ORDER == 0;
        if part.is_change() && tells_time {
            // Samples before it are of the book before it.
            let late = self.late;
            self.advance(header.ts_event, known, values, out);
            // An update is many levels of one event.
            self.late = late + u64::from(self.late > late && header.flags & FLAG_LAST != 0);
        }
        let rule = continuity(self.feed);
        let synced = self.synced.get_or_insert_with(|| Box::new(SyncedBook::new(rule)));
        let step = part.apply(synced);
        self.reach.take(&part, &step);
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
