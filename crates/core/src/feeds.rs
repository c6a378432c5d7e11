//! The venues: bytes in, records out, and back.
//!
//! A feed is a state machine without I/O. It is given blobs of the raw tape and writes records; it
//! never reads a clock. One folder a venue; products and versions are parameters of its feed.

use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, Records};

pub mod binance;
pub mod foreign;

/// One venue's wire format.
pub trait Feed: Send {
    /// Decodes one blob and appends its records to `out`, each with `ts_recv` of the blob and the
    /// last one of a venue event with `FLAG_LAST`. On an error `out` is as it was before.
    ///
    /// # Errors
    /// `Error::Decode` and `Error::DoesNotFit`: keep the bytes, count, go on.
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<()>;

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

    /// Appends to `out` what it remembers from one blob to the next. Those of this crate remember
    /// nothing but the instruments, which the caller keeps.
    fn snapshot(&self, _out: &mut Vec<u8>) {}

    /// Forgets everything, ids of instruments among it, but for what [`Feed::snapshot`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: `state` is not one of this feed's.
    fn restore(&mut self, state: &[u8]) -> Result<()>;
}

/// The table of feeds. The number is stored in every record: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum FeedId {
    /// Binance spot.
    BinanceSpot = 1,
    /// Binance USD-M futures.
    BinanceUsdm = 2,
    /// Any feed whose decoder is given from outside: a user's own, in Python.
    Foreign = 255,
}

/// All feeds that can be built here, in order of number.
pub const FEEDS: &[FeedId] = &[FeedId::BinanceSpot, FeedId::BinanceUsdm];

impl FeedId {
    /// The name in configs, file names and columns.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BinanceSpot => "binance-spot",
            Self::BinanceUsdm => "binance-usdm",
            Self::Foreign => "foreign",
        }
    }

    /// The feed of that name.
    ///
    /// # Errors
    /// `Error::Invalid`: no such feed; the message lists all.
    pub fn from_name(name: &str) -> Result<Self> {
        FEEDS.iter().copied().find(|feed| feed.name() == name).ok_or_else(|| {
            let names: Vec<_> = FEEDS.iter().map(|feed| feed.name()).collect();
            Error::invalid(format!("wanted a feed of {}; found {name:?}", names.join(", ")))
        })
    }

    /// The feed of that number.
    ///
    /// # Errors
    /// `Error::Invalid`: no such feed.
    pub fn from_number(number: u8) -> Result<Self> {
        FEEDS
            .iter()
            .copied()
            .find(|feed| *feed as u8 == number)
            .ok_or_else(|| Error::invalid(format!("feed number {number} is not known")))
    }

    /// A fresh decoder and encoder of the feed. That of a foreign one knows no message: it stops
    /// whoever runs it without the decoder that belongs to it.
    pub fn build(self) -> Box<dyn Feed> {
        match self {
            Self::BinanceSpot | Self::BinanceUsdm => Box::new(binance::Binance::new(self)),
            Self::Foreign => Box::new(foreign::Unknown),
        }
    }
}
