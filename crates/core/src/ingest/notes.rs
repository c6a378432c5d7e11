//! What the recorder itself has to say: markers that go onto the raw tape among the frames.

use super::{Ingest, NO_CONNECTION};
use crate::clock::ClockStep;
use crate::error::Result;
use crate::record::{
    topic_number, unpadded, Alert, Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain,
    DELAY_OF_CHANNEL, FLAG_RECV_SUSPECT, NONE, SESSION_ENDS,
};

/// A gap in trades or quotes whose extent is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedGap {
    /// The venue's symbol.
    pub symbol: String,
    /// Which of its streams.
    pub channel: Channel,
    /// Why.
    pub cause: GapCause,
    /// First and last of the numbers that are missing; 0 where there are none.
    pub ids: (u64, u64),
    /// Times of the last event before it and the first behind it, by the venue, in ns.
    pub times: (i64, i64),
    /// Number of the first event behind it; 0 where it has none.
    pub behind: u64,
}

impl Ingest {
    /// Notes that `connection` opened. Connections of one `group` carry the same streams.
    ///
    /// # Errors
    /// None in practice: a marker fits into any blob.
    pub fn connected(&mut self, connection: u16, group: u16, ts: i64) -> Result<()> {
        self.subscriptions.connect(connection, group);
        let mut marker = self.marker(MarkerCode::Connected, ts);
        marker.first = u64::from(connection);
        marker.last = u64::from(group);
        self.pending.push_records(connection, ts, marker.as_bytes())
    }

    /// Notes that the recorder starts: it counts as a connection. `ts_start` of the marker says
    /// what the tape received last before: the end of a recorder that was killed.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub(super) fn begin_session(&mut self, ts: i64) -> Result<()> {
        let mut marker = self.marker(MarkerCode::Connected, ts);
        marker.first = u64::from(NO_CONNECTION);
        marker.last = u64::from(NO_CONNECTION);
        marker.ts_start = self.raw.last_ts_recv().unwrap_or(NONE);
        self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())
    }

    /// Notes that this recorder notes what it subscribes: what it does not note, it did not; and of
    /// which channels, by name, the venue tells what happened so many seconds later than of others.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn begin_subscriptions(&mut self, ts: i64, late: &[(String, f64)]) -> Result<()> {
        for (name, seconds) in late {
            let Some(channel) = Channel::NAMES.iter().position(|known| known == name) else {
                continue;
            };
            let mut marker = self.marker(MarkerCode::Delay, ts);
            (marker.channel, marker.state) = (channel as u8, DELAY_OF_CHANNEL + channel as u8);
            marker.first = (seconds.max(0.0) * 1e9) as u64;
            marker.last = marker.first;
            self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())?;
        }
        let mut marker = self.marker(MarkerCode::Subscribed, ts);
        (marker.first, marker.last) = (u64::from(NO_CONNECTION), u64::from(NO_CONNECTION));
        self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())
    }

    /// Notes that the venue answered for all streams that are watched on `connection`, and refused
    /// those that are `refused`.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn subscribed(&mut self, connection: u16, refused: &[String], ts: i64) -> Result<()> {
        let streams = self.activity.streams(connection);
        let (line, carried) = self.subscriptions.settle(connection, streams, refused);
        self.note_subscriptions(ts)?;
        let mut marker = self.marker(MarkerCode::Subscribed, ts);
        (marker.first, marker.last) = (u64::from(connection), u64::from(line));
        marker.count = carried;
        self.pending.push_records(connection, ts, marker.as_bytes())
    }

    /// Notes what changed of the streams, unless so much waits that no record is taken: then later.
    #[cold]
    pub(super) fn note_subscriptions(&mut self, ts: i64) -> Result<()> {
        if !self.subscriptions.has_changed() || !self.pending.takes_records() {
            return Ok(());
        }
        let (feed, mut records) = (self.config.feed.number(), Vec::new());
        self.subscriptions.take_changes(feed, self.pending.suspect, ts, &mut records);
        if records.is_empty() {
            return Ok(());
        }
        self.pending.push_records(NO_CONNECTION, ts, &records)
    }

    /// Notes that `connection` ended, and forgets its streams. With `stops`, the recorder closed it
    /// because it stops: what comes later is not lost, it was not to be recorded.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn disconnected(&mut self, connection: u16, ts: i64, stops: bool) -> Result<()> {
        self.activity.forget(connection);
        let mut marker = self.marker(MarkerCode::Disconnected, ts);
        marker.first = u64::from(connection);
        marker.state = if stops { SESSION_ENDS } else { 0 };
        self.pending.push_records(connection, ts, marker.as_bytes())?;
        self.subscriptions.disconnect(connection);
        self.note_subscriptions(ts)
    }

    /// Notes that time passed.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn heartbeat(&mut self, ts: i64) -> Result<()> {
        if self.config.ts_first.is_none() {
            self.look_at_clock()?;
        }
        // What the look noted is later than `ts`.
        let ts = ts.max(self.pending.ts_last());
        self.note_subscriptions(ts)?;
        let marker = self.marker(MarkerCode::Heartbeat, ts);
        self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())
    }

    /// Notes that the recorder stops in good order.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn end_session(&mut self, ts: i64) -> Result<()> {
        let marker = self.marker(MarkerCode::EndOfSession, ts);
        self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())
    }

    /// Notes that `connection` carried nothing at all since `ts_start`.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn silent_connection(&mut self, connection: u16, ts_start: i64, ts: i64) -> Result<()> {
        let mut marker = self.marker(MarkerCode::Gap, ts);
        marker.cause = GapCause::Silence as u8;
        marker.state = GapState::Closed as u8;
        marker.count = u32::MAX;
        marker.first = u64::from(connection);
        marker.ts_start = ts_start;
        self.pending.push_records(connection, ts, marker.as_bytes())
    }

    /// Notes that items `first` to `last` of the tape `topic`, received between `ts_start` and
    /// `ts_end`, are lost: retention took them before a reader had, or a repair gave them up. A
    /// time of `i64::MIN` is not known.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn lost(
        &mut self,
        cause: GapCause,
        topic: &str,
        (first, last): (u64, u64),
        (ts_start, ts_end): (i64, i64),
        ts: i64,
    ) -> Result<()> {
        let known = |ts: i64| if ts == i64::MIN { NONE } else { ts };
        let mut marker = self.marker(MarkerCode::Gap, ts);
        marker.header.ts_event = known(ts_end);
        marker.header.sequence = topic_number(topic);
        marker.cause = cause as u8;
        marker.state = GapState::Closed as u8;
        marker.count = u32::try_from(last - first + 1).unwrap_or(u32::MAX - 1);
        (marker.first, marker.last) = (first, last);
        marker.ts_start = known(ts_start);
        self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())
    }

    /// Notes that a gap of the ledger was filled from the venue's history: the one of that channel
    /// of `symbol` and that cause, of the ids `first` to `last` (0 where it has none), between the
    /// times `ts_start` and `ts_end` of the venue. Says whether it was: nothing is noted where not
    /// all numbers that are missing are on the tape, or that is not known any more.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn repaired(
        &mut self,
        (symbol, channel): (&str, Channel),
        cause: GapCause,
        (first, last): (u64, u64),
        (ts_start, ts_end): (i64, i64),
        ts: i64,
    ) -> Result<bool> {
        let Some(instrument) = self.instrument(symbol) else { return Ok(false) };
        let mut marker = self.marker(MarkerCode::Gap, ts);
        (marker.header.instrument, marker.header.ts_event) = (instrument, ts_end);
        (marker.cause, marker.state) = (cause as u8, GapState::Repaired as u8);
        marker.channel = channel as u8;
        marker.count = match last.checked_sub(first) {
            Some(more) if last > 0 => u32::try_from(more.saturating_add(1)).unwrap_or(u32::MAX - 1),
            _ => u32::MAX,
        };
        (marker.first, marker.last) = (first, last);
        marker.ts_start = ts_start;
        // Where an answer waits for the tape, the normaliser decides once it has seen it.
        let is_written = self.pending.blobs().is_empty();
        let stage = self.normalizer().filter(|_| is_written);
        if stage.is_some_and(|stage| !stage.is_true(&marker)) {
            return Ok(false);
        }
        self.pending.push_records(NO_CONNECTION, ts, marker.as_bytes())?;
        Ok(true)
    }

    /// The gaps of trades and quotes that ended since the last call, as far as they are remembered.
    pub fn take_gaps(&mut self) -> Vec<EndedGap> {
        let Some(normalized) = &mut self.normalized else { return Vec::new() };
        let gaps = std::mem::take(&mut normalized.gaps);
        let Some(instruments) = normalized.stage.instruments() else { return Vec::new() };
        let named = gaps.iter().filter_map(|gap| {
            let symbol = unpadded(&instruments.get(gap.header.instrument)?.symbol).to_owned();
            let channel = Channel::try_from(gap.channel).ok()?;
            let cause = GapCause::try_from(gap.cause).ok()?;
            Some(EndedGap {
                symbol,
                channel,
                cause,
                ids: (gap.first, gap.last),
                times: (gap.ts_start, gap.header.ts_event),
                behind: gap.header.sequence,
            })
        });
        named.collect()
    }

    /// Notes what the host measured, or that somebody has seen an alert. Says whether it was taken:
    /// while so much waits for the tape that no record is, it is to be told again.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn note_alert(&mut self, note: &Alert, ts: i64) -> Result<bool> {
        if !self.pending.takes_records() {
            return Ok(false);
        }
        let mut note = *note;
        note.header.feed = self.config.feed.number();
        (note.header.ts_event, note.header.ts_recv) = (ts, ts);
        self.pending.push_records(NO_CONNECTION, ts, note.as_bytes())?;
        Ok(true)
    }

    /// Compares the receive times with the wall clock, and notes what is wrong.
    pub(super) fn look_at_clock(&mut self) -> Result<()> {
        let Some(step) = self.clock.look() else { return Ok(()) };
        self.activity.shift(step.moved);
        self.clock_steps.push(step);
        self.clock_step(step)
    }

    /// Notes that the clock by which frames were received stepped. Says whether the receive times
    /// from here on are suspect, as [`Ingest::doubt`] does.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn clock_step(&mut self, step: ClockStep) -> Result<()> {
        self.doubt(step.suspect);
        let mut marker = self.marker(MarkerCode::ClockStep, step.ts);
        marker.state = if step.suspect { 1 } else { 2 };
        marker.first = step.ts.saturating_sub(step.moved) as u64;
        marker.last = step.wall as u64;
        self.pending.push_records(NO_CONNECTION, step.ts, marker.as_bytes())
    }

    /// Says whether the receive times of what is received from here on are suspect.
    pub fn doubt(&mut self, suspect: bool) {
        self.pending.suspect = suspect;
    }

    pub(super) fn marker(&self, code: MarkerCode, ts: i64) -> Marker {
        Marker {
            header: Header {
                feed: self.config.feed.number(),
                flags: if self.pending.suspect { FLAG_RECV_SUSPECT } else { 0 },
                ts_event: ts,
                ts_recv: ts,
                ..Header::of::<Marker>()
            },
            code: code as u8,
            cause: 0,
            state: 0,
            channel: Channel::Session as u8,
            count: 0,
            first: 0,
            last: 0,
            ts_start: NONE,
        }
    }
}
