//! Frames of which the ledger has to tell that they could not be decoded, and events that were set
//! aside and proved to be wrong.
//!
//! A frame names its stream before anything else, and the notes of subscriptions say which symbol
//! and channel that is. Where another line may bring the same, only what no line brought whole is
//! lost: the same bytes failed on each. What is lost of a stream whose ids have no holes shows in
//! the next one; only where none comes is it told for itself. Of other streams it is told at once,
//! and lasts to the next event; of what says nothing of its stream, anything may have been in it.

use std::collections::{BTreeMap, VecDeque};

use super::event::Event;
use super::lines::Lines;
use super::streams::{self, Stream, SEEN, UNDECODED};
use super::Arbiter;
use crate::error::Result;
use crate::feeds::Glance;
use crate::instrument::Instruments;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{
    unpadded, Blob, BlobKind, GapCause, GapState, Marker, Plain, Records, Subscription,
};
use crate::sequencing::Rule;

/// So many frames of one stream are remembered until their copies come on the other lines.
const COPIES_MOST: usize = 256;
/// How long the next event of a stream with ids is waited for, on the arbiter's own clock, in ns.
const WAIT_NS: i64 = 10_000_000_000;
/// A line that speaks so much later than another, in ns, has brought what the other had.
const LAG_NS: i64 = 2_000_000_000;
/// Notes of subscriptions hold so much of the name of a stream.
const NAME_BYTES: usize = 104;

/// A frame that failed on one line, while others that carry the same were open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FailedCopy {
    hash: u64,
    connection: u16,
    group: u16,
    ts_recv: i64,
    /// When it came, on the arbiter's own clock.
    elapsed: i64,
    /// Events that it held.
    count: u32,
}

/// Frames of one stream that are lost, since its last event.
#[derive(Debug, Clone, Copy)]
struct Lost {
    ts_start: i64,
    ts_recv: i64,
    count: u32,
    /// When it is told, on the arbiter's own clock; `i64::MAX` if it was.
    deadline: i64,
}

/// What is known of streams by their names, and what of them could not be decoded.
#[derive(Debug, Default)]
pub struct Undecoded {
    /// Symbol and channel by the name of the stream. Only sessions name streams.
    names: BTreeMap<Box<[u8]>, (Box<str>, u8)>,
    /// By place of the stream.
    copies: BTreeMap<u32, VecDeque<FailedCopy>>,
    /// By place of the stream.
    lost: BTreeMap<u32, Lost>,
}

impl Undecoded {
    /// The earliest moment at which something is to be told.
    pub fn deadline(&self) -> i64 {
        self.lost.values().map(|lost| lost.deadline).min().unwrap_or(i64::MAX)
    }

    /// Takes in what a stream is, if `bytes` are the note of a subscription.
    pub fn note_subscription(&mut self, bytes: &[u8]) {
        if let Some(known) = Subscription::read_from(bytes) {
            let (name, symbol) = (unpadded(&known.stream), unpadded(&known.symbol));
            self.names.insert(name.as_bytes().into(), (symbol.into(), known.channel));
        }
    }

    /// Takes in a copy that failed.
    fn add(&mut self, place: u32, copy: FailedCopy) {
        self.copies.entry(place).or_default().push_back(copy);
    }

    /// Forgets the copies whose frames another line has brought by now, as it went on since.
    pub fn forget_healed(&mut self, lines: &Lines) {
        for copies in self.copies.values_mut() {
            let every = copies.clone();
            copies.retain(|copy| !is_healed(copy, &every, lines, LAG_NS));
        }
        self.copies.retain(|_, copies| !copies.is_empty());
    }

    /// Takes out the frames that no line can bring whole any more: each failed on all that are
    /// open. Gives the place of each, its first copy, and when the last one came.
    fn take_lost(&mut self, lines: &Lines) -> Vec<(u32, FailedCopy, i64)> {
        let mut lost = Vec::new();
        for (&place, copies) in &mut self.copies {
            while let Some(&first) = copies.iter().find(|copy| is_lost(copy, copies, lines)) {
                let same = copies.iter().filter(|copy| copy.hash == first.hash);
                let ts_last = same.map(|copy| copy.ts_recv).max().unwrap_or(first.ts_recv);
                copies.retain(|copy| copy.hash != first.hash);
                lost.push((place, first, ts_last));
            }
            while copies.len() > COPIES_MOST {
                let Some(oldest) = copies.pop_front() else { break };
                if !is_healed(&oldest, copies, lines, 1) {
                    lost.push((place, oldest, oldest.ts_recv));
                }
            }
        }
        self.copies.retain(|_, copies| !copies.is_empty());
        lost
    }

    /// Writes all to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.names.len());
        for (name, (symbol, channel)) in &self.names {
            state.bytes(name);
            state.bytes(symbol.as_bytes());
            state.u8(*channel);
        }
        state.length(self.copies.len());
        for (&place, copies) in &self.copies {
            state.u32(place);
            state.length(copies.len());
            for copy in copies {
                state.u64(copy.hash);
                state.u32(u32::from(copy.connection));
                state.u32(u32::from(copy.group));
                state.i64(copy.ts_recv);
                state.i64(copy.elapsed);
                state.u32(copy.count);
            }
        }
        state.length(self.lost.len());
        for (&place, lost) in &self.lost {
            state.u32(place);
            state.i64(lost.ts_start);
            state.i64(lost.ts_recv);
            state.u32(lost.count);
            state.i64(lost.deadline);
        }
    }

    /// Reads all from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut found = Self::default();
        for _ in 0..state.length(17)? {
            let name = state.bytes()?.into();
            let symbol = String::from_utf8_lossy(state.bytes()?).into();
            found.names.insert(name, (symbol, state.u8()?));
        }
        for _ in 0..state.length(12)? {
            let place = state.place()?;
            let copies = found.copies.entry(place).or_default();
            for _ in 0..state.length(36)? {
                copies.push_back(FailedCopy {
                    hash: state.u64()?,
                    connection: state.u32()? as u16,
                    group: state.u32()? as u16,
                    ts_recv: state.i64()?,
                    elapsed: state.i64()?,
                    count: state.u32()?,
                });
            }
        }
        for _ in 0..state.length(32)? {
            let (place, ts_start, ts_recv) = (state.place()?, state.i64()?, state.i64()?);
            let (count, deadline) = (state.u32()?, state.i64()?);
            found.lost.insert(place, Lost { ts_start, ts_recv, count, deadline });
        }
        Ok(found)
    }
}

impl Arbiter {
    /// Takes in that a frame could not be decoded, of which `count` events are lost.
    #[cold]
    pub fn cannot_decode(
        &mut self,
        blob: &Blob<'_>,
        count: u32,
        instruments: &mut Instruments,
        out: &mut Records,
    ) {
        let is_of_stream = [BlobKind::Text as u8, BlobKind::Binary as u8];
        if !is_of_stream.contains(&blob.header.kind) {
            // Answers are asked for again.
            return;
        }
        let place = self.place_of_frame(blob, instruments);
        // Its definition comes before the first record that uses it.
        instruments.take_changed(out);
        let copy = FailedCopy {
            hash: (blob.body.len() as u64) << 32 | u64::from(crc32c::crc32c(blob.body)),
            connection: blob.header.connection,
            group: self.lines.line().group,
            ts_recv: blob.header.ts_recv,
            elapsed: self.elapsed,
            count,
        };
        self.undecoded.forget_healed(&self.lines);
        self.undecoded.add(place as u32, copy);
        self.lose_undecoded(out);
    }

    /// Takes in which frames no line can bring whole any more.
    #[cold]
    pub(super) fn lose_undecoded(&mut self, out: &mut Records) {
        for (place, first, ts_last) in self.undecoded.take_lost(&self.lines) {
            let stream = self.streams.known(place as usize);
            let received = (first.ts_recv, ts_last);
            self.lose(place as usize, &stream, received, first.count, out);
        }
    }

    /// An event that was set aside became a dead letter: it is lost where numbers do not show it,
    /// unless one of its number was passed on. `before` is the stream as it stood until then.
    #[cold]
    pub(super) fn lose_event(
        &mut self,
        place: usize,
        before: &Stream,
        event: &Event,
        out: &mut Records,
    ) {
        let is_lost = match event.rule {
            Rule::Free | Rule::Alike | Rule::Window => true,
            Rule::Rising => !self.streams.is_recalled(place, event.sequence),
            // Its number shows it, or it is asked for again.
            Rule::Contiguous | Rule::Snapshot => false,
        };
        if is_lost && event.is_live {
            self.lose(place, before, (event.ts_recv, event.ts_recv), 1, out);
        }
    }

    /// Declares `count` events of a stream lost that were `received` between two times, or notes
    /// that they are until its next event shows it. `stream` is where it stood until then.
    fn lose(
        &mut self,
        place: usize,
        stream: &Stream,
        received: (i64, i64),
        count: u32,
        out: &mut Records,
    ) {
        let (low, high) = self.venue_range().unwrap_or((0, 0));
        let channel = (place % streams::CHANNELS) as u8;
        let ts_first = self.lateness.earliest(channel, received.0, low);
        let ts_recv = received.1;
        let ts_last = ts_recv.saturating_add(self.lateness.high(channel, high));
        let rule = self.feed.rules.of(channel);
        // No event ends what is lost of a stream of many, or of one whose events say nothing of it.
        let is_of_many = place < streams::CHANNELS;
        if is_of_many || matches!(rule, Rule::Free | Rule::Snapshot) {
            let mut gap = self.marker(place, GapCause::Decode, GapState::Closed);
            (gap.ts_start, gap.count) = (ts_first, count);
            (gap.header.ts_event, gap.header.ts_recv) = (ts_last, ts_recv);
            out.push(&gap);
            self.counts.gap(channel);
            return;
        }
        if let Some(lost) = self.undecoded.lost.get_mut(&(place as u32)) {
            lost.count = lost.count.saturating_add(count);
            return;
        }
        let is_seen = stream.state & SEEN != 0;
        let ts_start = if is_seen { stream.ts_last.min(ts_first) } else { ts_first };
        let deadline = self.elapsed.saturating_add(WAIT_NS);
        let lost = Lost { ts_start, ts_recv, count, deadline };
        self.undecoded.lost.insert(place as u32, lost);
        self.streams.at(place).state |= UNDECODED;
        self.deadline = self.deadline.min(deadline);
        if rule != Rule::Contiguous {
            self.declare_undecoded(place, out);
        }
    }

    /// The stream that a frame says to be of: all channels and symbols where it does not.
    fn place_of_frame(&mut self, blob: &Blob<'_>, instruments: &mut Instruments) -> usize {
        let Glance::Stream(name) = self.feed.framing.glance(blob.body) else { return 0 };
        let noted = &name[..name.len().min(NAME_BYTES)];
        let Some((symbol, channel)) = self.undecoded.names.get(noted) else { return 0 };
        let known = instruments.current(self.feed.number(), symbol);
        let instrument = known.or_else(|| {
            let ts = blob.header.ts_recv;
            (!symbol.is_empty()).then(|| instruments.define(self.feed.number(), symbol, ts).ok())?
        });
        let channel = *channel;
        self.streams.place(instrument.unwrap_or(0), channel)
    }

    /// Declares what is lost of a stream, which goes on to be so until an event of it comes.
    fn declare_undecoded(&mut self, place: usize, out: &mut Records) {
        let mut gap = self.marker(place, GapCause::Decode, GapState::Open);
        let Some(lost) = self.undecoded.lost.get_mut(&(place as u32)) else { return };
        lost.deadline = i64::MAX;
        (gap.ts_start, gap.count) = (lost.ts_start, lost.count);
        gap.header.ts_event = lost.ts_recv.max(lost.ts_start);
        gap.header.ts_recv = lost.ts_recv;
        out.push(&gap);
        self.counts.gap((place % streams::CHANNELS) as u8);
    }

    /// Declares what is due by now; with `all`, as nothing more comes, all.
    #[cold]
    pub(super) fn declare_due_undecoded(&mut self, all: bool, out: &mut Records) {
        let now = self.elapsed;
        let due = |lost: &Lost| lost.deadline != i64::MAX && (all || lost.deadline <= now);
        let places: Vec<_> = self.undecoded.lost.iter().filter(|it| due(it.1)).collect();
        let places: Vec<_> = places.into_iter().map(|(&place, _)| place as usize).collect();
        places.into_iter().for_each(|place| self.declare_undecoded(place, out));
    }

    /// An event of a stream of which frames were lost: where its ids have no holes, it shows by
    /// itself what is missing, and what was told before is made good by that. `before` is the
    /// stream as it stood until then.
    #[cold]
    pub(super) fn end_undecoded(
        &mut self,
        place: usize,
        before: &Stream,
        event: &Event,
        out: &mut Records,
    ) {
        self.streams.at(place).state &= !UNDECODED;
        let Some(lost) = self.undecoded.lost.remove(&(place as u32)) else { return };
        let is_shown = event.rule == Rule::Contiguous && before.state & SEEN != 0;
        if is_shown && lost.deadline != i64::MAX {
            return;
        }
        let state = if is_shown { GapState::Repaired } else { GapState::Closed };
        let mut gap: Marker = self.marker(place, GapCause::Decode, state);
        (gap.ts_start, gap.count) = (lost.ts_start, lost.count);
        gap.header.ts_event = event.ts_event.max(lost.ts_start);
        gap.header.ts_recv = event.ts_recv;
        gap.header.sequence = event.sequence;
        out.push(&gap);
    }
}

/// Whether a line has not failed on the frame of `copy`.
fn is_open_for(copy: &FailedCopy, copies: &VecDeque<FailedCopy>, connection: u16) -> bool {
    !copies.iter().any(|other| other.hash == copy.hash && other.connection == connection)
}

/// Whether another line has brought the frame whole: it spoke `lag` later, and did not fail on it.
fn is_healed(copy: &FailedCopy, copies: &VecDeque<FailedCopy>, lines: &Lines, lag: i64) -> bool {
    lines
        .beside(copy.group, copy.connection, copy.elapsed)
        .any(|(it, heard)| heard >= copy.elapsed + lag && is_open_for(copy, copies, it))
}

/// Whether no line can bring the frame whole any more.
fn is_lost(copy: &FailedCopy, copies: &VecDeque<FailedCopy>, lines: &Lines) -> bool {
    !lines
        .beside(copy.group, copy.connection, copy.elapsed)
        .any(|(it, _)| is_open_for(copy, copies, it))
}
