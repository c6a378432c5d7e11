//! A book and the machine that says whether it is verified.

use std::collections::VecDeque;

use super::l2::L2Book;
use super::sync::{Action, Step, Sync};
use super::Continuity;
use super::SyncState;
use crate::record::{Channel, Header, Level, Marker, MarkerCode, Records, Side, NONE};

/// A level that waits for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) price: i64,
    pub(super) size: i64,
    pub(super) side: Side,
}

/// The book of one instrument, kept from the records of its normalised tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedBook {
    pub(super) sync: Sync,
    pub(super) book: L2Book,
    pub(super) waiting: VecDeque<Waiting>,
    /// Times of the newest update or snapshot that was not ignored.
    pub(super) ts_event: i64,
    pub(super) ts_recv: i64,
}

impl SyncedBook {
    /// The book of an instrument of which nothing came yet.
    pub const fn new(continuity: Continuity) -> Self {
        Self {
            sync: Sync::new(continuity),
            book: L2Book::new(),
            waiting: VecDeque::new(),
            ts_event: NONE,
            ts_recv: NONE,
        }
    }

    /// The machine.
    #[inline]
    pub const fn sync(&self) -> &Sync {
        &self.sync
    }

    /// The book, if it is verified and between two updates.
    #[inline]
    pub fn book(&self) -> Option<&L2Book> {
        (self.sync.state() == SyncState::Continuous && self.sync.open.is_none())
            .then_some(&self.book)
    }

    /// `ts_event` of the newest update or snapshot that was not ignored, in ns.
    pub const fn ts_event(&self) -> i64 {
        self.ts_event
    }

    /// `ts_recv` of the same.
    pub const fn ts_recv(&self) -> i64 {
        self.ts_recv
    }

    /// Takes in what concerns `instrument` in `records`: its levels and markers, and the end of the
    /// session, after which no book is verified.
    pub fn observe(&mut self, instrument: u32, records: &Records) {
        for record in records {
            let is_mine = record.header().instrument == instrument;
            if let Some(level) = record.as_level().filter(|_| is_mine) {
                self.level(&level);
            } else if let Some(marker) = record.as_marker() {
                if is_mine || marker.code == MarkerCode::EndOfSession as u8 {
                    self.marker(&marker);
                }
            }
        }
    }

    /// Takes a level of this instrument in. The step is already carried out.
    #[inline]
    pub fn level(&mut self, level: &Level) -> Step {
        let step = self.sync.level(level);
        self.waiting.drain(..step.dropped);
        match step.action {
            Action::Set => self.book.set(side_of(level), level.price, level.size),
            Action::Buffer => {
                let (price, size) = (level.price, level.size);
                self.waiting.push_back(Waiting { price, size, side: side_of(level) });
            }
            _ => return step,
        }
        if level.channel == Channel::Depth as u8 {
            self.note(&level.header);
        }
        step
    }

    /// Takes a marker in that concerns this instrument. The step is already carried out.
    pub fn marker(&mut self, marker: &Marker) -> Step {
        let newest = self.newest();
        let step = self.sync.marker(marker);
        self.waiting.drain(..step.dropped);
        match step.action {
            Action::Clear => self.book.clear(),
            Action::Drain(stale) => {
                for level in self.waiting.drain(..).skip(stale) {
                    self.book.set(level.side, level.price, level.size);
                }
                if self.sync.state() == SyncState::Bridging {
                    self.note(&marker.header);
                }
            }
            _ if marker.code == MarkerCode::EmptyUpdate as u8 && self.newest() != newest => {
                self.note(&marker.header);
            }
            _ => {}
        }
        step
    }

    /// Gives the book up: records of this instrument may be missing before the next one.
    pub fn lost(&mut self) -> Step {
        let step = self.sync.lost();
        self.waiting.drain(..step.dropped);
        step
    }

    /// Sequence of the newest update in the book or buffered.
    fn newest(&self) -> (u64, Option<u64>) {
        (self.sync.sequence, self.sync.buffered.back().map(|update| update.last))
    }

    #[inline]
    fn note(&mut self, header: &Header) {
        self.ts_event = header.ts_event;
        self.ts_recv = header.ts_recv;
    }
}

fn side_of(level: &Level) -> Side {
    if level.side == Side::Ask as u8 {
        Side::Ask
    } else {
        Side::Bid
    }
}
