//! The recorder's core: frames in, raw tape and normalised tape out.
//!
//! A frame is first of all put on the raw tape; only when it is published there does anything that
//! was made of it become visible. What cannot be written waits, within a bound; what the bound
//! sheds is counted, and noted on the raw tape as soon as that can be written again.

use std::path::PathBuf;

use crate::book::SyncState;
use crate::clock::{ClockStep, RecvClock};
use crate::error::{Error, Result};
use crate::feeds::{Descriptor, Feed, Glance};
use crate::latency::{Latency, Quantiles, Timed};
use crate::processors::Stage;
use crate::record::{unpadded, BlobKind, Channel};
use crate::tape::{Batch, Durability, Retention, Tape, TapeConfig, TapeKind};

pub mod activity;
mod hearing;
mod normalized;
mod notes;
pub mod pending;
mod silences;
pub mod socket;
pub mod subscriptions;

use self::activity::Activity;
use self::hearing::Hearing;
use self::normalized::{is_passing, Normalized};
pub use self::notes::EndedGap;
use self::pending::Pending;
use self::silences::Silence;
use self::subscriptions::Subscriptions;

/// The connection number of what belongs to no connection.
pub const NO_CONNECTION: u16 = u16::MAX;

/// Items that the normaliser takes at a time.
const STEP_ITEMS_MAX: usize = 4096;
/// What the raw tape's retention knows the normaliser by.
const NORMALIZER: &str = "stage-normalize";

/// How to record one source.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// The folder of all data.
    pub data: PathBuf,
    /// The name of the source: the folder of its tapes.
    pub source: String,
    /// The feed whose frames these are.
    pub feed: Descriptor,
    /// Frames that wait for the tape take at most so many bytes.
    pub pending_bytes_max: usize,
    /// When what is published becomes durable.
    pub durability: Durability,
    /// Size of the segments of both tapes.
    pub segment_bytes: usize,
    /// What is kept of the closed segments of both tapes, and how.
    pub retention: Retention,
    /// Receive time of the first of what was captured before; none for a recorder, whose receive
    /// times are those of [`RecvClock`].
    pub ts_first: Option<i64>,
}

/// What was counted since the recorder started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames and REST answers received.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records published.
    pub records: u64,
    /// Frames that could not be decoded.
    pub dead_letters: u64,
    /// Gaps declared, by whatever cause.
    pub gaps: u64,
    /// Times that a tape could not be written.
    pub write_failures: u64,
}

/// Writes the raw tape of one source, and its normalised tape right behind.
pub struct Ingest {
    config: IngestConfig,
    raw: Tape,
    /// None while the normalised tape cannot be used: the raw tape goes on without it.
    normalized: Option<Normalized>,
    /// Why it cannot be used; none if it can.
    degraded: Option<String>,
    clock: RecvClock,
    clock_steps: Vec<ClockStep>,
    pending: Pending,
    /// Read times of frames that are on the raw tape and not yet normalised.
    unpublished: Vec<(i64, u64)>,
    activity: Activity,
    /// None where frames or the session tell which streams spoke.
    hearing: Option<Hearing>,
    subscriptions: Subscriptions,
    silences: Vec<Silence>,
    /// To the publication of frames, and of their records.
    published: Timed,
    normalized_in: Timed,
    counts: Counts,
    failure: Option<String>,
}

impl Ingest {
    /// Opens the tapes of `config.source` for writing, or makes them.
    ///
    /// # Errors
    /// `Error::Invalid`: the name of the source is not fit to be a folder. `Error::Locked`: another
    /// process records this source. `Error::Corrupt`, `Error::DiskFull`, `Error::Io`,
    /// `Error::FutureVersion`: as opening a tape.
    pub fn open(config: IngestConfig) -> Result<Self> {
        let decoder = config.feed.build();
        Self::open_with(config, decoder)
    }

    /// As [`Ingest::open`], for a feed whose frames `decoder` reads.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(config: IngestConfig, decoder: Box<dyn Feed>) -> Result<Self> {
        check_source(&config.source)?;
        let tapes = config.data.join("tape").join(&config.source);
        let raw_path = tapes.join("market-data.raw");
        let normalized_path = tapes.join("market-data.normalized");
        let tape = TapeConfig {
            durability: config.durability,
            segment_bytes: config.segment_bytes,
            retention: config.retention,
            ..TapeConfig::new(TapeKind::Blobs)
        };
        let raw = Tape::open(&raw_path, tape)?;
        let mut degraded = None;
        let (hearing, decoder) = Hearing::of(config.feed, decoder);
        let normalized = match Normalized::open(&config, decoder, &raw_path, &normalized_path) {
            Ok(normalized) => Some(normalized),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => {
                degraded = Some(error.to_string());
                None
            }
        };
        let clock = RecvClock::start(raw.last_ts_recv());
        let pending = Pending::new(config.feed.number(), config.pending_bytes_max);
        let mut ingest = Self {
            config,
            raw,
            normalized,
            degraded,
            clock,
            clock_steps: Vec::new(),
            pending,
            unpublished: Vec::new(),
            activity: Activity::default(),
            hearing,
            subscriptions: Subscriptions::default(),
            silences: Vec::new(),
            published: Timed::default(),
            normalized_in: Timed::default(),
            counts: Counts::default(),
            failure: None,
        };
        // The recorder itself counts as a connection that carries nothing. When its number opens
        // twice without an end of the session, the normaliser knows that the recorder was killed,
        // and that nothing which was open then is open now.
        let ts = ingest.config.ts_first.unwrap_or_else(|| ingest.clock.now());
        ingest.begin_session(ts)?;
        ingest.hearing.iter().for_each(|hearing| hearing.begin(ts));
        if ingest.config.ts_first.is_none() {
            ingest.look_at_clock()?;
        }
        Ok(ingest)
    }

    /// The receive time of this moment, in ns: it never falls.
    #[inline]
    pub fn now(&mut self) -> i64 {
        self.clock.now()
    }

    /// The steps of the wall clock that were noted since the last call.
    pub fn take_clock_steps(&mut self) -> Vec<ClockStep> {
        std::mem::take(&mut self.clock_steps)
    }

    /// Whether receive times are suspect at the moment.
    pub const fn is_clock_suspect(&self) -> bool {
        self.clock.is_suspect()
    }

    /// Why the normalised tape is not written; none if it is. The raw tape goes on.
    pub fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    /// Takes in a frame or a REST answer, received at `ts_recv`. Nothing is published before
    /// [`Ingest::flush`]. Says whether the session should look at it: it is not market data.
    ///
    /// # Errors
    /// `Error::Invalid`: the context is over 65,535 bytes. Else only what `flush` gives.
    #[inline]
    pub fn receive(
        &mut self,
        connection: u16,
        kind: BlobKind,
        ts_recv: i64,
        context: &[u8],
        body: &[u8],
    ) -> Result<bool> {
        self.counts.frames += 1;
        self.counts.bytes += body.len() as u64;
        let mut shown = false;
        if kind == BlobKind::Text || kind == BlobKind::Binary {
            match self.config.feed.framing.glance(body) {
                Glance::Stream(name) => {
                    if let Some(stream) = self.activity.heard(connection, name, ts_recv) {
                        self.subscriptions.hear(connection, stream);
                        self.note_subscriptions(ts_recv)?;
                    }
                    if !self.silences.is_empty() {
                        self.end_silence(connection, name, ts_recv)?;
                    }
                }
                Glance::Events | Glance::Heartbeat => {}
                Glance::Control => shown = true,
            }
        }
        if self.pending.is_full(body.len() + context.len() + 32) && self.failure.is_none() {
            self.flush()?;
        }
        self.pending.push(connection, kind, ts_recv, context, body)?;
        Ok(shown)
    }

    /// Publishes all that was taken in: on the raw tape as one frame, then what the normaliser
    /// makes of it. Gives the number of records published. While a tape cannot be written for lack
    /// of space, or the system refuses, nothing is lost and nothing fails: see `pending_bytes_max`.
    ///
    /// # Errors
    /// `Error::Corrupt` and the like: the tapes are not usable; stop.
    pub fn flush(&mut self) -> Result<u64> {
        // A tape whose sync failed once takes nothing before it is restored; see `Tape::reopen`.
        if let Err(error) = self.raw.reopen() {
            self.tolerate(error)?;
        }
        let before = self.counts.records;
        let written = self.write_pending();
        let published = if self.unpublished.is_empty() { 0 } else { self.clock.now() };
        if let Err(error) = written.and_then(|()| self.normalize()) {
            self.tolerate(error)?;
            return Ok(self.counts.records - before);
        }
        if self.pending.blobs().is_empty() && !self.raw.needs_reopen() {
            self.failure = None;
        }
        self.hear_events()?;
        if !self.unpublished.is_empty() {
            let now = self.clock.now();
            for (ts, times) in self.unpublished.drain(..) {
                self.published.record(published - ts, times);
                self.normalized_in.record(now - ts, times);
            }
        }
        Ok(self.counts.records - before)
    }

    /// Counts a frame of the stream `name` whose name the frame itself does not show; the
    /// session read it.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn heard(&mut self, connection: u16, name: &str, ts_recv: i64) -> Result<()> {
        if let Some(stream) = self.activity.heard(connection, name.as_bytes(), ts_recv) {
            self.subscriptions.hear(connection, stream);
            self.note_subscriptions(ts_recv)?;
        }
        if self.silences.is_empty() {
            return Ok(());
        }
        self.end_silence(connection, name.as_bytes(), ts_recv)
    }

    /// Starts to count the stream `name` on `connection`; see [`Ingest::activity`].
    pub fn watch(&mut self, connection: u16, name: &str, symbol: &str, channel: Channel) {
        self.activity.watch(connection, name, symbol, channel);
    }

    /// When each stream of each connection last spoke.
    pub const fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The symbols whose books cannot go on without a snapshot.
    pub fn needs_snapshot(&self) -> Vec<&str> {
        let Some(normalized) = &self.normalized else { return Vec::new() };
        let Some(instruments) = normalized.stage.instruments() else { return Vec::new() };
        let symbol = |id| instruments.get(id).map(|definition| unpadded(&definition.symbol));
        normalized.books.needs().filter_map(symbol).collect()
    }

    /// How far the book of `symbol` is verified, since the recorder started.
    pub fn book_state(&self, symbol: &str) -> SyncState {
        match (&self.normalized, self.instrument(symbol)) {
            (Some(normalized), Some(id)) => normalized.books.state(id),
            _ => SyncState::Empty,
        }
    }

    /// Whether the book of `symbol` was verified at any time since the recorder started.
    pub fn was_verified(&self, symbol: &str) -> bool {
        match (&self.normalized, self.instrument(symbol)) {
            (Some(normalized), Some(id)) => normalized.books.was_verified(id),
            _ => false,
        }
    }

    /// The instrument that `symbol` names now.
    fn instrument(&self, symbol: &str) -> Option<u32> {
        let normalized = self.normalized.as_ref()?;
        normalized.stage.instruments()?.current(self.config.feed.number(), symbol)
    }

    /// What was counted since the recorder started.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Frames shed since the recorder started.
    pub const fn shed(&self) -> u64 {
        self.pending.shed_total()
    }

    /// Bytes that wait for the raw tape.
    pub fn pending_bytes(&self) -> usize {
        self.pending.blobs().as_bytes().len()
    }

    /// Why a tape cannot be written at the moment; none if it can.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// From the read of a frame from its socket to the publication of its records.
    pub const fn latency(&self) -> &Latency {
        self.normalized_in.all()
    }

    /// As [`Ingest::latency`] of all and of the last second or so: to the publication of frames on
    /// the raw tape, and to that of their records.
    pub fn take_times(&mut self) -> [(Quantiles, Quantiles); 2] {
        [self.published.take(), self.normalized_in.take()]
    }

    /// The raw tape.
    pub const fn raw(&self) -> &Tape {
        &self.raw
    }

    /// The stage that writes the normalised tape, while that can be used.
    pub fn normalizer(&self) -> Option<&Stage> {
        self.normalized.as_ref().map(|normalized| &normalized.stage)
    }

    /// Makes all that is published durable, and saves the normaliser's state.
    ///
    /// # Errors
    /// As [`Tape::sync`].
    pub fn sync(&mut self) -> Result<()> {
        self.raw.reopen()?;
        self.raw.sync()?;
        self.normalize()?;
        let saved = self.normalized.as_mut().map_or(Ok(()), |normalized| normalized.stage.save());
        self.degrade(saved)
    }

    fn write_pending(&mut self) -> Result<()> {
        // Twice at most: the frames, and then the markers of what was shed meanwhile.
        while !self.pending.blobs().is_empty() {
            let blobs = self.pending.blobs();
            let count = u32::try_from(blobs.len())
                .map_err(|_| Error::invalid("expected fewer than 4 G frames at a time"))?;
            let ts = self.pending.ts_last();
            let appended = self.raw.append(blobs.as_bytes(), count, crate::codec::NO_INPUT, ts);
            let first_offset = match appended {
                Ok(first_offset) => first_offset,
                Err(error) => return self.tolerate(error),
            };
            // Normalised from here, they need not be read back from the tape. Many at once, after
            // the disk was full, would make more records than memory should hold.
            let mut taken = Ok(());
            if let Some(normalized) = &mut self.normalized {
                if blobs.len() <= STEP_ITEMS_MAX {
                    let (count, bytes) = (blobs.len(), blobs.as_bytes());
                    let batch = Batch { first_offset, count, bytes };
                    taken = normalized.take(batch, &mut self.counts);
                }
            }
            self.failure = None;
            self.unpublished.extend_from_slice(self.pending.runs());
            let has_more = self.pending.written(ts)?;
            self.degrade(taken)?;
            if !has_more {
                break;
            }
        }
        Ok(())
    }

    /// Normalises what is on the raw tape and was not normalised yet.
    fn normalize(&mut self) -> Result<()> {
        let Some(normalized) = &mut self.normalized else { return Ok(()) };
        let followed = normalized.follow(self.raw.end(), &mut self.counts);
        self.degrade(followed)
    }

    /// Gives the normalised tape up where it is damaged. What was recorded since is normalised once
    /// it is mended.
    fn degrade(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(error) if !is_passing(&error) => {
                self.degraded = Some(error.to_string());
                self.normalized = None;
                Ok(())
            }
            done => done,
        }
    }

    /// Passes what may end by itself: no space, or a refusal of the system. What waits is kept.
    fn tolerate(&mut self, error: Error) -> Result<()> {
        match error {
            Error::DiskFull { .. } | Error::Io { .. } => {
                self.counts.write_failures += 1;
                self.failure = Some(error.to_string());
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// Refuses a name that would lead out of the data folder, or be another one on another system.
fn check_source(name: &str) -> Result<()> {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.bytes().all(is_fit) && (1..=64).contains(&name.len()) && !name.starts_with('-') {
        return Ok(());
    }
    let reason = "expected the name of a source to be of a-z, 0-9 and '-', up to 64 characters";
    Err(Error::invalid(format!("{reason}, got {:?}", name.chars().take(80).collect::<String>())))
}
