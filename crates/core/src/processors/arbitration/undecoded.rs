//! Frames of which the ledger has to tell that they could not be decoded.
//!
//! A frame names its stream before anything else, and the notes of subscriptions say which symbol
//! and channel that is. Where another line may bring the same, only what no line brought whole is
//! lost: the same bytes failed on each. What is lost of a stream whose ids have no holes shows in
//! the next one; only where none comes is it told for itself. Of other streams it is told at once,
//! and lasts to the next event; of what says nothing of its stream, anything may have been in it.

use std::collections::{BTreeMap, VecDeque};

use super::event::Event;
use super::streams::{self, Stream, SEEN, UNDECODED};
use super::Arbiter;
use crate::error::Result;
use crate::instrument::Instruments;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{
    unpadded, Blob, BlobKind, Channel, GapCause, GapState, Marker, Plain, Records, Subscription,
};
use crate::sequencing::Rule;

/// So many frames of one stream are remembered until their copies come on the other lines. Where
/// more of them wait, they are lost.
const COPIES_MOST: usize = 64;
/// How long the next event of a stream with ids is waited for, on the arbiter's own clock, in ns.
const WAIT_NS: i64 = 10_000_000_000;
/// Notes of subscriptions hold so much of the name of a stream.
const NAME_BYTES: usize = 104;

/// A frame that failed on one line.
#[derive(Debug, Clone, Copy)]
struct Copy {
    hash: u64,
    connection: u16,
    ts_recv: i64,
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
    copies: BTreeMap<u32, VecDeque<Copy>>,
    /// By place of the stream.
    lost: BTreeMap<u32, Lost>,
}

impl Undecoded {
    /// The earliest moment at which something is to be told.
    pub fn deadline(&self) -> i64 {
        self.lost.values().map(|lost| lost.deadline).min().unwrap_or(i64::MAX)
    }

    /// Takes in what a stream is.
    pub fn learn(&mut self, bytes: &[u8]) {
        if let Some(known) = Subscription::read_from(bytes) {
            let (name, symbol) = (unpadded(&known.stream), unpadded(&known.symbol));
            self.names.insert(name.as_bytes().into(), (symbol.into(), known.channel));
        }
    }

    /// Whether the copy of a frame was the last that could have been whole. `others` are the other
    /// connections that carry its stream. Gives the receive time of the first copy if so.
    fn fails(&mut self, place: u32, copy: Copy, others: &[u16]) -> Option<i64> {
        if others.is_empty() {
            return Some(copy.ts_recv);
        }
        let copies = self.copies.entry(place).or_default();
        copies.push_back(copy);
        let of = |connection: u16| move |other: &&Copy| other.connection == connection;
        let same = |other: &&Copy| other.hash == copy.hash;
        let is_lost = others.iter().all(|&it| copies.iter().filter(same).any(|one| of(it)(&one)));
        if is_lost {
            let first = copies.iter().filter(same).map(|one| one.ts_recv).min();
            copies.retain(|other| other.hash != copy.hash);
            return first;
        }
        let oldest = if copies.len() > COPIES_MOST { copies.pop_front() } else { None };
        oldest.map(|copy| copy.ts_recv)
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
                state.i64(copy.ts_recv);
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
            let place = state.u32()?;
            let copies = found.copies.entry(place).or_default();
            for _ in 0..state.length(20)? {
                let (hash, connection) = (state.u64()?, state.u32()? as u16);
                copies.push_back(Copy { hash, connection, ts_recv: state.i64()? });
            }
        }
        for _ in 0..state.length(32)? {
            let (place, ts_start, ts_recv) = (state.u32()?, state.i64()?, state.i64()?);
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
        instruments: &Instruments,
        out: &mut Records,
    ) {
        let is_of_stream = [BlobKind::Text as u8, BlobKind::Binary as u8];
        if !is_of_stream.contains(&blob.header.kind) {
            // Answers are asked for again.
            return;
        }
        let place = self.place_of_frame(blob.body, instruments);
        let connection = blob.header.connection;
        let group = self.lines.line().group;
        let others: Vec<_> = self.lines.of(group).filter(|&it| it != connection).collect();
        let hash = (blob.body.len() as u64) << 32 | u64::from(crc32c::crc32c(blob.body));
        let copy = Copy { hash, connection, ts_recv: blob.header.ts_recv };
        let Some(ts_first) = self.undecoded.fails(place as u32, copy, &others) else { return };
        let (low, high) = self.streams.clock.range().unwrap_or((0, 0));
        let (ts_first, ts_last) =
            (ts_first.saturating_add(low), blob.header.ts_recv.saturating_add(high));
        let channel = (place % streams::CHANNELS) as u8;
        let rule = self.feed.rules.of(channel);
        if channel == Channel::None as u8 || matches!(rule, Rule::Free | Rule::Snapshot) {
            let mut gap = self.marker(place, GapCause::Decode, GapState::Closed);
            (gap.ts_start, gap.count) = (ts_first, count);
            (gap.header.ts_event, gap.header.ts_recv) = (ts_last, blob.header.ts_recv);
            out.push(&gap);
            self.counts.gap(channel);
            return;
        }
        if let Some(lost) = self.undecoded.lost.get_mut(&(place as u32)) {
            lost.count = lost.count.saturating_add(count);
            return;
        }
        let stream = self.streams.known(place);
        let is_seen = stream.state & SEEN != 0;
        let ts_start = if is_seen { stream.ts_last.min(ts_first) } else { ts_first };
        let deadline = self.elapsed.saturating_add(WAIT_NS);
        let lost = Lost { ts_start, ts_recv: blob.header.ts_recv, count, deadline };
        self.undecoded.lost.insert(place as u32, lost);
        self.streams.at(place).state |= UNDECODED;
        self.deadline = self.deadline.min(deadline);
        if rule != Rule::Contiguous {
            self.tell_undecoded(place, out);
        }
    }

    /// The stream that a frame says to be of: all channels and symbols where it does not.
    fn place_of_frame(&mut self, body: &[u8], instruments: &Instruments) -> usize {
        let name = self.feed.envelope.and_then(|envelope| envelope.stream_name(body));
        let noted = name.map(|name| &name[..name.len().min(NAME_BYTES)]);
        let known = noted.and_then(|name| self.undecoded.names.get(name));
        let Some((symbol, channel)) = known else { return 0 };
        let instrument = instruments.current(self.feed.number(), symbol).unwrap_or(0);
        let channel = *channel;
        self.streams.place(instrument, channel)
    }

    /// Tells what is lost of a stream, which goes on to be so until an event of it comes.
    fn tell_undecoded(&mut self, place: usize, out: &mut Records) {
        let mut gap = self.marker(place, GapCause::Decode, GapState::Open);
        let Some(lost) = self.undecoded.lost.get_mut(&(place as u32)) else { return };
        lost.deadline = i64::MAX;
        (gap.ts_start, gap.count) = (lost.ts_start, lost.count);
        gap.header.ts_event = lost.ts_recv.max(lost.ts_start);
        gap.header.ts_recv = lost.ts_recv;
        out.push(&gap);
        self.counts.gap((place % streams::CHANNELS) as u8);
    }

    /// Tells what is due by now; with `all`, as nothing more comes, all.
    #[cold]
    pub(super) fn tell_all_undecoded(&mut self, all: bool, out: &mut Records) {
        let now = self.elapsed;
        let due = |lost: &Lost| lost.deadline != i64::MAX && (all || lost.deadline <= now);
        let places: Vec<_> = self.undecoded.lost.iter().filter(|it| due(it.1)).collect();
        let places: Vec<_> = places.into_iter().map(|(&place, _)| place as usize).collect();
        places.into_iter().for_each(|place| self.tell_undecoded(place, out));
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
        if lost.deadline != i64::MAX {
            return;
        }
        let is_shown = event.rule == Rule::Contiguous && before.state & SEEN != 0;
        let state = if is_shown { GapState::Repaired } else { GapState::Closed };
        let mut gap: Marker = self.marker(place, GapCause::Decode, state);
        (gap.ts_start, gap.count) = (lost.ts_start, lost.count);
        gap.header.ts_event = event.ts_event.max(lost.ts_start);
        gap.header.ts_recv = event.ts_recv;
        gap.header.sequence = event.sequence;
        out.push(&gap);
    }
}
