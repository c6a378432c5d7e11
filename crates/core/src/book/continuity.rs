//! The rules by which one update of a book continues another, or a snapshot.

use crate::sequencing::Continuity;

impl Continuity {
    /// Whether `update` holds nothing that a snapshot at `sequence` does not.
    pub(super) const fn is_stale(self, sequence: u64, update: &Update) -> bool {
        match self {
            Self::Adjacent => update.last <= sequence,
            Self::Chained => update.last < sequence,
        }
    }

    /// Whether `update`, not stale, may be the first after a snapshot at `sequence`. On chained
    /// feeds the venue's rule (the update's range holds the snapshot's id) leaves out the update
    /// that names the snapshot as its predecessor; live servers send it, and it is no less right.
    pub(super) const fn bridges(self, sequence: u64, update: &Update) -> bool {
        match self {
            Self::Adjacent => update.first <= sequence.saturating_add(1),
            Self::Chained => update.first <= sequence || update.previous == sequence,
        }
    }

    /// Whether `update` is the next after an update that ended at `sequence`.
    pub(super) const fn continues(self, sequence: u64, update: &Update) -> bool {
        match self {
            Self::Adjacent => update.first <= sequence.saturating_add(1),
            Self::Chained => update.previous == sequence,
        }
    }

    /// What an update after `sequence` was expected to say, and what `update` says.
    pub(super) const fn contrast(self, sequence: u64, update: &Update) -> (u64, u64) {
        match self {
            Self::Adjacent => (sequence.saturating_add(1), update.first),
            Self::Chained => (sequence, update.previous),
        }
    }
}

/// The sequences of one update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Update {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) previous: u64,
    /// Levels buffered of it.
    pub(super) levels: u32,
}
