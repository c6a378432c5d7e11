//! Alpaca: US stocks, options, and crypto with its books.
//!
//! A frame is an array of events of many instruments, each on its own: one that cannot be decoded
//! takes no other with it. Frames come as JSON or as msgpack, which says the same. Answers of the
//! REST interface are told apart by their request.

use super::events::header_of;
use super::rfc3339::Minute;
use super::symbols::SymbolCache;
use super::{Corrections, Descriptor, Feed, FeedId, Framing, Glance, Rejected};
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, BlobKind, Channel, Records};
use crate::sequencing::{Continuity, Rule, Rules};

mod book;
mod conditions;
mod corporate;
mod decode;
mod encode;
mod fast;
mod fast_json;
mod fast_pack;
mod keys;
mod msgpack;
mod news;
mod pack;
mod rest;
mod state;

use fast_json::Json;
use fast_pack::Pack;
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
    live_unit_ns: 1,
    updates: Some(conditions::updates_within),
    corrections: Corrections::Live(|symbol| class_of(symbol) == EQUITY),
    page_mark: b"page_token=",
    news: Some(news::read),
    build: |id| Box::new(Alpaca::new(id)),
};

/// Bytes of a frame within which the first event says of which type it is.
const GLANCED_AT: usize = 64;
/// What stands there of frames for the session: its own messages, and news, which nothing else
/// sees to have come. In JSON a quote follows the type, in msgpack its length comes before it.
const SHOWN: [&[u8]; 5] =
    [b"success", b"subscription", b"error", START_OF_NEWS[0], START_OF_NEWS[1]];
/// What stands there of news.
const START_OF_NEWS: [&[u8]; 2] = [b"\"T\":\"n\"", b"\xa1T\xa1n"];

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
    /// The minute of the last time that was read straight.
    minute: Minute,
    /// Whether the last frame has stories.
    has_stories: bool,
    /// Whether frames of expected form are read straight.
    straight: bool,
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
            minute: Minute::default(),
            has_stories: false,
            straight: true,
        }
    }

    /// Reads every frame as any JSON from now on, or those of expected form straight. The records
    /// are the same: this is for comparing the two.
    pub const fn set_straight(&mut self, on: bool) {
        self.straight = on;
    }

    /// What decodes `bytes`, a frame as text.
    fn task<'a>(
        &'a mut self,
        (bytes, encoding): (&'a [u8], Encoding),
        blob: &Blob<'_>,
        instruments: &'a mut Instruments,
        out: &'a mut Records,
    ) -> decode::Task<'a> {
        decode::Task {
            bytes,
            header: header_of(self.feed, blob),
            symbols: &mut self.symbols,
            instruments,
            scratch: &mut self.scratch,
            out,
            rejected: Rejected::NONE,
            venue: Keys { encoding, books: &mut self.books, has_stories: &mut self.has_stories },
        }
    }

    /// Decodes a frame of expected form; `None` is any other.
    fn straight(
        &mut self,
        blob: &Blob<'_>,
        encoding: Encoding,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Option<()> {
        let mut minute = std::mem::take(&mut self.minute);
        let mut task = self.task((b"", encoding), blob, instruments, out);
        let done = match encoding {
            Encoding::Json => task.fast(Json::new(blob.body, &mut minute)),
            Encoding::Msgpack => task.fast(Pack::new(blob.body)),
        };
        self.minute = minute;
        done
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
        let done = msgpack::to_json(blob.body, &mut text).and_then(|()| {
            let mut task = self.task((&text, Encoding::Msgpack), blob, instruments, out);
            task.frame().map(|()| task.rejected)
        });
        self.text = text;
        let mut rejected = done?;
        // Where it stands in the text says nothing of the frame.
        if let Some((_, byte)) = &mut rejected.first {
            *byte = 0;
        }
        Ok(rejected)
    }

    /// Decodes a frame, of which nothing is known yet, or an answer.
    fn any(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let body = (blob.body, Encoding::Json);
        match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Text) => {
                let mut task = self.task(body, blob, instruments, out);
                task.frame().map(|()| task.rejected)
            }
            Ok(BlobKind::Rest) => {
                let mut task = self.task(body, blob, instruments, out);
                task.rest(blob.context).map(|()| task.rejected)
            }
            Ok(BlobKind::Binary) => self.binary(blob, instruments, out),
            _ => Err(Error::decode(DecodeReason::WrongType, 0)),
        }
    }
}

impl Feed for Alpaca {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let encoding = match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Text) if self.straight => Some(Encoding::Json),
            Ok(BlobKind::Binary) if self.straight => Some(Encoding::Msgpack),
            _ => None,
        };
        self.has_stories = false;
        let found = encoding.and_then(|encoding| self.straight(blob, encoding, instruments, out));
        if found.is_some() {
            return Ok(Rejected::NONE);
        }
        let mark = out.mark();
        let done = self.any(blob, instruments, out);
        if done.is_err() {
            out.truncate(mark);
            if blob.header.kind != BlobKind::Rest as u8 {
                // Whatever it was, it may have changed any book.
                self.lose();
            }
        }
        done
    }

    fn lose(&mut self) {
        book::leave_out(&mut self.books);
    }

    fn tells_news(&self, blob: &Blob<'_>) -> bool {
        match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Rest) => news::is_asked(blob.context),
            _ => self.has_stories,
        }
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
