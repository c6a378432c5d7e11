//! Which streams spoke, where only decoded events tell: those of arrays of many instruments.
//!
//! Events are counted as they are decoded, by the connection that brought them and before line
//! arbitration: a copy that is dropped shows that its line is alive. What an earlier run left on
//! the raw tape shows nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::Heard;
use super::Ingest;
use crate::error::Result;
use crate::feeds::{Descriptor, Feed, Rejected};
use crate::instrument::{FastHash, Instruments};
use crate::processors::arbitration::event::Event;
use crate::record::{unpadded, Blob, BlobKind, Channel, Records};
use crate::sequencing::Rules;

/// What was heard since it was last asked for. It is shared with the decoder.
#[derive(Debug, Clone)]
pub(super) struct Hearing(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// What was received before is not heard.
    since: i64,
    heard: HashMap<(u16, u32, u8), Heard, FastHash>,
}

impl Hearing {
    /// Puts an ear to `decoder`, if the events of `feed` tell which streams spoke.
    pub(super) fn of(feed: Descriptor, decoder: Box<dyn Feed>) -> (Option<Self>, Box<dyn Feed>) {
        if !feed.framing.counts_events() {
            return (None, decoder);
        }
        let hearing =
            Self(Arc::new(Mutex::new(Table { since: i64::MAX, heard: HashMap::default() })));
        let ear = Ear { decoder, rules: feed.rules, hearing: hearing.clone() };
        (Some(hearing), Box::new(ear))
    }

    /// Hears what is received from `ts` on.
    pub(super) fn begin(&self, ts: i64) {
        self.table().since = ts;
    }

    fn take(&self) -> Vec<Heard> {
        let mut heard: Vec<_> = self.table().heard.drain().map(|(_, heard)| heard).collect();
        heard.sort_unstable_by_key(|h| (h.ts_first, h.connection, h.instrument, h.channel));
        heard
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Counts are right up to wherever a panic was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A decoder whose events are heard.
struct Ear {
    decoder: Box<dyn Feed>,
    rules: Rules,
    hearing: Hearing,
}

impl Ear {
    fn hear(&self, blob: &Blob<'_>, mut events: &[u8]) {
        let is_frame = [BlobKind::Text as u8, BlobKind::Binary as u8].contains(&blob.header.kind);
        let mut table = self.hearing.table();
        if !is_frame || blob.header.ts_recv < table.since {
            return;
        }
        let (connection, ts) = (blob.header.connection, blob.header.ts_recv);
        while let Some(event) = Event::read(events, &self.rules) {
            events = &events[event.length..];
            let Event { instrument, channel, .. } = event;
            if channel == Channel::None as u8 {
                continue;
            }
            let heard = table.heard.entry((connection, instrument, channel)).or_insert(Heard {
                connection,
                channel,
                instrument,
                count: 0,
                ts_first: ts,
                ts_last: ts,
            });
            heard.count += 1;
            heard.ts_last = ts;
        }
    }
}

impl Feed for Ear {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let start = out.mark().0;
        let rejected = self.decoder.receive(blob, instruments, out)?;
        self.hear(blob, &out.as_bytes()[start..]);
        Ok(rejected)
    }

    fn settle(
        &mut self,
        ts_recv: i64,
        is_over: bool,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        self.decoder.settle(ts_recv, is_over, instruments, out)
    }

    fn lose(&mut self) {
        self.decoder.lose();
    }

    fn tells_news(&self, blob: &Blob<'_>) -> bool {
        self.decoder.tells_news(blob)
    }

    fn venue_time(&self) -> Option<i64> {
        self.decoder.venue_time()
    }

    fn encode(
        &mut self,
        event: &Records,
        instruments: &Instruments,
        combined: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.decoder.encode(event, instruments, combined, out)
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        self.decoder.snapshot(out);
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.decoder.restore(state)
    }
}

impl Ingest {
    /// Whether it is known which streams spoke. Where only decoded events tell, it is not while
    /// frames wait for a tape, or are not normalised: silence then says nothing.
    pub const fn is_hearing(&self) -> bool {
        self.hearing.is_none() || (self.normalized.is_some() && self.failure.is_none())
    }

    /// Takes in which streams spoke by the events that were decoded since the last call.
    pub(super) fn hear_events(&mut self) -> Result<()> {
        let Some(hearing) = &self.hearing else { return Ok(()) };
        for heard in hearing.take() {
            let instruments = self.normalized.as_ref().and_then(|n| n.stage.instruments());
            let definition = instruments.and_then(|known| known.get(heard.instrument));
            let symbol = definition.map_or("", |definition| unpadded(&definition.symbol));
            let places = self.activity.heard_events(&heard, symbol).to_vec();
            let connection = heard.connection;
            // What was noted since may be later than the frame.
            let ts = heard.ts_last.max(self.pending.ts_last());
            for place in places {
                let stream = &self.activity.streams(connection)[place];
                if stream.frames == heard.count {
                    self.subscriptions.hear(connection, stream);
                    self.note_subscriptions(ts)?;
                }
                if !self.silences.is_empty() {
                    let name = self.activity.streams(connection)[place].name.clone();
                    self.end_silence(connection, name.as_bytes(), ts)?;
                }
            }
        }
        Ok(())
    }
}
