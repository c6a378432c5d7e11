//! Streams that should speak and do not: open gaps, which end when they speak.

use super::activity::Stream;
use super::Ingest;
use crate::error::Result;
use crate::record::{GapCause, GapState, Marker, MarkerCode, Plain};

/// A stream that should speak and does not.
#[derive(Debug)]
pub(super) struct Silence {
    stream: Stream,
    /// The instruments that it is about.
    instruments: Vec<u32>,
    ts_start: i64,
}

impl Ingest {
    /// Notes that the stream `name` of `connection` should have spoken by now. The gap begins with
    /// its last message, or at `since` if this connection carried none or `is_exact` says that it
    /// need not have spoken before, and is open until the stream speaks, on whatever connection.
    /// A gap that is open already is not noted again, nor is one of a symbol that is not defined.
    /// A stream of all symbols has a gap for each of those that it brought on this connection.
    ///
    /// # Errors
    /// As [`Ingest::connected`].
    pub fn silent_stream(
        &mut self,
        connection: u16,
        name: &str,
        ts: i64,
        since: i64,
        is_exact: bool,
    ) -> Result<()> {
        let Some(stream) = self.activity.stream(connection, name).cloned() else {
            return Ok(());
        };
        if self.silences.iter().any(|silence| silence.stream.name == name) || !self.is_hearing() {
            return Ok(());
        }
        let instruments = if stream.symbol.is_empty() {
            self.activity.instruments(connection, name)
        } else {
            self.instrument(&stream.symbol).into_iter().collect()
        };
        if instruments.is_empty() {
            return Ok(());
        }
        let ts_start = if stream.frames > 0 && !is_exact { stream.ts_last } else { since };
        let silence = Silence { stream, instruments, ts_start };
        self.push_silence(&silence, GapState::Open, connection, ts)?;
        self.silences.push(silence);
        Ok(())
    }

    pub(super) fn end_silence(&mut self, connection: u16, name: &[u8], ts: i64) -> Result<()> {
        let found = self.silences.iter().position(|s| s.stream.name.as_bytes() == name);
        match found.map(|at| self.silences.swap_remove(at)) {
            Some(silence) => self.push_silence(&silence, GapState::Closed, connection, ts),
            None => Ok(()),
        }
    }

    fn push_silence(
        &mut self,
        silence: &Silence,
        state: GapState,
        connection: u16,
        ts: i64,
    ) -> Result<()> {
        let mut records = Vec::new();
        for &instrument in &silence.instruments {
            let mut marker: Marker = self.marker(MarkerCode::Gap, ts);
            marker.header.instrument = instrument;
            marker.cause = GapCause::Silence as u8;
            marker.state = state as u8;
            marker.channel = silence.stream.channel as u8;
            marker.count = u32::MAX;
            marker.ts_start = silence.ts_start;
            records.extend_from_slice(marker.as_bytes());
        }
        self.pending.push_records(connection, ts, &records)
    }
}
