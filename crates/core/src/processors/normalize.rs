//! Blobs of one feed in, records out: each event once, in order, with every loss declared.
//!
//! Decodes with the feed, writes a definition before the first record that uses it, and leaves the
//! rest to [`Arbiter`]. A blob that cannot be decoded gives a marker and nothing else. In steady
//! state a record is written once, in place, and nothing is allocated.

use super::arbitration::event::Event;
use super::arbitration::{Arbiter, RECORDER};
use super::state::{StateReader, StateWriter};
use super::{Batch, Processor, Settings};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::{Descriptor, Feed, Rejected};
use crate::instrument::Instruments;
use crate::record::{
    blob, records, Blob, BlobKind, Channel, GapCause, Header, Kind, Marker, MarkerCode, Plain,
    Records, FLAG_HISTORICAL, FLAG_LAST, FLAG_RECV_SUSPECT, SESSION_ENDS,
};
use crate::tape::TapeKind;

const NAME: &str = "normalize";
/// The number under which answers to requests come.
const REQUESTS: u16 = u16::MAX;
/// Those of the version before knew events that came live by less, and had no path of an answer.
const VERSION: u32 = 8;
const VERSION_BEFORE: u32 = 7;
/// Since that one snapshots tell how many channels there were. Those of before are of thirteen.
const VERSION_OF_THIRTEEN: u32 = 6;
const CHANNELS_BEFORE: usize = 13;
/// How long events wait for another line, by default.
pub const HOLD_MS: i64 = 500;

/// The processor `normalize`.
pub struct Normalizer {
    decoder: Box<dyn Feed>,
    feed: Descriptor,
    instruments: Instruments,
    arbiter: Arbiter,
    /// Records that do not simply follow are moved here while they are decided on.
    aside: Records,
}

/// Builds the processor. Settings: `feed`, the name of a feed; `hold_ms`.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let feed = Descriptor::named(&settings.text("feed", None)?)?;
    let hold_ms = settings.number("hold_ms", HOLD_MS, 0)?;
    Ok(Box::new(Normalizer::new(feed, hold_ms)))
}

impl Normalizer {
    /// A normaliser of `feed` that waits up to `hold_ms` for another line.
    pub fn new(feed: impl Into<Descriptor>, hold_ms: i64) -> Self {
        let feed = feed.into();
        Self::with_decoder(feed, feed.build(), hold_ms)
    }

    /// A normaliser of `feed`, whose frames `decoder` reads.
    pub fn with_decoder(feed: Descriptor, decoder: Box<dyn Feed>, hold_ms: i64) -> Self {
        Self {
            decoder,
            feed,
            instruments: Instruments::new(),
            arbiter: Arbiter::new(feed, hold_ms.saturating_mul(1_000_000)),
            aside: Records::new(),
        }
    }

    /// The instruments that were defined so far.
    pub const fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// Decodes one blob, whose offset on its tape is `offset`.
    ///
    /// # Errors
    /// Only bugs of ours: what the venue sends never fails.
    #[inline]
    pub fn receive(&mut self, blob: &Blob<'_>, offset: u64, out: &mut Records) -> Result<()> {
        self.arbiter.enter(&blob.header, offset, out)?;
        self.arbiter.counts.frames += 1;
        if blob.header.kind == BlobKind::Records as u8 {
            return self.session(blob, offset, out);
        }
        if blob.context.ends_with(blob::CUT_MARK) {
            if blob.header.kind != BlobKind::Rest as u8 {
                self.decoder.lose();
            }
            let rejected = Rejected::one(DecodeReason::Truncated, blob.body.len());
            self.dead_letter(blob, offset, rejected, out);
            return Ok(());
        }
        if blob.header.kind == BlobKind::Rest as u8 && blob.header.connection == REQUESTS {
            self.arbiter.begin_answer(blob.context);
        }
        let start = out.mark();
        match self.decoder.receive(blob, &mut self.instruments, out) {
            Ok(mut rejected) => {
                if blob.header.flags & u16::from(FLAG_RECV_SUSPECT) != 0 {
                    out.flag_from(start.0, FLAG_RECV_SUSPECT);
                }
                if blob.header.kind == BlobKind::Rest as u8 {
                    self.arbiter.tell_time(self.decoder.venue_time());
                }
                self.arrange(start, out)?;
                if self.feed.news.is_some() && self.decoder.tells_news(blob) {
                    self.headlines(blob, offset, &mut rejected, out)?;
                }
                if rejected != Rejected::NONE {
                    self.dead_letter(blob, offset, rejected, out);
                }
                Ok(())
            }
            Err(error) => {
                let mut rejected = Rejected::NONE;
                rejected.add(error)?;
                self.dead_letter(blob, offset, rejected, out);
                Ok(())
            }
        }
    }

    /// Looks at the events decoded since `start`. Those that simply follow stay where they are.
    #[inline]
    fn arrange(&mut self, start: (usize, usize), out: &mut Records) -> Result<()> {
        if self.instruments.has_changed() {
            return self.sort_out(start, out);
        }
        let (mut byte, mut count) = start;
        while let Some(event) = Event::read(&out.as_bytes()[byte..], &self.feed.rules) {
            if !self.arbiter.follows(&event) {
                return self.sort_out((byte, count), out);
            }
            byte += event.length;
            count += event.count as usize;
        }
        if byte == start.0 {
            self.arbiter.counts.control += 1;
        }
        Ok(())
    }

    /// Takes the records from `start` off the batch and decides on each event.
    #[cold]
    fn sort_out(&mut self, start: (usize, usize), out: &mut Records) -> Result<()> {
        let mut aside = std::mem::take(&mut self.aside);
        aside.clear();
        aside.extend_from_bytes(&out.as_bytes()[start.0..])?;
        out.truncate(start);
        self.instruments.take_changed(out);
        let mut rest = aside.as_bytes();
        while let Some(event) = Event::read(rest, &self.feed.rules) {
            let (bytes, after) = rest.split_at(event.length);
            if self.arbiter.follows(&event) {
                out.extend_from_bytes(bytes)?;
            } else {
                self.arbiter.decide(&event, bytes, out)?;
            }
            rest = after;
        }
        self.arbiter.finish(out);
        self.aside = aside;
        Ok(())
    }

    fn session(&mut self, blob: &Blob<'_>, offset: u64, out: &mut Records) -> Result<()> {
        if records::count_records(blob.body).is_err() {
            let rejected = Rejected::one(DecodeReason::WrongType, 0);
            self.dead_letter(blob, offset, rejected, out);
            return Ok(());
        }
        let is_over = records::iterate(blob.body).any(|record| ends_all(record.bytes()));
        let start = out.mark();
        let ts_recv = blob.header.ts_recv;
        if records::iterate(blob.body).any(|record| self.may_lose(record.bytes())) {
            self.decoder.lose();
        }
        let rejected = self.decoder.settle(ts_recv, is_over, &mut self.instruments, out)?;
        if out.mark() != start {
            self.arrange(start, out)?;
        }
        if rejected != Rejected::NONE {
            self.dead_letter(blob, offset, rejected, out);
        }
        for record in records::iterate(blob.body) {
            self.arbiter.session(record.bytes(), out)?;
        }
        Ok(())
    }

    /// Whether events may be missing where the recorder noted this: a connection ended, as it opens
    /// again or the recorder was killed, or it says that some are gone. Where it stops itself, no
    /// book goes on.
    fn may_lose(&self, record: &[u8]) -> bool {
        const LOSSES: [u8; 3] =
            [GapCause::Overload as u8, GapCause::Retention as u8, GapCause::Damage as u8];
        let marker = Marker::read_from(record).filter(|_| record[1] == Kind::Marker as u8);
        marker.is_some_and(|marker| match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::Connected) => self.arbiter.is_open(marker.first as u16),
            Ok(MarkerCode::Disconnected) => marker.state != SESSION_ENDS,
            Ok(MarkerCode::Gap) => LOSSES.contains(&marker.cause),
            _ => false,
        })
    }

    /// Notes the stories of a blob, and adds those that could not be read to `rejected`. The
    /// processor `news` reads them again from the raw tape.
    fn headlines(
        &mut self,
        blob: &Blob<'_>,
        offset: u64,
        rejected: &mut Rejected,
        out: &mut Records,
    ) -> Result<()> {
        let Some(read) = self.feed.news else { return Ok(()) };
        let mut stories = Vec::new();
        match read(blob, &mut stories) {
            Ok(told) => rejected.join(told),
            Err(error) => rejected.add(error)?,
        }
        let is_history = blob.header.kind == BlobKind::Rest as u8;
        let history = if is_history { FLAG_HISTORICAL } else { 0 };
        for (place, story) in stories.iter().enumerate() {
            let marker = Marker {
                header: Header {
                    feed: self.feed.number(),
                    flags: blob.header.flags as u8 | FLAG_LAST | history,
                    ts_event: story.ts_created,
                    ts_recv: blob.header.ts_recv,
                    sequence: story.id,
                    ..Header::of::<Marker>()
                },
                code: MarkerCode::News as u8,
                cause: 0,
                state: 0,
                channel: Channel::None as u8,
                count: stories.len() as u32,
                first: offset,
                last: place as u64,
                ts_start: story.ts_updated,
            };
            if is_history && self.arbiter.is_story_retold(&marker, &story.text) {
                self.arbiter.counts.duplicate(Channel::None as u8);
            } else {
                out.push(&marker);
            }
        }
        Ok(())
    }

    #[cold]
    fn dead_letter(&mut self, blob: &Blob<'_>, offset: u64, rejected: Rejected, out: &mut Records) {
        let Some((reason, byte)) = rejected.first else { return };
        // What the blob defined before it broke stays defined.
        self.instruments.take_changed(out);
        self.arbiter.counts.dead_letters += 1;
        out.push(&Marker {
            header: Header {
                feed: self.feed.number(),
                flags: FLAG_LAST,
                ts_event: blob.header.ts_recv,
                ts_recv: blob.header.ts_recv,
                ..Header::of::<Marker>()
            },
            code: MarkerCode::DeadLetter as u8,
            cause: reason as u8,
            state: 0,
            channel: Channel::None as u8,
            count: rejected.count,
            first: offset,
            last: byte as u64,
            ts_start: crate::record::NONE,
        });
        self.arbiter.cannot_decode(blob, rejected.count, &mut self.instruments, out);
    }
}

/// Whether a note of the recorder says that no connection is open any more: it ends, or it begins.
fn ends_all(record: &[u8]) -> bool {
    let marker = Marker::read_from(record).filter(|_| record[1] == Kind::Marker as u8);
    marker.is_some_and(|marker| {
        let begins = marker.code == MarkerCode::Connected as u8;
        marker.code == MarkerCode::EndOfSession as u8 || (begins && marker.first as u16 == RECORDER)
    })
}

impl Processor for Normalizer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn input_kind(&self) -> TapeKind {
        TapeKind::Blobs
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        let mut offset = batch.first_offset;
        for blob in blob::iterate(batch.bytes) {
            self.receive(&blob, offset, out)?;
            offset += 1;
        }
        if offset != batch.first_offset + batch.count as u64 {
            return Err(Error::invalid(format!(
                "expected {} blobs from offset {} on, got {}",
                batch.count,
                batch.first_offset,
                offset - batch.first_offset
            )));
        }
        Ok(())
    }

    fn instruments(&self) -> Option<&Instruments> {
        Some(&self.instruments)
    }

    fn is_true(&self, marker: &Marker) -> bool {
        self.arbiter.is_true(marker)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.arbiter.counts.list()
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.length(Channel::NAMES.len());
        state.u8(self.feed.number());
        state.length(self.instruments.len());
        self.instruments.iter().for_each(|definition| state.plain(definition));
        self.arbiter.snapshot(&mut state);
        let mut memory = Vec::new();
        self.decoder.snapshot(&mut memory);
        state.bytes(&memory);
        self.arbiter.snapshot_alike(&mut state);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let versions = [VERSION, VERSION_BEFORE, VERSION_OF_THIRTEEN];
        let (mut state, version) = StateReader::of_any(bytes, NAME, &versions)?;
        let is_of_thirteen = version == VERSION_OF_THIRTEEN;
        let channels = if is_of_thirteen { CHANNELS_BEFORE } else { state.length(0)? };
        state.set_channels(channels)?;
        let feed = state.u8()?;
        if feed != self.feed.number() {
            return Err(Error::invalid(format!(
                "expected the state of feed {}, got that of feed {feed}",
                self.feed.number()
            )));
        }
        let mut instruments = Instruments::new();
        for _ in 0..state.length(192)? {
            instruments.load(&state.plain()?)?;
        }
        let mut arbiter = Arbiter::new(self.feed, self.arbiter.hold_ns());
        arbiter.restore(&mut state)?;
        let memory = state.bytes()?;
        arbiter.restore_alike(&mut state, version != VERSION)?;
        state.finish()?;
        self.decoder.restore(memory)?;
        (self.instruments, self.arbiter) = (instruments, arbiter);
        Ok(())
    }
}
