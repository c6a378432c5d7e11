//! The one book-synchronisation machine, for all L2 feeds: is a book verified continuous?
//!
//! ```text
//!            update                 snapshot, nothing buffered continues it
//!   Empty ───────────► Awaiting ─────────────────────────────► Bridging
//!     │   snapshot     snapshot │                                  │ update that continues it
//!     └───────────────► (as ──► │ snapshot that the buffer         ▼
//!                     Awaiting) └──────────────────────────► Continuous ──┐ gap, bad record
//!                                    continues                 ▲          ▼
//!                                                 snapshot ────┴────── Broken
//! ```
//!
//! Updates are buffered until a snapshot comes that they continue; what is buffered is always one
//! unbroken run. The machine sees sequences, never prices: it tells its caller what to do with each
//! level, so that a recorder can follow many books without keeping any.
//!
//! A snapshot older than the buffered run is refused, and the machine goes on waiting for a newer
//! one. Sequences already covered are ignored. The buffer is bounded; its oldest updates are
//! dropped and counted, which only means that a later snapshot is needed.

use std::collections::VecDeque;

use super::continuity::Update;
use super::Continuity;
use super::SyncState;
use crate::record::{Channel, GapCause, Level, Marker, MarkerCode, Side, FLAG_LAST, NONE};

/// Most updates that are buffered for one instrument. Beyond it the oldest are dropped and counted.
pub const BUFFERED_UPDATES_MAX: usize = 20_000;
/// Most levels that are buffered for one instrument: 4.8 MB. Dropped as the updates are.
pub const BUFFERED_LEVELS_MAX: usize = 200_000;

/// So many updates may lie before the snapshot that they are to continue. A venue's two answers are
/// seconds apart at most; beyond that the snapshot is not believed.
pub const STALE_UPDATES_MAX: u32 = 512;

/// What to do with the levels of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Nothing.
    #[default]
    Ignore,
    /// Set the level in the book.
    Set,
    /// Append the level to those buffered.
    Buffer,
    /// Empty the book: levels of a snapshot follow.
    Clear,
    /// Drop this many of the oldest buffered levels, set the others in order, and buffer none.
    Drain(usize),
}

/// What follows from a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// How many of the oldest buffered levels to drop, before the action.
    pub dropped: usize,
    /// What to do.
    pub action: Action,
    /// Whether the state is another than before: it is told after the action.
    pub changed: bool,
    /// Whether a whole update is now in a book that was continuous before it.
    pub applied: bool,
    /// If the state changed to `Broken`: what the sequence should have been. To another: the book's
    /// or snapshot's sequence, or the first sequence of the first update buffered.
    pub first: u64,
    /// If the state changed to `Broken`: what the sequence was. To another: as `first`, or the last
    /// sequence of the first update buffered.
    pub last: u64,
}

/// What becomes of the levels of an update of which more are to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Ignore,
    Buffer,
    Set,
    /// As `Set`, and the state changes when the update is whole.
    Bridge,
}

/// A snapshot of which levels are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) sequence: u64,
    pub(super) announced: u32,
    pub(super) received: u32,
}

/// The machine of one instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    pub(super) continuity: Continuity,
    pub(super) state: SyncState,
    /// Sequence of the book, or of the snapshot while bridging.
    pub(super) sequence: u64,
    pub(super) buffered: VecDeque<Update>,
    pub(super) buffered_levels: usize,
    /// The update of which levels are still to come: its last sequence and its course.
    pub(super) open: Option<(u64, Course)>,
    pub(super) incoming: Option<Incoming>,
    pub(super) dropped: u64,
    pub(super) breaks: u64,
    /// Updates behind the snapshot since it came.
    pub(super) stale: u32,
}

impl Sync {
    /// The machine of an instrument of which nothing came yet.
    pub const fn new(continuity: Continuity) -> Self {
        Self {
            continuity,
            state: SyncState::Empty,
            sequence: 0,
            buffered: VecDeque::new(),
            buffered_levels: 0,
            open: None,
            incoming: None,
            dropped: 0,
            breaks: 0,
            stale: 0,
        }
    }

    /// How far the book is verified.
    #[inline]
    pub const fn state(&self) -> SyncState {
        self.state
    }

    /// Last update id that is in the book, or id of the snapshot while bridging.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a snapshot is needed to go on.
    pub const fn needs_snapshot(&self) -> bool {
        matches!(self.state, SyncState::AwaitingSnapshot | SyncState::Broken)
    }

    /// Updates dropped so far because the buffer was full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How often the book broke.
    pub const fn breaks(&self) -> u64 {
        self.breaks
    }

    /// Takes a level in.
    #[inline]
    pub fn level(&mut self, level: &Level) -> Step {
        let whole = level.header.flags & FLAG_LAST != 0;
        if level.channel == Channel::Snapshot as u8 {
            return self.snapshot_level(level);
        }
        if level.channel != Channel::Depth as u8 {
            return Step::default();
        }
        let mut step = match self.open {
            // The usual: one more level of an update that is being applied.
            Some((last, Course::Set)) if last == level.header.sequence && is_sound(level) => {
                Step { action: Action::Set, ..Step::default() }
            }
            _ => self.level_of_other(level),
        };
        if whole {
            self.close(&mut step);
        }
        step
    }

    /// Takes a marker in.
    pub fn marker(&mut self, marker: &Marker) -> Step {
        match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::EmptyUpdate) => {
                let update = Update {
                    first: marker.first,
                    last: marker.last,
                    previous: marker.ts_start as u64,
                    levels: 0,
                };
                let mut step = self.update(update);
                step.action = Action::Ignore;
                self.close(&mut step);
                step
            }
            Ok(MarkerCode::SnapshotBegin) if marker.channel == Channel::Snapshot as u8 => {
                self.snapshot_begin(marker.first, marker.count)
            }
            Ok(MarkerCode::SnapshotEnd) if marker.channel == Channel::Snapshot as u8 => {
                self.snapshot_end()
            }
            Ok(MarkerCode::EndOfSession) => self.end(),
            // The venue counts anew: neither the book nor what is buffered goes on from here.
            Ok(MarkerCode::Gap) if is_reset(marker) => self.lost(),
            _ => Step::default(),
        }
    }

    /// Records of this instrument may be missing before the next one: the book is given up, if
    /// anything of it was known.
    pub fn lost(&mut self) -> Step {
        if self.state == SyncState::Empty {
            return Step::default();
        }
        self.give_up(self.sequence, self.sequence)
    }

    fn level_of_other(&mut self, level: &Level) -> Step {
        let last = level.header.sequence;
        let mut step = match self.open {
            Some((open, _)) if open == last => Step::default(),
            _ => self.update(Update {
                first: last.saturating_sub(u64::from(level.span)),
                last,
                previous: level.previous,
                levels: 0,
            }),
        };
        if !is_sound(level) {
            let broken = self.give_up(last, last);
            step = Step { dropped: step.dropped + broken.dropped, ..broken };
            // The rest of this update is of no use either: without it, nothing can bridge over it.
            self.open = Some((last, Course::Ignore));
        }
        match self.open {
            Some((_, Course::Set | Course::Bridge)) => step.action = Action::Set,
            Some((_, Course::Buffer)) => self.buffer_level(&mut step),
            _ => {}
        }
        step
    }

    /// Opens an update and decides its course.
    fn update(&mut self, update: Update) -> Step {
        if let Some((open, course)) = self.open.take() {
            // The end of an update never came, so some of its levels may be missing.
            if course != Course::Ignore {
                let mut step = self.give_up(open, update.last);
                self.buffer_update(update, &mut step);
                return step;
            }
        }
        let mut step = Step::default();
        match self.state {
            SyncState::Continuous if update.last <= self.sequence => {
                self.open = Some((update.last, Course::Ignore));
            }
            SyncState::Continuous if self.continuity.continues(self.sequence, &update) => {
                self.sequence = update.last;
                self.open = Some((update.last, Course::Set));
            }
            SyncState::Bridging if self.continuity.is_stale(self.sequence, &update) => {
                self.stale += 1;
                if self.stale > STALE_UPDATES_MAX {
                    return self.refuse(update, step);
                }
                self.open = Some((update.last, Course::Ignore));
            }
            SyncState::Bridging if self.continuity.bridges(self.sequence, &update) => {
                self.sequence = update.last;
                self.open = Some((update.last, Course::Bridge));
            }
            SyncState::Continuous | SyncState::Bridging => {
                let (expected, found) = self.continuity.contrast(self.sequence, &update);
                step = self.give_up(expected, found);
                self.buffer_update(update, &mut step);
            }
            SyncState::Empty | SyncState::AwaitingSnapshot | SyncState::Broken => {
                self.buffer_update(update, &mut step);
            }
        }
        step
    }

    /// Ends the open update.
    #[inline]
    fn close(&mut self, step: &mut Step) {
        match self.open.take() {
            Some((_, Course::Set)) => step.applied = true,
            Some((last, Course::Bridge)) => {
                self.state = SyncState::Continuous;
                step.changed = true;
                (step.first, step.last) = (last, last);
            }
            _ => {}
        }
    }

    /// The updates do not come to where the snapshot is: it was none of this book. Awaits another.
    fn refuse(&mut self, update: Update, mut step: Step) -> Step {
        self.state = SyncState::AwaitingSnapshot;
        self.stale = 0;
        (step.changed, step.first, step.last) = (true, update.first, update.last);
        self.buffer_update(update, &mut step);
        step
    }

    fn buffer_update(&mut self, update: Update, step: &mut Step) {
        if let Some(newest) = self.buffered.back() {
            if update.last <= newest.last {
                self.open = Some((update.last, Course::Ignore));
                return;
            }
            if !self.continuity.continues(newest.last, &update) {
                // No snapshot can bridge what was before: keep one unbroken run.
                step.dropped += self.buffered_levels;
                self.buffered.clear();
                self.buffered_levels = 0;
            }
        }
        if self.buffered.len() == BUFFERED_UPDATES_MAX {
            self.drop_oldest(step);
        }
        self.buffered.push_back(update);
        self.open = Some((update.last, Course::Buffer));
        if self.state == SyncState::Empty {
            self.state = SyncState::AwaitingSnapshot;
            step.changed = true;
            (step.first, step.last) = (update.first, update.last);
        }
    }

    fn buffer_level(&mut self, step: &mut Step) {
        if self.buffered_levels == BUFFERED_LEVELS_MAX {
            self.drop_oldest(step);
        }
        match self.buffered.back_mut() {
            Some(newest) => {
                newest.levels += 1;
                self.buffered_levels += 1;
                step.action = Action::Buffer;
            }
            // This very update filled the whole buffer: the rest of it is of no use.
            None => self.open = self.open.map(|(last, _)| (last, Course::Ignore)),
        }
    }

    fn drop_oldest(&mut self, step: &mut Step) {
        if let Some(oldest) = self.buffered.pop_front() {
            self.buffered_levels -= oldest.levels as usize;
            step.dropped += oldest.levels as usize;
            self.dropped += 1;
        }
    }

    fn snapshot_level(&mut self, level: &Level) -> Step {
        match &mut self.incoming {
            Some(incoming) if incoming.sequence == level.header.sequence && is_sound(level) => {
                incoming.received += 1;
                Step { action: Action::Set, ..Step::default() }
            }
            _ => Step::default(),
        }
    }

    fn snapshot_begin(&mut self, sequence: u64, announced: u32) -> Step {
        self.incoming = None;
        if !self.accepts(sequence) {
            return Step::default();
        }
        self.incoming = Some(Incoming { sequence, announced, received: 0 });
        Step { action: Action::Clear, ..Step::default() }
    }

    /// Whether a snapshot at `sequence` helps.
    fn accepts(&self, sequence: u64) -> bool {
        match self.state {
            SyncState::Continuous => false,
            // Also an older one: a snapshot far ahead of its stream would otherwise be waited for
            // without end. The next update verifies it, or breaks the book.
            SyncState::Bridging => self.open.is_none(),
            _ => self
                .buffered
                .iter()
                .find(|update| !self.continuity.is_stale(sequence, update))
                .is_none_or(|update| self.continuity.bridges(sequence, update)),
        }
    }

    fn snapshot_end(&mut self) -> Step {
        let Some(incoming) = self.incoming.take() else { return Step::default() };
        let open = self.open.take().is_some_and(|(_, course)| course != Course::Ignore);
        if incoming.received != incoming.announced || open || !self.accepts(incoming.sequence) {
            // Half a snapshot: whatever the book held before is overwritten.
            let changed = self.state == SyncState::Bridging;
            if changed {
                self.state = SyncState::AwaitingSnapshot;
            }
            let (first, last) = (incoming.sequence, incoming.sequence);
            return Step { changed, first, last, ..Step::default() };
        }
        let before = self.state;
        self.stale = 0;
        let stale = self
            .buffered
            .iter()
            .take_while(|update| self.continuity.is_stale(incoming.sequence, update));
        let stale_levels = stale.map(|update| update.levels as usize).sum();
        self.sequence = incoming.sequence;
        self.state = SyncState::Bridging;
        if let Some(newest) = self.buffered.back() {
            if !self.continuity.is_stale(incoming.sequence, newest) {
                self.sequence = newest.last;
                self.state = SyncState::Continuous;
            }
        }
        self.buffered.clear();
        self.buffered_levels = 0;
        Step {
            action: Action::Drain(stale_levels),
            changed: self.state != before,
            first: self.sequence,
            last: self.sequence,
            ..Step::default()
        }
    }

    /// Gives the book up: `expected` and `found` say why.
    fn give_up(&mut self, expected: u64, found: u64) -> Step {
        let dropped = self.buffered_levels;
        let changed = self.state != SyncState::Broken;
        self.buffered.clear();
        self.buffered_levels = 0;
        self.open = None;
        self.incoming = None;
        self.breaks += u64::from(changed);
        self.state = SyncState::Broken;
        Step { dropped, changed, first: expected, last: found, ..Step::default() }
    }

    /// The recorder stopped: nothing is known of what follows.
    fn end(&mut self) -> Step {
        let changed = self.state != SyncState::Empty;
        let (dropped, last) = (self.buffered_levels, self.sequence);
        *self = Self { dropped: self.dropped, breaks: self.breaks, ..Self::new(self.continuity) };
        Step { dropped, changed, first: last, last, ..Step::default() }
    }
}

/// Whether the updates of a book begin anew, or some may be missing on their way to this tape: of a
/// topic that it is read from, retention took them, or they cannot be read.
pub const fn is_reset(marker: &Marker) -> bool {
    marker.code == MarkerCode::Gap as u8
        && (marker.cause == GapCause::Reset as u8
            || marker.cause == GapCause::Retention as u8
            || marker.cause == GapCause::Damage as u8)
        && marker.channel == Channel::Depth as u8
}

/// Whether a level can stand in a book.
#[inline]
const fn is_sound(level: &Level) -> bool {
    (level.side == Side::Bid as u8 || level.side == Side::Ask as u8)
        && level.size >= 0
        && level.size != NONE
}
