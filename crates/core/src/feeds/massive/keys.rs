//! The keys of Massive's messages, and the unit of its times.

use crate::error::Result;
use crate::feeds::events::Venue;
use crate::feeds::fields::{self, long_keys, Slot};
use crate::feeds::scan::Span;

pub use crate::feeds::fields::Values;

long_keys! {
    EV "ev", SYM "sym", BID_EXCHANGE "bx", BP "bp", BS "bs", AP "ap", ASKS_SIZE "as", DS "ds",
    DV "dv", PAIR "pair", FMV "fmv", VAL "val", STATUS "status", RESULTS "results", ERROR "error",
    CONDITIONS "conditions", ID "id", PRICE "price", SEQUENCE "sequence_number",
    SIP "sip_timestamp", PARTICIPANT "participant_timestamp", SIZE "size",
    DECIMAL_SIZE "decimal_size", ASK_PRICE "ask_price", ASK_SIZE "ask_size",
    BID_PRICE "bid_price", BID_SIZE "bid_size", CORRECTION "correction", ADJUSTED "adjusted",
    AUCTION "at",
}

/// Reads the keys of Massive.
pub struct Keys;

impl Venue for Keys {
    fn slot_of(key: &[u8]) -> Option<Slot> {
        slot::of(key)
    }
}

/// Spans of an object's values, by slot.
pub type Fields = fields::Fields<{ slot::COUNT }>;

/// Times of 13 digits are in ms, of 16 in µs, of 19 in ns: what the pages say of the unit and what
/// comes differ from channel to channel.
const UNITS: [(i64, i64); 3] =
    [(0, 1_000_000), (1_000_000_000_000_000, 1_000), (1_000_000_000_000_000_000, 1)];

impl Values<'_> {
    /// A time, in ns, whose digits tell its unit.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn instant(&mut self, span: Span, field: &'static str) -> Result<i64> {
        self.time_in(span, field, &UNITS)
    }
}
