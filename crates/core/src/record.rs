//! Market events as plain bytes.
//!
//! A record is a fixed number of little-endian bytes, a multiple of 64, that is never changed once
//! made. It is read in place from a mapped file, as a NumPy structured array, or as Arrow columns;
//! all three come from the layouts in this file. Prices are signed units of 1e-9, sizes signed
//! units of 1e-8, times signed nanoseconds since the Unix epoch (UTC). [`NONE`] means "absent" in
//! any of them.

mod alert;
pub mod arrow;
pub mod blob;
pub mod columns;
pub mod copy;
mod corporate;
pub mod fields;
pub mod ilp;
mod imbalance;
pub mod kinds;
mod metric;
pub mod records;
pub mod rows;
mod runs;
pub mod select;
pub mod snapshots;
pub mod store_rows;

pub use alert::Alert;
pub use blob::{Blob, BlobKind, Blobs};
pub use corporate::CorporateAction;
pub(crate) use fields::number_of;
pub use fields::{padded, padded_or_cut, topic_number, unpadded, Turnover};
pub use imbalance::Imbalance;
pub use kinds::{
    AlertState, Channel, Cross, GapCause, GapState, Kind, MarkerCode, OrderAction, QuoteState,
    Severity, Side, SubscriptionState, SyncState,
};
pub use metric::Metric;
pub use records::{RecordRef, Records};

/// The absent price, size or time.
pub const NONE: i64 = i64::MAX;
/// Units of price in one: a price of 1.5 is stored as 1_500_000_000.
pub const PRICE_SCALE: i64 = 1_000_000_000;
/// Units of size in one.
pub const SIZE_SCALE: i64 = 100_000_000;
/// Decimal places of a price.
pub const PRICE_PLACES: u32 = 9;
/// Decimal places of a size.
pub const SIZE_PLACES: u32 = 8;
/// Decimal places of a turnover (price times size).
pub const TURNOVER_PLACES: u32 = 17;

/// State of a `Disconnected` marker: the recorder stops in good order, and loses nothing by it.
pub const SESSION_ENDS: u8 = 1;
/// `state` of a delay that is of one channel, less the number of the channel: as the feed is sold.
pub const DELAY_OF_CHANNEL: u8 = 16;
/// `state` of a heartbeat, on no tape: a router of instruments saw the venue number orders anew.
pub const ORDERS_BEGIN: u8 = 1;

/// Bits of the `state` of a snapshot's marks: it has as many bids, or asks, as were asked for.
pub const SNAPSHOT_CUT: [u8; 2] = [1, 2];

/// Flag: last record of one venue event. Books are consistent only after it.
pub const FLAG_LAST: u8 = 1;
/// Flag: part of a snapshot, not of a change.
pub const FLAG_SNAPSHOT: u8 = 2;
/// Flag: came from the venue's history, not from the live stream.
pub const FLAG_HISTORICAL: u8 = 4;
/// Flag: arrived after a later sequence of the same stream.
pub const FLAG_OUT_OF_ORDER: u8 = 8;
/// Flag: a second copy was seen and suppressed.
pub const FLAG_DUPLICATE: u8 = 16;
/// Flag: the book may be wrong here.
pub const FLAG_MAYBE_BAD: u8 = 32;
/// Flag: the host's clock was not trusted when `ts_recv` was taken.
pub const FLAG_RECV_SUSPECT: u8 = 64;
/// Flag: the venue sent no event time; `ts_event` is the receive time.
pub const FLAG_NO_EVENT_TIME: u8 = 128;

/// Types whose every bit pattern is a valid value and that hold no padding.
///
/// # Safety
/// The type is `repr(C)`, has no padding bytes, and contains only integers and arrays of them.
pub unsafe trait Plain: Copy + 'static {
    /// The value as bytes.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: the implementor promises that there is no padding.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// Reads the value from the front of `bytes`, at any alignment. `None` if they are too few.
    fn read_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, and every bit pattern is valid.
        Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
    }
}

/// A record: starts with a [`Header`] and is a multiple of 64 bytes.
pub trait Record: Plain {
    /// Its kind.
    const KIND: Kind;

    /// Its header.
    fn header(&self) -> &Header {
        // SAFETY: every record starts with a header (checked by the layout test).
        unsafe { &*std::ptr::from_ref(self).cast::<Header>() }
    }
}

/// What every record starts with, 32 bytes.
/// ```text
/// offset  size  field
///      0     1  length of the record in units of 8 bytes, this header included
///      1     1  kind
///      2     1  flags
///      3     1  feed
///      4     4  instrument id, 0 = none
///      8     8  ts_event, ns
///     16     8  ts_recv, ns
///     24     8  sequence
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Header {
    /// Length of the record in units of 8 bytes, this header included.
    pub length: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// Any of the `FLAG_` bits.
    pub flags: u8,
    /// Number of the feed in the table of `feeds`.
    pub feed: u8,
    /// Instrument id; 0 means that the record concerns none.
    pub instrument: u32,
    /// When it happened, by the venue's clock, in ns. The receive time where the venue sends none.
    pub ts_event: i64,
    /// When the frame reached this host, in ns.
    pub ts_recv: i64,
    /// The venue's sequence of the channel: trade id, update id; 0 where it has none.
    pub sequence: u64,
}

impl Header {
    /// The header of a record of type `R`.
    pub const fn of<R: Record>() -> Self {
        Self {
            length: (size_of::<R>() / 8) as u8,
            kind: R::KIND as u8,
            flags: 0,
            feed: 0,
            instrument: 0,
            ts_event: NONE,
            ts_recv: NONE,
            sequence: 0,
        }
    }

    /// Length of the record in bytes.
    pub const fn byte_length(&self) -> usize {
        self.length as usize * 8
    }
}

/// One fill, or the fills of one taker order at one price. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Trade {
    /// `sequence` is the trade id, or the aggregate id on [`Channel::AggTrade`].
    pub header: Header,
    /// Units of 1e-9.
    pub price: i64,
    /// Units of 1e-8.
    pub size: i64,
    /// Id of the first fill.
    pub trade_id: u64,
    /// Number of fills: 1, or last minus first plus one of an aggregate.
    pub count: u32,
    /// A [`Side`]: who took liquidity.
    pub side: u8,
    /// A [`Channel`]: `Trade` or `AggTrade`.
    pub channel: u8,
    /// Venue conditions, 0 = none.
    pub conditions: [u8; 2],
}

/// Best bid and offer. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Quote {
    /// `sequence` is the book's update id.
    pub header: Header,
    /// Units of 1e-9; [`NONE`] when that side is empty.
    pub bid_price: i64,
    /// Units of 1e-8.
    pub bid_size: i64,
    /// Units of 1e-9; [`NONE`] when that side is empty.
    pub ask_price: i64,
    /// Units of 1e-8.
    pub ask_size: i64,
}

/// One price level of an L2 book set to a size. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Level {
    /// `sequence` is the last update id of the event (`u`), the same in all its levels.
    pub header: Header,
    /// Units of 1e-9.
    pub price: i64,
    /// Units of 1e-8; 0 removes the level.
    pub size: i64,
    /// Last update id before the event: `pu` where the venue sends it, else `U - 1`.
    pub previous: u64,
    /// `u - U`: how many update ids the event covers, less one.
    pub span: u32,
    /// A [`Side`].
    pub side: u8,
    /// A [`Channel`]: `Depth`, `PartialDepth` or `Snapshot`.
    pub channel: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// One event of an order of an L3 book. 128 bytes.
///
/// What an event does not tell is what is known of its order: its side, its price. [`NONE`] and
/// side 0 stand where the order is not known, as its beginning was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Order {
    /// `sequence` is the number of the venue's message; 0 where it has none.
    pub header: Header,
    /// Units of 1e-9: the limit of a new order; of executions the price paid; else the order's.
    pub price: i64,
    /// Units of 1e-8: of a new, changed or replacing order its whole size; else what was executed
    /// or cancelled.
    pub size: i64,
    /// The venue's id of the order; 0 where the event is of none.
    pub order_id: u64,
    /// Of [`OrderAction::Replace`]: the order that gave way.
    pub previous_id: u64,
    /// Id of the execution; of [`OrderAction::Break`] that of the one declared void; else 0.
    pub match_id: u64,
    /// Price at which the order stood before the event, units of 1e-9; [`NONE`] of a new order.
    pub order_price: i64,
    /// What is left of the order, units of 1e-8; 0 if it is gone.
    pub remaining: i64,
    /// Who entered the order, zero padded; empty where the venue does not tell.
    pub participant: [u8; 8],
    /// An [`OrderAction`].
    pub action: u8,
    /// A [`Side`]: that of the order in the book, not of who took.
    pub side: u8,
    /// A [`Cross`].
    pub cross: u8,
    /// 1 where it is a trade that counts for volume, else 0.
    pub printed: u8,
    /// Zero.
    pub reserved: [u8; 28],
}

/// Open, high, low, close of one interval. 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Bar {
    /// `ts_event` is the start of the interval, `sequence` the id of its last trade.
    pub header: Header,
    /// Units of 1e-9.
    pub open: i64,
    /// Units of 1e-9.
    pub high: i64,
    /// Units of 1e-9.
    pub low: i64,
    /// Units of 1e-9.
    pub close: i64,
    /// Units of 1e-8.
    pub volume: i64,
    /// Volume whose taker bought, units of 1e-8.
    pub buy_volume: i64,
    /// Exact sum of price times size, units of 1e-17.
    pub turnover: Turnover,
    /// The part of it whose taker bought.
    pub buy_turnover: Turnover,
    /// Number of trades.
    pub count: u64,
    /// Length of the interval in ms.
    pub interval_ms: u32,
    /// 1 when the interval is over, 0 while it may change, and for good where a recording began or
    /// ended within it.
    pub closed: u8,
    /// A [`Channel`]: `Kline` and `Ticker` came from the venue, `Trade` was built here.
    pub channel: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Halt, resume, price bands. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Status {
    /// What every record starts with.
    pub header: Header,
    /// Lower price band, units of 1e-9, or [`NONE`].
    pub price_low: i64,
    /// Upper price band, units of 1e-9, or [`NONE`].
    pub price_high: i64,
    /// The venue's reason code, zero padded.
    pub reason: [u8; 8],
    /// 1 trading, 2 halted, 3 auction, 4 closed, 5 cancel only, 0 not known.
    pub status: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// A trade cancelled or busted. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Correction {
    /// What every record starts with.
    pub header: Header,
    /// Corrected price, units of 1e-9, or [`NONE`] when the trade is void.
    pub price: i64,
    /// Corrected size, units of 1e-8, or [`NONE`].
    pub size: i64,
    /// Id of the trade.
    pub trade_id: u64,
    /// 1 cancel, 2 correct.
    pub action: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// Something about the stream itself. 64 bytes. See [`MarkerCode`] for the use of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Marker {
    /// For a gap, `ts_event` is the end of the lost range and `ts_recv` when it was detected.
    pub header: Header,
    /// A [`MarkerCode`].
    pub code: u8,
    /// A [`GapCause`] of a gap, a `DecodeReason` of a dead letter, else 0.
    pub cause: u8,
    /// A [`GapState`] of a gap, a `SyncState` of a book state, else as the code says, or 0.
    pub state: u8,
    /// A [`Channel`].
    pub channel: u8,
    /// How many are meant: lost messages, levels. `u32::MAX` means not known.
    pub count: u32,
    /// First sequence meant.
    pub first: u64,
    /// Last sequence meant.
    pub last: u64,
    /// Start of the time range meant, in ns, or [`NONE`].
    pub ts_start: i64,
}

/// Mark price, index price and funding of a derivative. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// What every record starts with.
    pub header: Header,
    /// Units of 1e-9.
    pub mark_price: i64,
    /// Units of 1e-9, or [`NONE`].
    pub index_price: i64,
    /// Rate of the next funding, units of 1e-9, or [`NONE`].
    pub funding_rate: i64,
    /// When it is due, in ns, or [`NONE`].
    pub ts_funding: i64,
}

/// The uniform view that downstream systems know. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Tick {
    /// What every record starts with.
    pub header: Header,
    /// Best bid, units of 1e-9, or [`NONE`].
    pub bid: i64,
    /// Best ask, units of 1e-9, or [`NONE`].
    pub ask: i64,
    /// Price of the last trade, units of 1e-9, or [`NONE`].
    pub last: i64,
    /// Size of the trade that made this tick, units of 1e-8; 0 when a quote made it.
    pub volume: i64,
}

/// An instrument from `valid_from` to `valid_to`. 192 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Definition {
    /// `instrument` is the id that is defined.
    pub header: Header,
    /// Smallest price step, units of 1e-9, or [`NONE`].
    pub tick_size: i64,
    /// Smallest size step, units of 1e-8, or [`NONE`].
    pub lot_size: i64,
    /// First moment of validity, in ns.
    pub valid_from: i64,
    /// End of validity, in ns, or [`NONE`].
    pub valid_to: i64,
    /// The venue's symbol, UTF-8, zero padded.
    pub symbol: [u8; 48],
    /// The canonical symbol, such as `BTC-USDT` or `BTC-USDT-PERP`, UTF-8, zero padded.
    pub canonical: [u8; 40],
    /// Currency in which prices are quoted, ASCII or UTF-8, zero padded.
    pub currency: [u8; 24],
    /// 1 spot, 2 perpetual, 3 future, 4 equity, 5 option, 6 index, 0 not known.
    pub asset_class: u8,
    /// As [`Status::status`].
    pub status: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// Where sizes are numbers of contracts: what one is worth, in `currency`, units of 1e-8. 0
    /// where they are amounts of the asset itself, or it is not known.
    pub contract_size: i64,
}

/// What became of a stream that a recorder asked for. 192 bytes. It names its symbol by itself: one
/// that was refused may never be defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Subscription {
    /// What every record starts with; `instrument` is 0.
    pub header: Header,
    /// The venue's symbol, UTF-8, zero padded; empty for a stream of several.
    pub symbol: [u8; 48],
    /// The venue's name of the stream, UTF-8, zero padded; what is longer is cut.
    pub stream: [u8; 104],
    /// The connection that showed it.
    pub connection: u16,
    /// The line: its connections stand in for each other.
    pub line: u16,
    /// A [`Channel`]; `None` if it is not known which the stream fills.
    pub channel: u8,
    /// A [`SubscriptionState`].
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

// The kinds of records: struct, bytes, accessor. What holds for every kind is made of this list.
macro_rules! records {
    ($($name:ident $size:literal $accessor:ident),+ $(,)?) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size && $size % 64 == 0);
            // SAFETY: `repr(C)` of integers whose sizes add up to the struct's size.
            unsafe impl Plain for $name {}
            impl Record for $name {
                const KIND: Kind = Kind::$name;
            }
        )+

        impl Kind {
            /// Bytes of a record of this kind.
            pub const fn record_size(self) -> usize {
                match self {
                    $(Self::$name => $size,)+
                }
            }
        }

        impl RecordRef<'_> {
            $(
                #[doc = concat!("The record as a [`", stringify!($name), "`], if it is one.")]
                #[inline]
                pub fn $accessor(&self) -> Option<$name> {
                    self.get::<$name>()
                }
            )+
        }
    };
}

// SAFETY: `repr(C)` of integers, 32 bytes without padding.
unsafe impl Plain for Header {}
const _: () = assert!(size_of::<Header>() == 32);

records! {
    Trade 64 as_trade,
    Quote 64 as_quote,
    Level 64 as_level,
    Order 128 as_order,
    Bar 128 as_bar,
    Status 64 as_status,
    Correction 64 as_correction,
    Marker 64 as_marker,
    Mark 64 as_mark,
    Tick 64 as_tick,
    Definition 192 as_definition,
    Subscription 192 as_subscription,
    CorporateAction 128 as_corporate_action,
    Metric 128 as_metric,
    Alert 320 as_alert,
    Imbalance 128 as_imbalance,
}
