//! The venues: bytes in, records out, and back.
//!
//! A feed is a state machine without I/O. It is given blobs of the raw tape and writes records; it
//! never reads a clock. One folder a venue; products and versions are parameters of its feed.

use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::numbered;
use crate::record::{Blob, Records};
use crate::sequencing::{Continuity, Rules};

pub mod alpaca;
pub mod binance;
mod conditions;
mod cursor;
mod event_writer;
pub(crate) mod events;
mod fields;
pub mod foreign;
pub mod framing;
pub mod headlines;
pub mod itch;
pub mod lobster;
pub mod massive;
mod own_symbol;
mod rfc3339;
mod scan;
mod symbols;
#[cfg(test)]
mod testing;

pub use conditions::{BarSpan, Updates};
pub use framing::{Envelope, Framing, Glance};

/// One venue's wire format.
pub trait Feed: Send {
    /// Decodes one blob and appends its records to `out`, each with `ts_recv` of the blob and the
    /// last one of a venue event with `FLAG_LAST`. Of a list of messages each stands for itself:
    /// those that cannot be decoded are told by what is returned, and take no other with them. On
    /// an error `out` is as it was before.
    ///
    /// # Errors
    /// `Error::Decode` and `Error::DoesNotFit`: keep the bytes, count, go on.
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected>;

    /// Appends to `out` what was received before and waits for what may still come, as far as it
    /// need not wait any more at `ts_recv`; all of it where `is_over`: no connection is open any
    /// more.
    /// It is called with each note of the recorder.
    ///
    /// # Errors
    /// As [`Feed::receive`].
    fn settle(
        &mut self,
        _ts_recv: i64,
        _is_over: bool,
        _instruments: &mut Instruments,
        _out: &mut Records,
    ) -> Result<Rejected> {
        Ok(Rejected::NONE)
    }

    /// Takes in that some of what the venue sent may be missing from here on: the recorder cut a
    /// frame or had no room for some, or a connection ended. A feed that numbers updates
    /// of books by itself leaves a number out of each, as no number of the venue's can show it.
    fn lose(&mut self) {}

    /// Whether `blob`, which was received last, tells stories that [`Descriptor::news`] reads.
    fn tells_news(&self, _blob: &Blob<'_>) -> bool {
        false
    }

    /// The time that the venue told as its own in the last blob received, in ns, if it did.
    fn venue_time(&self) -> Option<i64> {
        None
    }

    /// Writes the frame that the venue would send for `event`, the records of one venue event, to
    /// the end of `out`. `combined` asks for the envelope with the stream's name.
    ///
    /// # Errors
    /// `Error::Invalid`: the venue has no message for such records.
    fn encode(
        &mut self,
        event: &Records,
        instruments: &Instruments,
        combined: bool,
        out: &mut Vec<u8>,
    ) -> Result<()>;

    /// Appends to `out` what it remembers from one blob to the next, but for the instruments, which
    /// the caller keeps. A feed that remembers nothing else appends nothing.
    fn snapshot(&self, out: &mut Vec<u8>);

    /// Forgets everything, ids of instruments among it, but for what [`Feed::snapshot`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: `state` is not one of this feed's.
    fn restore(&mut self, state: &[u8]) -> Result<()>;
}

/// Elements of a list that could not be decoded while others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rejected {
    /// How many.
    pub count: u32,
    /// Why the first could not be, and at which byte of the frame.
    pub first: Option<(DecodeReason, usize)>,
}

impl Rejected {
    /// None.
    pub const NONE: Self = Self { count: 0, first: None };

    /// One, rejected for `reason` at `byte`.
    pub const fn one(reason: DecodeReason, byte: usize) -> Self {
        Self { count: 1, first: Some((reason, byte)) }
    }

    /// Counts the value at `scanner` as one, and passes over it, unless it begins with `open`. Says
    /// whether it did.
    ///
    /// # Errors
    /// `Error::Decode`: it is no value.
    pub fn passes_over(&mut self, scanner: &mut scan::Scanner<'_>, open: u8) -> Result<bool> {
        if scanner.peek_value()? == open {
            return Ok(false);
        }
        let value = scanner.value()?;
        self.add(Error::decode(DecodeReason::WrongType, value.start as usize))?;
        Ok(true)
    }

    /// Counts `others` of the same frame as well.
    pub fn join(&mut self, others: Self) {
        self.count = self.count.saturating_add(others.count);
        self.first = self.first.or(others.first);
    }

    /// Counts one that failed with `error`.
    ///
    /// # Errors
    /// `error` itself, if it says nothing of the bytes.
    pub fn add(&mut self, error: Error) -> Result<()> {
        let found = error.of_frame().ok_or(error)?;
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert(found);
        Ok(())
    }
}

numbered! {
    /// The numbers of feeds, stored in every record.
    pub enum FeedId {
        /// Binance spot.
        BinanceSpot = 1, "binance-spot";
        /// Binance USD-M futures.
        BinanceUsdm = 2, "binance-usdm";
        /// NASDAQ TotalView-ITCH 5.0, and its sisters BX and PSX.
        Itch = 3, "itch";
        /// LOBSTER: order events of a stock, rebuilt from ITCH.
        Lobster = 4, "lobster";
        /// Massive, formerly Polygon.io.
        Massive = 5, "massive";
        /// Alpaca.
        Alpaca = 6, "alpaca";
        /// Binance COIN-M futures.
        BinanceCoinm = 7, "binance-coinm";
        /// Any feed whose decoder is given from outside: a user's own, in Python.
        Foreign = 255, "foreign";
    }
}

/// All that the system must know of a feed. What stands behind the decoder asks this, never which
/// feed it is.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// Its number, which has its name.
    pub id: FeedId,
    /// When one update of a book continues another.
    pub continuity: Continuity,
    /// How the events of each channel follow each other: what a repeat and what a loss is.
    pub rules: Rules,
    /// Whether missing updates of a book can be counted by their ids. Those of trades always can.
    pub counts_updates: bool,
    /// How its frames are told apart, and what says which streams they are of.
    pub framing: Framing,
    /// The unit in which live events tell their times, in ns, where the history tells finer ones.
    pub live_unit_ns: i64,
    /// What a trade of a condition may change of a bar; none where no condition holds a trade back.
    pub updates: Option<fn(u8, BarSpan) -> Updates>,
    /// How it tells what the venue cancels and corrects of trades.
    pub corrections: Corrections,
    /// What the path of a request holds where it is for the next page of an answer; empty: unknown.
    pub page_mark: &'static [u8],
    /// What reads its headlines; none where it tells no news.
    pub news: Option<headlines::Read>,
    /// A fresh decoder and encoder.
    build: fn(FeedId) -> Box<dyn Feed>,
}

/// The table of feeds that can be built here. The last line of adding one.
pub const FEEDS: &[Descriptor] = &[
    alpaca::ALPACA,
    binance::SPOT,
    binance::USDM,
    binance::COINM,
    itch::ITCH,
    lobster::LOBSTER,
    massive::MASSIVE,
];

impl Descriptor {
    /// The number that its records hold.
    pub const fn number(&self) -> u8 {
        self.id as u8
    }

    /// The name in configs, file names and columns.
    pub const fn name(&self) -> &'static str {
        self.id.name()
    }

    /// A fresh decoder and encoder. That of a foreign feed knows no message: it stops whoever runs
    /// it without the decoder that belongs to it.
    pub fn build(&self) -> Box<dyn Feed> {
        (self.build)(self.id)
    }

    /// The feed of that name.
    ///
    /// # Errors
    /// `Error::Invalid`: no such feed; the message lists all.
    pub fn named(name: &str) -> Result<Self> {
        FEEDS.iter().copied().find(|feed| feed.name() == name).ok_or_else(|| {
            let names: Vec<_> = FEEDS.iter().map(Self::name).collect();
            Error::invalid(format!("expected a feed of {}, got {name:?}", names.join(", ")))
        })
    }

    /// The feed whose records hold `number`; one that is not known is treated as foreign.
    pub fn numbered(number: u8) -> Self {
        FEEDS.iter().copied().find(|feed| feed.number() == number).unwrap_or(foreign::FOREIGN)
    }
}

/// What a trade of the feed `number` with such `conditions` may change of bars of `span`.
#[inline]
pub fn updates_of(number: u8, conditions: [u8; 2], span: BarSpan) -> Updates {
    if conditions == [0; 2] {
        return Updates::ALL;
    }
    Descriptor::numbered(number).updates.map_or(Updates::ALL, |updates| {
        updates(conditions[0], span).and(updates(conditions[1], span))
    })
}

/// How a feed tells what its venue cancels and corrects of earlier trades, and so what becomes of
/// that which is told in a gap.
#[derive(Debug, Clone, Copy)]
pub enum Corrections {
    /// Its streams tell none.
    Untold,
    /// They are counted with all else: what fills the gap has them.
    Counted,
    /// Its streams alone tell those of these symbols: what fills the gap has none of trades before.
    Live(fn(&[u8]) -> bool),
}

impl Corrections {
    /// Whether those of `symbol` that are told in a gap are missing, once it `is_filled` or not. An
    /// empty symbol is any.
    pub fn are_lost(self, symbol: &str, is_filled: bool) -> bool {
        match self {
            Self::Untold => false,
            Self::Counted => !is_filled,
            Self::Live(tells) => symbol.is_empty() || tells(symbol.as_bytes()),
        }
    }
}

impl From<FeedId> for Descriptor {
    fn from(id: FeedId) -> Self {
        Self::numbered(id as u8)
    }
}
