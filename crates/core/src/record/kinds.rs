//! The small numbers of records: kinds, sides, channels, markers.
//!
//! Each number is stored, so none is ever reused. An unknown one is an error that says so, never
//! another meaning.

use super::BlobKind;
use crate::error::{Error, Result};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// One fill, or the fills of one taker order at one price.
    Trade = 1,
    /// Best bid and offer.
    Quote = 2,
    /// One price level of an L2 book set to a size.
    Level = 3,
    /// L3: add, modify, cancel, execute.
    Order = 4,
    /// Open, high, low, close of an interval.
    Bar = 5,
    /// Halt, resume, price bands.
    Status = 6,
    /// A trade cancelled or busted.
    Correction = 7,
    /// Snapshot begin and end, gap, reconnect, heartbeat, end of session.
    Marker = 8,
    /// An instrument: symbols, tick and lot size, validity.
    Definition = 9,
    /// Mark price, index price and funding of a derivative.
    Mark = 10,
    /// The uniform view: bid, ask, last price, volume.
    Tick = 11,
}

/// Which side of the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Not known.
    None = 0,
    /// A buyer: the taker of a trade, or the bid side of a book.
    Bid = 1,
    /// A seller: the taker of a trade, or the ask side of a book.
    Ask = 2,
}

/// The stream of a venue that a record came on. Sequences are compared within one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Channel {
    /// None, or not known.
    None = 0,
    /// Single fills.
    Trade = 1,
    /// Fills grouped by taker order.
    AggTrade = 2,
    /// Best bid and offer.
    Quote = 3,
    /// Changes of an L2 book.
    Depth = 4,
    /// Whole top of an L2 book.
    PartialDepth = 5,
    /// Bars made by the venue.
    Kline = 6,
    /// Rolling 24-hour statistics.
    Ticker = 7,
    /// Mark price and funding.
    Mark = 8,
    /// L2 snapshot on request.
    Snapshot = 9,
    /// Instrument definitions.
    Definition = 10,
    /// The connection itself.
    Session = 11,
}

/// What a marker marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum MarkerCode {
    /// Levels of a snapshot follow; `first` is its sequence, `count` its number of levels.
    SnapshotBegin = 1,
    /// All levels of the snapshot were sent.
    SnapshotEnd = 2,
    /// Something was lost: see [`GapCause`]. `state` says open, closed or repaired.
    Gap = 3,
    /// A connection opened. `first` is its number.
    Connected = 4,
    /// A connection ended. `first` is its number; `state` is [`super::SESSION_ENDS`] where the
    /// recorder closed it because it stops.
    Disconnected = 5,
    /// Nothing happened, and time passed: `ts_recv` is a watermark.
    Heartbeat = 6,
    /// The recorder stopped in good order.
    EndOfSession = 7,
    /// A depth event without levels: only its sequence range matters (`first` to `last`).
    EmptyUpdate = 8,
    /// A raw frame that could not be decoded. `first` is its offset on the raw tape, `last` the
    /// byte at which decoding stopped, `cause` a `DecodeReason`.
    DeadLetter = 9,
    /// The synchronisation state of a book changed; `state` is the new `SyncState`.
    BookState = 10,
    /// A full book follows on the book tape; `first` is its sequence, `count` its levels.
    CheckpointBegin = 11,
    /// All levels of the checkpoint were written; `last` is the checksum of the book.
    CheckpointEnd = 12,
}

/// Why something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum GapCause {
    /// The venue's sequence jumped. `first` to `last` are the missing sequences.
    Sequence = 1,
    /// A stream that should speak was silent.
    Silence = 2,
    /// No connection carried the stream for a while.
    Disconnect = 3,
    /// We shed frames: `count` says how many.
    Overload = 4,
    /// A frame could not be decoded.
    Decode = 5,
    /// A reader fell behind retention.
    Retention = 6,
}

/// How far a gap is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum GapState {
    /// Still losing.
    Open = 1,
    /// Its extent is known.
    Closed = 2,
    /// Filled from the venue's history.
    Repaired = 3,
    /// The venue does not keep what is missing.
    Unrecoverable = 4,
}

macro_rules! from_number {
    ($($type:ident { $($variant:ident),+ $(,)? })+) => {
        $(
            impl TryFrom<u8> for $type {
                type Error = Error;

                fn try_from(number: u8) -> Result<Self> {
                    $(if number == Self::$variant as u8 {
                        return Ok(Self::$variant);
                    })+
                    Err(Error::invalid(format!(
                        concat!(stringify!($type), " {} is not known to this build"),
                        number
                    )))
                }
            }
        )+
    };
}

from_number! {
    Kind { Trade, Quote, Level, Order, Bar, Status, Correction, Marker, Definition, Mark, Tick }
    Side { None, Bid, Ask }
    Channel {
        None, Trade, AggTrade, Quote, Depth, PartialDepth, Kline, Ticker, Mark, Snapshot,
        Definition, Session,
    }
    MarkerCode {
        SnapshotBegin, SnapshotEnd, Gap, Connected, Disconnected, Heartbeat, EndOfSession,
        EmptyUpdate, DeadLetter, BookState, CheckpointBegin, CheckpointEnd,
    }
    GapCause { Sequence, Silence, Disconnect, Overload, Decode, Retention }
    GapState { Open, Closed, Repaired, Unrecoverable }
    BlobKind { Text, Binary, Rest, Records }
}
