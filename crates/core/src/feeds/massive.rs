//! Massive, formerly Polygon.io: stocks, options, crypto, forex, indices and futures.
//!
//! A frame is an array of events of many instruments, each on its own: one that cannot be decoded
//! takes no other with it. An event tells by its type and keys which market it is of, so that one
//! decoder serves all of them. Answers of the REST interface are told apart by their request.

use super::events::header_of;
use super::symbols::SymbolCache;
use super::{Corrections, Descriptor, Feed, FeedId, Framing, Glance, Rejected};
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, BlobKind, Channel, Records};
use crate::sequencing::{Continuity, Rule, Rules};

mod conditions;
mod crypto;
mod decode;
mod encode;
mod fast;
mod imbalance;
mod keys;
mod news;
mod reference;
mod rest;

pub use encode::{object as encode_object, row as encode_row};

/// Massive, all markets.
///
/// Sequences have holes by design and begin anew each day, so that they prove nothing; events are
/// told apart by all that they say, the sequence among it.
pub const MASSIVE: Descriptor = Descriptor {
    id: FeedId::Massive,
    continuity: Continuity::Adjacent,
    rules: Rules::USUAL
        .with(Channel::Trade, Rule::Alike)
        .with(Channel::Quote, Rule::Alike)
        .with(Channel::PartialDepth, Rule::Alike)
        .with(Channel::Mark, Rule::Alike)
        .with_unnumbered(Rule::Alike),
    counts_updates: false,
    framing: Framing::Events(glance),
    live_unit_ns: 1_000_000,
    updates: Some(conditions::updates_within),
    corrections: Corrections::Untold,
    page_mark: b"cursor=",
    news: Some(news::read),
    build: |id| Box::new(Massive::new(id)),
};

/// A key that statuses have alone.
const STATUS: u64 = u64::from_ne_bytes(*b"\"status\"");

/// Tells frames with statuses, which are of the session, from others: they may stand behind data.
fn glance(body: &[u8]) -> Glance<'_> {
    let words = body.windows(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
    if body.first() != Some(&b'[') || words.into_iter().any(|word| word == STATUS) {
        return Glance::Control;
    }
    Glance::Events
}

/// The wire format of Massive.
#[derive(Debug)]
pub struct Massive {
    feed: FeedId,
    symbols: SymbolCache,
    /// Room for texts with escapes.
    scratch: Vec<u8>,
    /// Whether frames of expected form are read straight.
    straight: bool,
}

impl Massive {
    /// A decoder and encoder.
    pub fn new(feed: FeedId) -> Self {
        Self { feed, symbols: SymbolCache::new(feed as u8), scratch: Vec::new(), straight: true }
    }

    /// Reads every frame as any JSON from now on, or those of expected form straight. The records
    /// are the same: this is for comparing the two.
    pub const fn set_straight(&mut self, on: bool) {
        self.straight = on;
    }

    fn task<'a>(
        &'a mut self,
        blob: &Blob<'a>,
        instruments: &'a mut Instruments,
        out: &'a mut Records,
    ) -> decode::Task<'a> {
        decode::Task {
            bytes: blob.body,
            header: header_of(self.feed, blob),
            symbols: &mut self.symbols,
            instruments,
            scratch: &mut self.scratch,
            out,
            rejected: Rejected::NONE,
            venue: keys::Keys,
        }
    }
}

impl Feed for Massive {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let mark = out.mark();
        let done = match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Text) => {
                let straight = self.straight;
                let mut task = self.task(blob, instruments, out);
                if straight && task.fast().is_some() {
                    return Ok(Rejected::NONE);
                }
                task.frame().map(|()| task.rejected)
            }
            Ok(BlobKind::Rest) => {
                let mut task = self.task(blob, instruments, out);
                task.rest(blob.context).map(|()| task.rejected)
            }
            Ok(BlobKind::Records) => out
                .extend_from_bytes(blob.body)
                .map(|()| Rejected::NONE)
                .map_err(|_| Error::decode(DecodeReason::WrongType, 0)),
            // The venue sends text alone.
            Ok(_) | Err(_) => Err(Error::decode(DecodeReason::UnknownEvent, 0)),
        };
        if done.is_err() {
            out.truncate(mark);
        }
        done
    }

    fn tells_news(&self, blob: &Blob<'_>) -> bool {
        blob.header.kind == BlobKind::Rest as u8 && news::is_asked(blob.context)
    }

    fn encode(
        &mut self,
        event: &Records,
        instruments: &Instruments,
        _: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        encode::frame(event, instruments, out)
    }

    // The look-up of symbols follows from the instruments, which the caller keeps.
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
