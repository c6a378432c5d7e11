//! The place of a feed whose decoder is not in this crate, and is given by whoever runs it.

use super::{Corrections, Descriptor, Feed, FeedId, Framing, Glance, Rejected};
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, Records};
use crate::sequencing::{Continuity, Rule, Rules};

/// What holds of every feed whose decoder is given from outside. Each update of a book names the
/// one before it, whether or not ids have holes; the session names the streams.
pub const FOREIGN: Descriptor = Descriptor {
    id: FeedId::Foreign,
    continuity: Continuity::Chained,
    rules: Rules::USUAL.with_unnumbered(Rule::Alike),
    counts_updates: false,
    framing: Framing::Session,
    live_unit_ns: 1,
    updates: None,
    corrections: Corrections::Untold,
    page_mark: b"",
    news: None,
    build: |_| Box::new(Unknown),
};

/// The same for a feed whose decoded events tell which streams spoke. The session is shown each
/// frame all the same: only it knows which ones are control messages.
pub const FOREIGN_BY_EVENTS: Descriptor =
    Descriptor { framing: Framing::Events(|_| Glance::Control), ..FOREIGN };

/// Stands where the decoder was not given. Without it nothing can be said of a frame, not even
/// that it is broken: so every frame is an error that stops.
#[derive(Debug, Clone, Copy)]
pub struct Unknown;

impl Unknown {
    fn refusal() -> Error {
        Error::invalid("these frames are of a feed with a decoder of its own: give it")
    }
}

impl Feed for Unknown {
    fn receive(&mut self, _: &Blob<'_>, _: &mut Instruments, _: &mut Records) -> Result<Rejected> {
        Err(Self::refusal())
    }

    fn encode(&mut self, _: &Records, _: &Instruments, _: bool, _: &mut Vec<u8>) -> Result<()> {
        Err(Self::refusal())
    }

    fn snapshot(&self, _: &mut Vec<u8>) {}

    fn restore(&mut self, _: &[u8]) -> Result<()> {
        Err(Self::refusal())
    }
}
