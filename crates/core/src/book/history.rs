//! The book at any past instant, from a book tape.
//!
//! Rebuilt from the last checkpoint at or before the instant and the updates after it, never from
//! the start of the day. The answer is a book that was verified at that instant, or says why there
//! is none: an instant between the last update before a break and the break itself is not verified.
//!
//! Updates follow each other by sequence, so their times rise; where one does not fit to those
//! around it, it is the one that is wrong. See [`Votes`].

use std::path::Path;

use super::checkpoints::{BookPlace, Checkpoints};
use super::l2::L2Book;
use super::votes::{Ballot, Votes};
use super::SyncState;
use crate::error::{Error, Result};
use crate::record::{
    records, Channel, Header, Kind, Level, Marker, MarkerCode, RecordRef, Side, FLAG_LAST, NONE,
};

/// A book tape to read from: `tape::Reader` is one.
pub trait BookTape {
    /// The tape's folder.
    fn path(&self) -> &Path;

    /// First offset that is kept.
    ///
    /// # Errors
    /// As the tape's.
    fn first(&self) -> Result<u64>;

    /// Offset after the last record that is published.
    ///
    /// # Errors
    /// As the tape's.
    fn end(&mut self) -> Result<u64>;

    /// Goes to `offset`.
    ///
    /// # Errors
    /// `Error::OutOfRange`: it is not on the tape.
    fn seek(&mut self, offset: u64) -> Result<()>;

    /// The next records and the offset of their first; `None` at the end.
    ///
    /// # Errors
    /// As the tape's.
    fn read(&mut self) -> Result<Option<(u64, &[u8])>>;
}

/// A moment by one of the two clocks, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// By the venue's clock, as `ts_event`.
    Event(i64),
    /// By the host's clock, as `ts_recv`.
    Received(i64),
}

impl Moment {
    /// Whether something with these times had happened by then.
    pub(super) const fn has_seen(self, ts_event: i64, ts_recv: i64) -> bool {
        match self {
            Self::Event(ts) => ts_event <= ts,
            Self::Received(ts) => ts_recv <= ts,
        }
    }
}

/// A verified book of the past.
#[derive(Debug, Clone)]
pub struct PastBook {
    /// The book.
    pub book: L2Book,
    /// Its last update id.
    pub sequence: u64,
    /// `ts_event` of its last update, in ns.
    pub ts_event: i64,
    /// `ts_recv` of its last update, in ns.
    pub ts_recv: i64,
    /// Whether nothing of the instrument follows on the tape, so that an update that belongs before
    /// the moment asked for may still come.
    pub is_newest: bool,
}

/// Why there is no verified book at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unverified {
    /// The state at that moment; `Empty` also if the tape holds nothing of the instrument so far.
    pub state: SyncState,
    /// `ts_event` since when nothing is verified: of the last update applied, or of the change of
    /// state. [`NONE`] if nothing ever was.
    pub ts_event: i64,
    /// `ts_recv` of the same.
    pub ts_recv: i64,
    /// Update id of the book that was verified last, 0 if none was.
    pub sequence: u64,
}

/// The book at a moment, or why there is none.
#[derive(Debug, Clone)]
pub enum Past {
    /// A verified book.
    Book(Box<PastBook>),
    /// None is verified.
    Unverified(Unverified),
}

/// All books of a book tape, at any instant that it covers.
#[derive(Debug)]
pub struct BookHistory<T> {
    tape: T,
    checkpoints: Checkpoints,
}

impl<T: BookTape> BookHistory<T> {
    /// The history on `tape`. What is known of its checkpoints is read from, and kept in, the file
    /// `checkpoints.idx` in the tape's folder.
    ///
    /// # Errors
    /// `Error::Io`: that file is there and cannot be read.
    pub fn new(tape: T) -> Result<Self> {
        let checkpoints = Checkpoints::load(&tape.path().join("checkpoints.idx"))?;
        Ok(Self { tape, checkpoints })
    }

    /// The history on `tape`, of which nothing is kept in any file.
    pub fn unsaved(tape: T) -> Self {
        Self { tape, checkpoints: Checkpoints::default() }
    }

    /// Finds the checkpoints that were written since the last call. [`BookHistory::at`] does this
    /// by itself; a process that calls it now and then makes the first question fast too.
    ///
    /// # Errors
    /// As the tape's, and `Error::Io`: the file of checkpoints cannot be written.
    pub fn refresh(&mut self) -> Result<()> {
        let (first, end) = (self.tape.first()?, self.tape.end()?);
        let (known, next) = self.checkpoints.scanned();
        if next > end || next < first || known > next {
            // Another tape, or nothing known yet.
            self.checkpoints.restart(first);
        }
        let (_, next) = self.checkpoints.scanned();
        if next == end {
            return Ok(());
        }
        self.tape.seek(next)?;
        while let Some((offset, bytes)) = self.tape.read()? {
            self.checkpoints.scan(offset, bytes);
        }
        self.checkpoints.save()
    }

    /// The instruments of which the tape ever held a book or its state, in order of id.
    pub fn instruments(&self) -> Vec<u32> {
        self.checkpoints.instruments()
    }

    /// The book of `instrument` at `moment`: all updates up to and including it.
    ///
    /// # Errors
    /// As the tape's; `Error::Corrupt`: a checkpoint does not have the checksum that it names.
    pub fn at(&mut self, instrument: u32, moment: Moment) -> Result<Past> {
        self.refresh()?;
        match self.try_at(instrument, moment)? {
            Some(past) => Ok(past),
            None => {
                // The file described another tape that lay here before.
                let first = self.tape.first()?;
                self.checkpoints.restart(first);
                self.refresh()?;
                self.try_at(instrument, moment)?.ok_or_else(|| {
                    Error::corrupt(self.tape.path(), 0, "a checkpoint is not where it was found")
                })
            }
        }
    }

    /// As [`BookHistory::at`]; `None` if a checkpoint is not where it was found.
    fn try_at(&mut self, instrument: u32, moment: Moment) -> Result<Option<Past>> {
        let first = self.tape.first()?;
        let entries = self.checkpoints.of(instrument);
        let seen = |entry: &BookPlace| moment.has_seen(entry.ts_event, entry.ts_recv);
        let found = entries.iter().rfind(|entry| entry.offset >= first && seen(entry));
        let Some(entry) = found.copied() else {
            let never =
                Unverified { state: SyncState::Empty, ts_event: NONE, ts_recv: NONE, sequence: 0 };
            return Ok(Some(Past::Unverified(never)));
        };
        match entry.state() {
            None => {}
            // The checkpoint that follows lies after the moment, or was not written before a crash.
            Some(SyncState::Continuous) => {
                return Ok(Some(Past::Unverified(unverified(SyncState::Bridging, &entry))))
            }
            Some(state) => return Ok(Some(Past::Unverified(self.last_verified(state, &entry)))),
        }
        let mut rebuild = Rebuild::new(instrument, moment);
        self.tape.seek(entry.offset)?;
        // What was published since the scan may hold states that were not looked at.
        let (_, end) = self.checkpoints.scanned();
        while let Some((offset, bytes)) = self.tape.read()? {
            if offset >= end || !rebuild.take(bytes) {
                break;
            }
        }
        rebuild.finish(self.tape.path(), &entry)
    }

    /// Since when nothing is verified, if `entry` says that the book is in `state`.
    fn last_verified(&self, state: SyncState, entry: &BookPlace) -> Unverified {
        let entries = self.checkpoints.of(entry.instrument);
        let before = entries.iter().take_while(|other| other.offset <= entry.offset);
        // The first change since the book was last shown is when it was lost.
        let mut since = *entry;
        for other in before.collect::<Vec<_>>().into_iter().rev() {
            match other.state() {
                Some(SyncState::Continuous) | None => break,
                Some(_) => since = *other,
            }
        }
        unverified(state, &since)
    }
}

const fn unverified(state: SyncState, since: &BookPlace) -> Unverified {
    Unverified { state, ts_event: since.ts_event, ts_recv: since.ts_recv, sequence: since.sequence }
}

/// Where reading stands between a checkpoint and the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RebuildPhase {
    /// The first record is still to come.
    Start,
    /// Levels of the checkpoint.
    Checkpoint,
    /// Updates.
    Updates,
    /// Something after the moment was met.
    Done,
    /// The book broke after the moment.
    Broke(SyncState),
    /// The checkpoint is not the one that was looked for, or not whole.
    NotFound,
    /// The levels do not have the checksum that the checkpoint names.
    Mismatch,
}

/// A book being rebuilt.
struct Rebuild {
    instrument: u32,
    moment: Moment,
    stage: RebuildPhase,
    past: PastBook,
    /// Levels of an update of which the last is still to come: it may not be on the tape yet.
    open: Vec<(Side, i64, i64)>,
    /// Levels of updates that are after the moment, unless what follows shows otherwise.
    later: Vec<(Side, i64, i64)>,
    votes: Votes,
}

impl Rebuild {
    fn new(instrument: u32, moment: Moment) -> Self {
        let past = PastBook {
            book: L2Book::new(),
            sequence: 0,
            ts_event: NONE,
            ts_recv: NONE,
            is_newest: false,
        };
        Self {
            instrument,
            moment,
            stage: RebuildPhase::Start,
            past,
            open: Vec::new(),
            later: Vec::new(),
            votes: Votes::default(),
        }
    }

    /// Takes records in. `false` when no more are needed.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for record in records::iterate(bytes) {
            // Most records are of other instruments; their headers are not decoded.
            if self.stage != RebuildPhase::Start && instrument_of(record) != self.instrument {
                continue;
            }
            if record.kind() == Kind::Level as u8 {
                if let Some(level) = record.as_level() {
                    self.level(&level);
                }
            } else if let Some(marker) = record.as_marker() {
                self.marker(&marker);
            } else if self.stage == RebuildPhase::Start {
                self.stage = RebuildPhase::NotFound;
            }
            if !matches!(self.stage, RebuildPhase::Checkpoint | RebuildPhase::Updates) {
                return false;
            }
        }
        true
    }

    #[inline]
    fn level(&mut self, level: &Level) {
        let side = if level.side == Side::Ask as u8 { Side::Ask } else { Side::Bid };
        match self.stage {
            RebuildPhase::Start => self.stage = RebuildPhase::NotFound,
            RebuildPhase::Checkpoint => self.past.book.set(side, level.price, level.size),
            _ if level.channel != Channel::Depth as u8 => {}
            _ => {
                self.open.push((side, level.price, level.size));
                if level.header.flags & FLAG_LAST != 0 {
                    self.update(&level.header);
                }
            }
        }
    }

    /// Takes in an update that is whole.
    fn update(&mut self, header: &Header) {
        let reference = (self.past.ts_event, self.past.ts_recv);
        match self.votes.cast(self.moment, (header.ts_event, header.ts_recv), reference) {
            Ballot::Before => {
                let levels = self.later.drain(..).chain(self.open.drain(..));
                levels.for_each(|(side, price, size)| self.past.book.set(side, price, size));
                self.note(header);
            }
            Ballot::After => self.later.append(&mut self.open),
            Ballot::Closed => self.stage = RebuildPhase::Done,
        }
    }

    fn marker(&mut self, marker: &Marker) {
        let header = &marker.header;
        let code = MarkerCode::try_from(marker.code);
        match (self.stage, code) {
            (RebuildPhase::Start, Ok(MarkerCode::CheckpointBegin))
                if header.instrument == self.instrument =>
            {
                self.stage = RebuildPhase::Checkpoint;
                self.past.sequence = header.sequence;
                self.past.ts_event = header.ts_event;
                // The marker itself was received when the checkpoint was written.
                self.past.ts_recv = marker.ts_start;
            }
            (RebuildPhase::Start, _) => self.stage = RebuildPhase::NotFound,
            (RebuildPhase::Checkpoint, Ok(MarkerCode::CheckpointEnd)) => {
                let same = self.past.book.checksum() == marker.last;
                self.stage = if same { RebuildPhase::Updates } else { RebuildPhase::Mismatch };
            }
            (RebuildPhase::Updates, Ok(MarkerCode::EmptyUpdate)) => self.update(header),
            (RebuildPhase::Updates, Ok(MarkerCode::BookState)) => {
                let state = SyncState::try_from(marker.state).unwrap_or(SyncState::Broken);
                let is_by_then = self.moment.has_seen(header.ts_event, header.ts_recv);
                self.stage = if self.votes.is_open() && !is_by_then {
                    RebuildPhase::Done
                } else {
                    RebuildPhase::Broke(state)
                };
            }
            _ => {}
        }
    }

    fn note(&mut self, header: &Header) {
        self.past.sequence = header.sequence;
        self.past.ts_event = header.ts_event;
        self.past.ts_recv = header.ts_recv;
    }

    fn finish(mut self, path: &Path, entry: &BookPlace) -> Result<Option<Past>> {
        match self.stage {
            RebuildPhase::Start | RebuildPhase::NotFound | RebuildPhase::Checkpoint => Ok(None),
            RebuildPhase::Mismatch => Err(Error::corrupt(
                path,
                0,
                format!("the checkpoint at offset {} has another checksum", entry.offset),
            )),
            // The session ended in good order: until then the book was what it was.
            RebuildPhase::Done | RebuildPhase::Broke(SyncState::Empty) => {
                Ok(Some(Past::Book(Box::new(self.past))))
            }
            RebuildPhase::Updates => {
                self.past.is_newest = !self.votes.is_open();
                Ok(Some(Past::Book(Box::new(self.past))))
            }
            RebuildPhase::Broke(state) => {
                // Of what was lost, some may have happened before the moment. Right after the last
                // update that came, nothing was.
                let PastBook { ts_event, ts_recv, sequence, .. } = self.past;
                let exact = match self.moment {
                    Moment::Event(ts) => ts == ts_event,
                    Moment::Received(ts) => ts == ts_recv,
                };
                if exact {
                    return Ok(Some(Past::Book(Box::new(self.past))));
                }
                Ok(Some(Past::Unverified(Unverified { state, ts_event, ts_recv, sequence })))
            }
        }
    }
}

#[inline]
fn instrument_of(record: RecordRef<'_>) -> u32 {
    match record.bytes().get(4..8) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}
