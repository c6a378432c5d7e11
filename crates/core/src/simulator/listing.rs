//! What a simulated venue lists: prices, steps and usual sizes of its instruments.

use crate::error::Result;
use crate::instrument::Instruments;
use crate::record::{padded, Definition};

/// One instrument as listed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The venue's symbol, upper case.
    pub symbol: String,
    /// The symbol that all venues of such an instrument share.
    pub canonical: String,
    /// The asset that pays.
    pub currency: String,
    /// As in a [`Definition`].
    pub asset_class: u8,
    /// Units of 1e-9.
    pub tick: i64,
    /// Units of 1e-8.
    pub lot: i64,
    /// Where the market opens, in ticks.
    pub price: i64,
    /// A usual size, in lots.
    pub size: i64,
    /// As in a [`Definition`].
    pub contract_size: i64,
}

impl Listing {
    /// Defines the instrument from `ts` on, for the feed of that number, and returns its id.
    ///
    /// # Errors
    /// `Error::Decode` (`TooLong`) for a symbol that fits no record.
    pub fn define(&self, instruments: &mut Instruments, feed: u8, ts: i64) -> Result<u32> {
        let id = instruments.define(feed, &self.symbol, ts)?;
        if let Some(known) = instruments.get(id) {
            let definition = Definition {
                tick_size: self.tick,
                lot_size: self.lot,
                canonical: padded(&self.canonical).unwrap_or([0; 40]),
                currency: padded(&self.currency).unwrap_or([0; 24]),
                asset_class: self.asset_class,
                status: 1,
                contract_size: self.contract_size,
                ..*known
            };
            instruments.update(&definition);
        }
        Ok(id)
    }
}
