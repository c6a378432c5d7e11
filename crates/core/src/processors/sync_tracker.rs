//! Which instruments need a snapshot, from sequences alone.

use super::books::{concerns_book, continuity, INSTRUMENTS_MAX};
use crate::book::{Step, Sync, SyncState};
use crate::record::{records, Channel, Kind, Marker, MarkerCode, RecordRef};

/// Follows the books of all instruments of a normalised tape without keeping any of them.
///
/// It goes through the same states as the books that a reader of the tape keeps, so a recorder can
/// ask it which snapshots to fetch. A book that is continuous costs it one look at each update.
#[derive(Debug, Clone, Default)]
pub struct SyncTracker {
    /// By instrument id.
    machines: Vec<Option<Followed>>,
}

/// The book of one instrument.
#[derive(Debug, Clone)]
struct Followed {
    machine: Sync,
    /// Whether it was verified at any time.
    verified: bool,
}

impl Followed {
    #[inline]
    fn note(&mut self, step: Step) {
        self.verified |= step.changed && self.machine.state() == SyncState::Continuous;
    }
}

impl SyncTracker {
    /// A tracker that saw nothing yet.
    pub const fn new() -> Self {
        Self { machines: Vec::new() }
    }

    /// Takes in all records of `bytes`, which follow those of the last call.
    pub fn observe(&mut self, bytes: &[u8]) {
        for record in records::iterate(bytes) {
            if record.kind() == Kind::Level as u8 {
                self.level(record);
            } else if record.kind() == Kind::Marker as u8 {
                if let Some(marker) = record.as_marker() {
                    self.marker(&marker);
                }
            }
        }
    }

    /// How far the book of `instrument` is verified.
    pub fn state(&self, instrument: u32) -> SyncState {
        match self.machines.get(instrument as usize) {
            Some(Some(book)) => book.machine.state(),
            _ => SyncState::Empty,
        }
    }

    /// Whether the book of `instrument` was verified at any time, however short.
    pub fn was_verified(&self, instrument: u32) -> bool {
        matches!(self.machines.get(instrument as usize), Some(Some(book)) if book.verified)
    }

    /// The instruments whose books cannot go on without a snapshot, in order of id.
    pub fn needs(&self) -> impl Iterator<Item = u32> + '_ {
        let needy = |book: &Option<Followed>| {
            book.as_ref().is_some_and(|book| book.machine.needs_snapshot())
        };
        self.machines
            .iter()
            .enumerate()
            .filter(move |(_, book)| needy(book))
            .map(|(instrument, _)| instrument as u32)
    }

    #[inline]
    fn level(&mut self, record: RecordRef<'_>) {
        let Some(level) = record.as_level() else { return };
        let depth = level.channel == Channel::Depth as u8;
        if depth || level.channel == Channel::Snapshot as u8 {
            if let Some(book) = self.book(level.header.instrument, level.header.feed) {
                let step = book.machine.level(&level);
                book.note(step);
            }
        }
    }

    fn marker(&mut self, marker: &Marker) {
        if marker.code == MarkerCode::EndOfSession as u8 {
            self.machines.iter_mut().flatten().for_each(|book| {
                book.machine.marker(marker);
            });
        } else if concerns_book(marker) {
            if let Some(book) = self.book(marker.header.instrument, marker.header.feed) {
                let step = book.machine.marker(marker);
                book.note(step);
            }
        }
    }

    /// The book of `instrument`; `None` if that is no id that a registry gives.
    fn book(&mut self, instrument: u32, feed: u8) -> Option<&mut Followed> {
        let at = instrument as usize;
        if at >= self.machines.len() {
            if instrument > INSTRUMENTS_MAX {
                return None;
            }
            self.machines.resize_with(at + 1, || None);
        }
        Some(self.machines[at].get_or_insert_with(|| Followed {
            machine: Sync::new(continuity(feed)),
            verified: false,
        }))
    }
}
