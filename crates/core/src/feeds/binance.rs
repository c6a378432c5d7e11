//! Binance spot, USD-M and COIN-M futures.
//!
//! Frames of the streams and answers of the REST interface. `decode` and `rest` are right for any
//! JSON; `encode` writes what the venue would.

use super::symbols::SymbolCache;
use super::{Corrections, Descriptor, Envelope, Feed, FeedId, Framing, Rejected};
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, BlobKind, Header, Records};
use crate::sequencing::{Continuity, Rules};

mod decode;
mod depth;
mod encode;
mod encode_bars;
mod encode_rest;
mod fast;
mod fields;
mod rest;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use decode::interval_ms;
pub use encode_bars::interval_name;

const ENVELOPE: Envelope =
    Envelope { data_prefix: br#"{"stream":""#, control_prefix: br#"{"stream":"!serverShutdown"# };

/// Binance spot.
pub const SPOT: Descriptor = Descriptor {
    id: FeedId::BinanceSpot,
    continuity: Continuity::Adjacent,
    rules: Rules::USUAL,
    counts_updates: true,
    framing: Framing::Named(ENVELOPE),
    live_unit_ns: 1,
    updates: None,
    corrections: Corrections::Untold,
    page_mark: b"",
    news: None,
    build: |id| Box::new(Binance::new(id)),
};

/// Binance USD-M futures. Update ids are shared between instruments: how many of one are missing
/// cannot be told.
pub const USDM: Descriptor = Descriptor {
    id: FeedId::BinanceUsdm,
    continuity: Continuity::Chained,
    counts_updates: false,
    ..SPOT
};

/// Binance COIN-M futures, which are paid in the asset that is traded: sizes are contracts, each
/// worth so many dollars.
pub const COINM: Descriptor = Descriptor { id: FeedId::BinanceCoinm, ..USDM };

/// Whether `feed` is of the futures, whose messages differ in places.
pub const fn is_futures(feed: FeedId) -> bool {
    matches!(feed, FeedId::BinanceUsdm | FeedId::BinanceCoinm)
}

/// The wire format of Binance.
#[derive(Debug)]
pub struct Binance {
    feed: FeedId,
    symbols: SymbolCache,
    /// The venue's time by the last answer, if that told it.
    venue_time: Option<i64>,
    /// Room for texts with escapes, and for the name of a stream.
    scratch: Vec<u8>,
    stream: Vec<u8>,
    /// Whether frames of expected form are read straight.
    straight: bool,
    /// Whether the processor reads levels in wide registers.
    wide: bool,
    /// Whether times are written in microseconds.
    microseconds: bool,
}

impl Binance {
    /// A decoder and encoder of the product `feed`.
    pub fn new(feed: FeedId) -> Self {
        Self {
            feed,
            symbols: SymbolCache::new(feed as u8),
            venue_time: None,
            scratch: Vec::new(),
            stream: Vec::new(),
            straight: true,
            wide: fast::has_wide_registers(),
            microseconds: false,
        }
    }

    /// Reads every frame as any JSON from now on, or those of expected form straight. The records
    /// are the same: this is for comparing the two.
    pub const fn set_straight(&mut self, on: bool) {
        self.straight = on;
    }

    /// Decodes a frame of the stream that its context names.
    fn frame(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let straight = self.straight;
        let (mut task, name) = self.task(blob, instruments, out);
        if straight && task.fast(blob.context).is_some() {
            return Ok(Rejected::NONE);
        }
        task.frame(blob.context, name)?;
        Ok(task.rejected)
    }

    fn task<'a>(
        &'a mut self,
        blob: &Blob<'a>,
        instruments: &'a mut Instruments,
        out: &'a mut Records,
    ) -> (decode::Task<'a>, &'a mut Vec<u8>) {
        let ts = blob.header.ts_recv;
        let header = Header {
            flags: blob.header.flags as u8,
            feed: self.feed as u8,
            ts_event: ts,
            ts_recv: ts,
            ..Header::default()
        };
        let task = decode::Task {
            bytes: blob.body,
            chained: is_futures(self.feed),
            wide: self.wide,
            header,
            symbols: &mut self.symbols,
            instruments,
            scratch: &mut self.scratch,
            out,
            rejected: Rejected::NONE,
            venue_time: None,
        };
        (task, &mut self.stream)
    }
}

impl Feed for Binance {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let mark = out.mark();
        let done = match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Text) => self.frame(blob, instruments, out),
            Ok(BlobKind::Rest) => {
                let mut task = self.task(blob, instruments, out).0;
                let done = task.rest(blob.context).map(|()| task.rejected);
                self.venue_time = task.venue_time;
                done
            }
            Ok(BlobKind::Records) => out
                .extend_from_bytes(blob.body)
                .map(|()| Rejected::NONE)
                .map_err(|_| Error::decode(DecodeReason::WrongType, 0)),
            // The venue's binary frames (SBE) are not subscribed to.
            Ok(_) | Err(_) => Err(Error::decode(DecodeReason::UnknownEvent, 0)),
        };
        if done.is_err() {
            out.truncate(mark);
        }
        done
    }

    fn venue_time(&self) -> Option<i64> {
        self.venue_time
    }

    fn encode(
        &mut self,
        event: &Records,
        instruments: &Instruments,
        combined: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if combined {
            let stream = self.stream_name(event, instruments)?;
            return self.encode_combined(&stream, event, instruments, out);
        }
        self.encode_payload(event, instruments, out)
    }

    // The caches follow from the instruments, which the caller keeps.
    fn snapshot(&self, _: &mut Vec<u8>) {}

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        if !state.is_empty() {
            return Err(Error::invalid("expected no state of this feed: it keeps none"));
        }
        self.symbols = SymbolCache::new(self.feed as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
