//! The net order imbalance (`NOI`): what an auction would do if it were held now.

use super::decode::Task;
use super::keys::{slot, Fields};
use crate::error::Result;
use crate::feeds::events::EQUITY;
use crate::record::{padded_or_cut, Cross, Imbalance, Side, NONE};

impl Task<'_> {
    /// The venue tells no side; a size below zero, which it does not describe, is one to sell.
    pub(super) fn imbalance(&mut self, fields: &Fields) -> Result<()> {
        let of = |slot| fields.find(self.bytes, slot);
        let (kind, size, paired, price) = (of(b'a'), of(b'o'), of(b'p'), of(b'b'));
        let mut values = self.values();
        let mut code = [0; 8];
        if let Some(span) = kind {
            code = padded_or_cut(std::str::from_utf8(values.text(span)?).unwrap_or_default());
        }
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let size = size.map_or(Ok(NONE), |at| values.signed_size(at, "imbalance_size"))?;
        let paired_size = paired.map_or(Ok(NONE), |at| values.size(at, "paired_size"))?;
        let near_price = price.map_or(Ok(NONE), |at| values.price(at, "near_price"))?;
        let auction_time = values.id_or_zero(fields, slot::AUCTION, "auction_time")?;
        let sequence = values.id_or_zero(fields, b'i', "sequence")?;
        let instrument = self.named(fields.need(b'T')?, ts, EQUITY)?;
        let header = self.head::<Imbalance>(instrument, ts, sequence);
        self.out.push(&Imbalance {
            paired_size,
            imbalance_size: size.saturating_abs(),
            near_price,
            code,
            // One that is no time of a day is not told.
            auction_time: u16::try_from(auction_time).ok().filter(|&at| at < 2400).unwrap_or(0),
            side: if size < 0 { Side::Ask } else { Side::None } as u8,
            cross: cross_of(code[0]) as u8,
            ..Imbalance::unknown(header)
        });
        Ok(())
    }
}

/// The auction of the venue's letter: core open, re-open, and the three of the close.
const fn cross_of(letter: u8) -> Cross {
    match letter {
        b'M' => Cross::Opening,
        b'H' => Cross::Halt,
        b'C' | b'P' | b'R' => Cross::Closing,
        0 => Cross::None,
        _ => Cross::Other,
    }
}
