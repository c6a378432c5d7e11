//! Trades that the venue's history gave, beside those that came live: each is passed on once.

use super::event::Event;
use super::streams::{self, Streams, Verdict, HISTORY, MISSING, SEEN};
use super::Arbiter;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Channel, GapState, Marker, MarkerCode};
use crate::sequencing::Rule;

impl Streams {
    /// A trade from before all that was seen live: new unless it came before.
    pub(super) fn judge_early(&mut self, place: usize, sequence: u64) -> Verdict {
        let history = &mut self.trouble(place).history;
        if history.contains(sequence) {
            return Verdict::Duplicate;
        }
        history.insert(sequence, sequence);
        Verdict::Early
    }

    pub(super) fn judge_history(&mut self, place: usize, event: &Event) -> Verdict {
        let stream = *self.at(place);
        if !event.is_trade() {
            return Verdict::Pass;
        }
        if stream.state & SEEN == 0 {
            self.at(place).state |= HISTORY;
        } else if event.sequence >= stream.first {
            if stream.state & MISSING != 0 && self.trouble(place).missing.contains(event.sequence) {
                return self.fill(place, event.sequence);
            }
            // Either passed on already, or still to come live.
            return Verdict::Duplicate;
        }
        match self.judge_early(place, event.sequence) {
            Verdict::Early => Verdict::Pass,
            other => other,
        }
    }

    /// Whether all of `first` to `last` were passed on, of a gap that ended at `ts_end`. Where that
    /// is not known any more, the answer is no.
    pub(super) fn has_all(&self, place: usize, (first, last): (u64, u64), ts_end: i64) -> bool {
        let stream = self.known(place);
        let Some(trouble) = self.troubled(place) else { return false };
        if ts_end <= trouble.ts_reset {
            return false;
        }
        if stream.state & SEEN == 0 || last < stream.first {
            return trouble.history.covers(first, last);
        }
        let is_within = stream.first <= first && first <= last && last < stream.last;
        is_within && !trouble.missing.may_touch(first, last)
    }

    /// Writes to the end of a snapshot what of gaps is not known any more.
    pub(super) fn write_forgotten(&self, state: &mut StateWriter<'_>) {
        let some = || self.troubles().filter(|(_, trouble)| trouble.has_forgotten());
        state.length(some().count());
        for (place, trouble) in some() {
            state.u32(place);
            trouble.write_forgotten(state);
        }
    }

    /// Reads what [`Streams::write_forgotten`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read_forgotten(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        for _ in 0..state.length(28)? {
            let place = state.place()? as usize;
            self.trouble(place).read_forgotten(state)?;
        }
        Ok(())
    }

    /// Whether [`Streams::write_forgotten`] has something to write.
    pub(super) fn has_forgotten(&self) -> bool {
        self.troubles().any(|(_, trouble)| trouble.has_forgotten())
    }

    /// Whether the live event `sequence` was passed on as history before.
    pub(super) fn is_known_history(&mut self, place: usize, sequence: u64) -> bool {
        let history = &self.trouble(place).history;
        let (known, highest) = (history.contains(sequence), history.highest());
        if highest.is_none_or(|highest| highest <= sequence) {
            self.at(place).state &= !HISTORY;
        }
        known
    }
}

impl Arbiter {
    /// Whether a marker may say what it says: that a gap was filled only where all numbers that it
    /// lacked were passed on, as far as its stream is one that counts.
    pub fn is_true(&self, marker: &Marker) -> bool {
        const CHANNELS: [u8; 2] = [Channel::Trade as u8, Channel::AggTrade as u8];
        let is_repair = marker.code == MarkerCode::Gap as u8
            && marker.state == GapState::Repaired as u8
            && marker.last > 0;
        let counts = self.feed.rules.of(marker.channel) == Rule::Contiguous;
        if !is_repair || !counts || !CHANNELS.contains(&marker.channel) {
            return true;
        }
        let header = &marker.header;
        let place = header.instrument as usize * streams::CHANNELS + marker.channel as usize;
        self.streams.has_all(place, (marker.first, marker.last), header.ts_event)
    }
}
