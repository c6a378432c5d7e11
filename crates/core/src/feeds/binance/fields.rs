//! The keys of Binance's messages, and the forms of its values.

use crate::error::Result;
use crate::feeds::fields::{self, long_keys, Slot};
use crate::feeds::scan::Span;
use crate::record::NONE;

pub use crate::feeds::cursor::MICROSECONDS_MIN;
pub use crate::feeds::fields::Values;

long_keys! {
    PU "pu", STREAM "stream", DATA "data", LAST_UPDATE_ID "lastUpdateId", BIDS "bids",
    ASKS "asks", RESULT "result", ERROR "error", CODE "code", MSG "msg", EVENT "event",
    ID "id", PRICE "price", QTY "qty", TIME "time", IS_BUYER_MAKER "isBuyerMaker",
    SYMBOL "symbol", SYMBOLS "symbols", STATUS "status", CONTRACT_STATUS "contractStatus",
    BASE_ASSET "baseAsset", QUOTE_ASSET "quoteAsset", CONTRACT_TYPE "contractType",
    FILTERS "filters", FILTER_TYPE "filterType", TICK_SIZE "tickSize", STEP_SIZE "stepSize",
    BID_PRICE "bidPrice", BID_QTY "bidQty", ASK_PRICE "askPrice", ASK_QTY "askQty",
    SERVER_TIME "serverTime", CONTRACT_SIZE "contractSize",
}

/// Spans of an object's values, by slot.
pub type Fields = fields::Fields<{ slot::COUNT }>;

impl Values<'_> {
    /// A time, in ns, from ms or µs.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn time(&mut self, span: Span, field: &'static str) -> Result<i64> {
        self.time_in(span, field, &[(0, 1_000_000), (MICROSECONDS_MIN, 1_000)])
    }

    /// A price that may be absent, `null` or empty: [`NONE`] then.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn price_or_none(
        &mut self,
        fields: &Fields,
        slot: Slot,
        field: &'static str,
    ) -> Result<i64> {
        match fields.find(self.bytes, slot) {
            Some(span) => self.price(span, field),
            None => Ok(NONE),
        }
    }

    /// A time that may be absent, `null` or empty: `None` then.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn time_or_none(
        &mut self,
        fields: &Fields,
        slot: Slot,
        field: &'static str,
    ) -> Result<Option<i64>> {
        fields.find(self.bytes, slot).map(|span| self.time(span, field)).transpose()
    }
}
