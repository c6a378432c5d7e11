//! Alpaca: US stocks, options, and crypto with its books.
//!
//! A frame is an array of events of many instruments, each on its own: one that cannot be decoded
//! takes no other with it. Frames come as JSON or as msgpack, which says the same. Answers of the
//! REST interface are told apart by their request.

use super::symbols::SymbolCache;
use super::{Descriptor, Feed, FeedId, Framing, Glance, Rejected};
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, BlobKind, Channel, Header, Records};
use crate::sequencing::{Continuity, Rule, Rules};

mod book;
mod conditions;
mod decode;
mod encode;
mod keys;
mod msgpack;
mod pack;
mod rest;
mod state;
mod time;

use keys::{Books, Encoding, Keys};

pub use encode::object as encode_object;
pub use keys::class_of;
pub use pack::from_json as pack;

pub use super::events::{EQUITY, SPOT};

/// Alpaca, all feeds.
///
/// The venue numbers nothing but trades, and these by exchange and day: events are told apart by
/// all that they say. Updates of books are numbered by the decoder: what no connection carried has
/// no number, so that these only rise.
pub const ALPACA: Descriptor = Descriptor {
    id: FeedId::Alpaca,
    continuity: Continuity::Adjacent,
    rules: Rules::USUAL
        .with(Channel::Trade, Rule::Alike)
        .with(Channel::Quote, Rule::Alike)
        .with(Channel::Depth, Rule::Rising)
        .with_unnumbered(Rule::Alike),
    counts_updates: false,
    framing: Framing::Events(glance),
    updates: Some(conditions::updates_within),
    build: |id| Box::new(Alpaca::new(id)),
};

/// Bytes of a frame within which the first event says of which type it is.
const GLANCED_AT: usize = 64;
/// What stands there of frames for the session: its own messages, and news, which nothing else
/// sees to have come. In JSON a quote follows the type, in msgpack its length comes before it.
const SHOWN: [&[u8]; 5] = [b"success", b"subscription", b"error", b"\"T\":\"n\"", b"\xa1T\xa1n"];

/// Tells what is for the session from data.
fn glance(body: &[u8]) -> Glance<'_> {
    let start = &body[..body.len().min(GLANCED_AT)];
    let is_list = matches!(body.first(), Some(b'[' | 0x90..=0x9f | 0xdc | 0xdd));
    let has = |word: &&[u8]| start.windows(word.len()).any(|window| window == *word);
    if !is_list || SHOWN.iter().any(has) {
        return Glance::Control;
    }
    Glance::Events
}

/// The wire format of Alpaca.
#[derive(Debug)]
pub struct Alpaca {
    feed: FeedId,
    symbols: SymbolCache,
    books: Books,
    /// Room for texts with escapes.
    scratch: Vec<u8>,
    /// Room for a frame of msgpack as text.
    text: Vec<u8>,
}

impl Alpaca {
    /// A decoder and encoder.
    pub fn new(feed: FeedId) -> Self {
        Self {
            feed,
            symbols: SymbolCache::new(feed as u8),
            books: Books::new(),
            scratch: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Decodes `bytes`, the text of `blob`.
    fn decode(
        &mut self,
        (bytes, encoding): (&[u8], Encoding),
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let ts = blob.header.ts_recv;
        let header = Header {
            flags: blob.header.flags as u8,
            feed: self.feed as u8,
            ts_event: ts,
            ts_recv: ts,
            ..Header::default()
        };
        let mut task = decode::Task {
            bytes,
            header,
            symbols: &mut self.symbols,
            instruments,
            scratch: &mut self.scratch,
            out,
            rejected: Rejected::NONE,
            venue: Keys { encoding, books: &mut self.books },
        };
        if blob.header.kind == BlobKind::Rest as u8 {
            task.rest(blob.context)?;
        } else {
            task.frame()?;
        }
        Ok(task.rejected)
    }

    /// Decodes a frame of msgpack by the text that it stands for.
    fn binary(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let done = msgpack::to_json(blob.body, &mut text)
            .and_then(|()| self.decode((&text, Encoding::Msgpack), blob, instruments, out));
        self.text = text;
        let mut rejected = done?;
        // Where it stands in the text says nothing of the frame.
        if let Some((_, byte)) = &mut rejected.first {
            *byte = 0;
        }
        Ok(rejected)
    }
}

impl Feed for Alpaca {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let mark = out.mark();
        let done = match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Text | BlobKind::Rest) => {
                self.decode((blob.body, Encoding::Json), blob, instruments, out)
            }
            Ok(BlobKind::Binary) => self.binary(blob, instruments, out),
            _ => Err(Error::decode(DecodeReason::WrongType, 0)),
        };
        if done.is_err() {
            out.truncate(mark);
        }
        done
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

    fn snapshot(&self, out: &mut Vec<u8>) {
        state::write(&self.books, out);
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        let whole = || Error::invalid("expected a state of the feed alpaca, whole");
        self.books = state::read(state).ok_or_else(whole)?;
        self.symbols = SymbolCache::new(self.feed as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
