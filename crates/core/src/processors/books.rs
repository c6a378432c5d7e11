//! Books: normalised records in, verified books out.
//!
//! The output, per instrument:
//! - a `BookState` marker at every change of the synchronisation state;
//! - while the book is continuous, every update that was applied, whole: its levels as they came,
//!   or its `EmptyUpdate` marker. Never anything of a book that is not continuous;
//! - checkpoints: the whole book between `CheckpointBegin` and `CheckpointEnd`, when the book
//!   became continuous, and again before rebuilding it from the last one would take long;
//! - the top of the book between `SnapshotBegin` and `SnapshotEnd` on the channel `PartialDepth`,
//!   at most once in an interval of event time.

use std::collections::VecDeque;

use self::frame::UpdateFrame;
use super::{Batch, Processor, Settings};
use crate::book::{is_reset, Action, Continuity, Cursor, Step, Sync, SyncState, SyncedBook};
use crate::error::{Error, Result};
use crate::feeds::Descriptor;
use crate::record::{
    records, Channel, Header, Kind, Level, Marker, MarkerCode, Records, Side, FLAG_LAST, NONE,
};

mod frame;

/// First bytes of a state: what it is and its version.
const STATE_MAGIC: [u8; 8] = *b"TWBOOKS\x02";
/// A checkpoint is due after this many levels of the book were written, or ten times its size.
const CHECKPOINT_LEVELS_MIN: u64 = 20_000;
/// A checkpoint is due after this many records of any instrument, or ten times all books' levels.
const CHECKPOINT_RECORDS_MIN: u64 = 1 << 20;
/// Instruments are numbered from 1 up; a number above this is no instrument.
pub(super) const INSTRUMENTS_MAX: u32 = 1 << 22;

/// The rule of the feed with that number.
pub fn continuity(feed: u8) -> Continuity {
    Descriptor::numbered(feed).continuity
}

/// Whether `marker` is of the depth stream or a snapshot of one instrument.
pub(super) const fn concerns_book(marker: &Marker) -> bool {
    let snapshot = marker.channel == Channel::Snapshot as u8
        && (marker.code == MarkerCode::SnapshotBegin as u8
            || marker.code == MarkerCode::SnapshotEnd as u8);
    snapshot || marker.code == MarkerCode::EmptyUpdate as u8 || is_reset(marker)
}

/// Settings of [`Books`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BooksConfig {
    /// Least event time between two tops of one instrument, in ms; 0 writes none.
    pub snapshot_interval_ms: u32,
    /// Levels a side of a top.
    pub snapshot_levels: u32,
}

impl Default for BooksConfig {
    fn default() -> Self {
        Self { snapshot_interval_ms: 1000, snapshot_levels: 20 }
    }
}

pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let default = BooksConfig::default();
    let mut number = |name, default: u32, least| {
        let value = settings.number(name, i64::from(default), least)?;
        u32::try_from(value)
            .map_err(|_| Error::invalid(format!("the setting {name}: {value} is too large")))
    };
    Ok(Box::new(Books::new(BooksConfig {
        snapshot_interval_ms: number("snapshot_interval_ms", default.snapshot_interval_ms, 0)?,
        snapshot_levels: number("snapshot_levels", default.snapshot_levels, 1)?,
    })))
}

/// One instrument.
#[derive(Debug)]
struct Tracked {
    feed: u8,
    synced: SyncedBook,
    /// Levels of the open update: written when it is whole.
    pending: Records,
    /// Levels written since the last checkpoint.
    levels_since: u64,
    /// `Books::written` at the last checkpoint; `u64::MAX` while the book is not continuous.
    checkpoint_at: u64,
    /// Levels of the last checkpoint.
    checkpoint_levels: u64,
    /// Event time of the last top.
    ts_top: i64,
    /// Event time of the last update applied.
    ts_good: i64,
}

/// The processor of books.
#[derive(Debug, Default)]
pub struct Books {
    config: BooksConfig,
    /// By instrument id.
    books: Vec<Option<Box<Tracked>>>,
    /// Instruments and their `checkpoint_at`, oldest first; stale where the two differ.
    order: VecDeque<(u32, u64)>,
    /// Records written so far.
    written: u64,
    /// Sum of `checkpoint_levels` of the continuous books.
    held: u64,
}

impl Books {
    /// A processor that saw nothing yet.
    pub fn new(config: BooksConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The book of `instrument` and its state.
    pub fn book(&self, instrument: u32) -> Option<&SyncedBook> {
        self.books.get(instrument as usize)?.as_ref().map(|tracked| &tracked.synced)
    }

    /// The instruments of which anything came, in order of id.
    pub fn instruments(&self) -> impl Iterator<Item = u32> + '_ {
        let present = self.books.iter().enumerate().filter(|(_, tracked)| tracked.is_some());
        present.map(|(instrument, _)| instrument as u32)
    }

    fn tracked(&mut self, header: &Header) -> Result<&mut Tracked> {
        let at = header.instrument as usize;
        if at >= self.books.len() {
            if header.instrument > INSTRUMENTS_MAX {
                return Err(Error::invalid(format!(
                    "expected instrument ids up to {INSTRUMENTS_MAX}, got {at}"
                )));
            }
            self.books.resize_with(at + 1, || None);
        }
        Ok(self.books[at].get_or_insert_with(|| Box::new(Tracked::new(header.feed))))
    }

    #[inline]
    fn level(&mut self, level: &Level, out: &mut Records) -> Result<()> {
        let tracked = self.tracked(&level.header)?;
        let step = tracked.synced.level(level);
        if step.action == Action::Set
            && tracked.synced.sync().state() == SyncState::Continuous
            && level.channel == Channel::Depth as u8
        {
            tracked.pending.push(level);
        }
        if step.changed || step.applied {
            self.follow(&level.header, step, out)?;
        }
        Ok(())
    }

    fn marker(&mut self, marker: &Marker, out: &mut Records) -> Result<()> {
        let tracked = self.tracked(&marker.header)?;
        let step = tracked.synced.marker(marker);
        if step.applied {
            tracked.pending.push(marker);
        }
        self.follow(&marker.header, step, out)
    }

    /// Does `step` to every book and writes what follows, in order of instrument.
    fn each(
        &mut self,
        marker: &Marker,
        mut step: impl FnMut(&mut SyncedBook) -> Step,
        out: &mut Records,
    ) -> Result<()> {
        for instrument in 0..self.books.len() as u32 {
            let Some(tracked) = &mut self.books[instrument as usize] else { continue };
            let step = step(&mut tracked.synced);
            let header = Header { instrument, feed: tracked.feed, ..marker.header };
            self.follow(&header, step, out)?;
        }
        Ok(())
    }

    /// Writes what follows from a step of the instrument of `header`, the record that made it.
    fn follow(&mut self, header: &Header, step: Step, out: &mut Records) -> Result<()> {
        if !step.changed && !step.applied {
            return Ok(());
        }
        let Some(tracked) = &mut self.books[header.instrument as usize] else { return Ok(()) };
        let before = out.len();
        if step.applied {
            tracked.levels_since += tracked.pending.len() as u64;
            out.extend_from_bytes(tracked.pending.as_bytes())?;
        }
        tracked.pending.clear();
        if step.changed {
            self.held -= tracked.suspend();
            tracked.write_state(header, step, out);
        }
        let continuous = tracked.synced.sync().state() == SyncState::Continuous;
        // A checkpoint is found by its time: one after an update that steps back would be no good.
        let in_order = tracked.synced.ts_event() >= tracked.ts_good;
        if continuous {
            tracked.ts_good = tracked.synced.ts_event();
            tracked.write_top(self.config, header, out);
        }
        let due = tracked.is_due() && in_order || step.changed;
        self.written += (out.len() - before) as u64;
        if continuous && due {
            self.checkpoint(header.instrument, header.ts_recv, out);
        }
        self.checkpoint_oldest(header.ts_recv, out);
        Ok(())
    }

    /// Writes the checkpoint of the instrument whose last one lies furthest back, if that is far:
    /// so the book of a quiet instrument in a busy tape is found as fast as any other.
    fn checkpoint_oldest(&mut self, ts_recv: i64, out: &mut Records) {
        while let Some(&(instrument, at)) = self.order.front() {
            let tracked = self.books[instrument as usize].as_ref();
            let stale = tracked.is_none_or(|tracked| tracked.checkpoint_at != at);
            if !stale && self.written - at <= CHECKPOINT_RECORDS_MIN.max(self.held * 10) {
                return;
            }
            self.order.pop_front();
            let open = tracked.is_some_and(|tracked| tracked.synced.book().is_none());
            if open && !stale {
                // In the middle of an update: its turn comes again after it.
                self.order.push_back((instrument, at));
                return;
            }
            if !stale {
                self.checkpoint(instrument, ts_recv, out);
            }
        }
    }

    fn checkpoint(&mut self, instrument: u32, ts_recv: i64, out: &mut Records) {
        let Some(tracked) = &mut self.books[instrument as usize] else { return };
        let before = out.len();
        self.held -= tracked.suspend();
        self.held += tracked.write_checkpoint(instrument, ts_recv, out);
        self.written += (out.len() - before) as u64;
        tracked.checkpoint_at = self.written;
        self.order.push_back((instrument, self.written));
    }
}

impl Tracked {
    fn new(feed: u8) -> Self {
        Self {
            feed,
            synced: SyncedBook::new(continuity(feed)),
            pending: Records::new(),
            levels_since: 0,
            checkpoint_at: u64::MAX,
            checkpoint_levels: 0,
            ts_top: NONE,
            ts_good: NONE,
        }
    }

    /// Whether so many levels were written since the last checkpoint that a new one pays.
    fn is_due(&self) -> bool {
        self.levels_since > CHECKPOINT_LEVELS_MIN && self.levels_since > self.checkpoint_levels * 10
    }

    /// Forgets the last checkpoint and returns how many levels it had.
    fn suspend(&mut self) -> u64 {
        self.checkpoint_at = u64::MAX;
        std::mem::take(&mut self.checkpoint_levels)
    }

    fn write_state(&self, header: &Header, step: Step, out: &mut Records) {
        let sync = self.synced.sync();
        out.push(&Marker {
            header: Header {
                instrument: header.instrument,
                feed: self.feed,
                flags: FLAG_LAST,
                ts_event: header.ts_event,
                ts_recv: header.ts_recv,
                sequence: sync.sequence(),
                ..Header::of::<Marker>()
            },
            code: MarkerCode::BookState as u8,
            cause: 0,
            state: sync.state() as u8,
            channel: Channel::Depth as u8,
            count: 0,
            first: step.first,
            last: step.last,
            ts_start: self.ts_good,
        });
    }

    /// Writes the whole book and returns its number of levels.
    fn write_checkpoint(&mut self, instrument: u32, ts_recv: i64, out: &mut Records) -> u64 {
        let Some(book) = self.synced.book() else { return 0 };
        let count = (book.len(Side::Bid) + book.len(Side::Ask)) as u64;
        let frame = UpdateFrame {
            instrument,
            feed: self.feed,
            channel: Channel::Snapshot,
            sequence: self.synced.sync().sequence(),
            ts_event: self.synced.ts_event(),
            ts_recv,
        };
        let mut begin = frame.marker(MarkerCode::CheckpointBegin, count as u32);
        begin.ts_start = self.synced.ts_recv();
        out.push(&begin);
        for side in [Side::Bid, Side::Ask] {
            for level in book.levels(side) {
                out.push(&frame.level(side, level.price, level.size));
            }
        }
        let mut end = frame.marker(MarkerCode::CheckpointEnd, count as u32);
        end.last = book.checksum();
        end.header.flags |= FLAG_LAST;
        out.push(&end);
        self.levels_since = 0;
        self.checkpoint_levels = count;
        count
    }

    /// Writes the top of the book, if the interval since the last one is over.
    fn write_top(&mut self, config: BooksConfig, header: &Header, out: &mut Records) {
        let Some(book) = self.synced.book() else { return };
        let interval = i64::from(config.snapshot_interval_ms) * 1_000_000;
        let ts_event = self.synced.ts_event();
        // A venue's clock may be set back: that too starts an interval.
        let over = self.ts_top == NONE || ts_event.abs_diff(self.ts_top) >= interval as u64;
        if interval == 0 || !over {
            return;
        }
        self.ts_top = ts_event;
        let levels = config.snapshot_levels as usize;
        let count = [Side::Bid, Side::Ask].map(|side| book.len(side).min(levels) as u32);
        let frame = UpdateFrame {
            instrument: header.instrument,
            feed: self.feed,
            channel: Channel::PartialDepth,
            sequence: self.synced.sync().sequence(),
            ts_event,
            ts_recv: header.ts_recv,
        };
        out.push(&frame.marker(MarkerCode::SnapshotBegin, count[0] + count[1]));
        for side in [Side::Bid, Side::Ask] {
            for level in book.levels(side).take(levels) {
                out.push(&frame.level(side, level.price, level.size));
            }
        }
        let mut end = frame.marker(MarkerCode::SnapshotEnd, count[0] + count[1]);
        end.header.flags |= FLAG_LAST;
        out.push(&end);
    }
}

impl Processor for Books {
    fn name(&self) -> &'static str {
        "books"
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        for record in records::iterate(batch.bytes) {
            if record.kind() == Kind::Level as u8 {
                let Some(level) = record.as_level() else { continue };
                if level.channel == Channel::Depth as u8 || level.channel == Channel::Snapshot as u8
                {
                    self.level(&level, out)?;
                }
            } else if record.kind() == Kind::Marker as u8 {
                let Some(marker) = record.as_marker() else { continue };
                if marker.code == MarkerCode::EndOfSession as u8 {
                    self.each(&marker, |book| book.marker(&marker), out)?;
                } else if concerns_book(&marker) {
                    self.marker(&marker, out)?;
                }
            }
        }
        Ok(())
    }

    fn lost(&mut self, gap: &Marker, out: &mut Records) -> Result<()> {
        self.each(gap, SyncedBook::lost, out)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let books = || self.books.iter().flatten().map(|tracked| tracked.synced.sync());
        let continuous = books().filter(|sync| sync.state() == SyncState::Continuous).count();
        vec![
            ("books", books().count() as u64),
            ("books_continuous", continuous as u64),
            ("books_needing_snapshot", books().filter(|sync| sync.needs_snapshot()).count() as u64),
            ("breaks", books().map(Sync::breaks).sum()),
            ("updates_dropped", books().map(Sync::dropped).sum()),
        ]
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&STATE_MAGIC);
        out.extend_from_slice(&self.written.to_le_bytes());
        let books = self.books.iter().enumerate();
        let books: Vec<_> = books.filter_map(|(at, book)| Some((at, book.as_ref()?))).collect();
        out.extend_from_slice(&(books.len() as u32).to_le_bytes());
        for (at, tracked) in books {
            out.extend_from_slice(&(at as u32).to_le_bytes());
            out.push(tracked.feed);
            tracked.synced.store(out);
            out.extend_from_slice(&(tracked.pending.as_bytes().len() as u32).to_le_bytes());
            out.extend_from_slice(tracked.pending.as_bytes());
            let numbers = [tracked.levels_since, tracked.checkpoint_at, tracked.checkpoint_levels];
            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            out.extend_from_slice(&tracked.ts_top.to_le_bytes());
            out.extend_from_slice(&tracked.ts_good.to_le_bytes());
        }
        out.extend_from_slice(&(self.order.len() as u32).to_le_bytes());
        for (instrument, at) in &self.order {
            out.extend_from_slice(&instrument.to_le_bytes());
            out.extend_from_slice(&at.to_le_bytes());
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        let mut cursor = Cursor::new(state);
        if cursor.bytes(STATE_MAGIC.len())? != STATE_MAGIC {
            return Err(Error::invalid("expected a state of the books processor, version 1"));
        }
        let mut next = Self::new(self.config);
        next.written = cursor.u64()?;
        for _ in 0..cursor.u32()? {
            let header =
                Header { instrument: cursor.u32()?, feed: cursor.u8()?, ..Header::default() };
            let synced = SyncedBook::load(&mut cursor)?;
            let pending_length = cursor.u32()? as usize;
            let tracked = next.tracked(&header)?;
            tracked.synced = synced;
            tracked.pending = Records::from_bytes(cursor.bytes(pending_length)?)?;
            tracked.levels_since = cursor.u64()?;
            tracked.checkpoint_at = cursor.u64()?;
            tracked.checkpoint_levels = cursor.u64()?;
            (tracked.ts_top, tracked.ts_good) = (cursor.i64()?, cursor.i64()?);
            let held = tracked.checkpoint_levels;
            next.held += held;
        }
        for _ in 0..cursor.u32()? {
            let (instrument, at) = (cursor.u32()?, cursor.u64()?);
            if !next.books.get(instrument as usize).is_some_and(Option::is_some) {
                return Err(Error::invalid(format!(
                    "no book of instrument {instrument} in a state"
                )));
            }
            next.order.push_back((instrument, at));
        }
        cursor.end()?;
        *self = next;
        Ok(())
    }
}
