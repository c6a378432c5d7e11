//! The net order imbalance (NOII): what an auction would do if it were held now.

use super::decode::{cross_of, price_units, Task, SHARE_UNITS};
use super::wire::{u32_at, u64_at};
use crate::error::{DecodeReason, Error, Result};
use crate::record::{Cross, Imbalance, Side, NONE};

/// Too few orders to tell, as [`Imbalance::state`].
const INSUFFICIENT: u8 = 1;
/// The auction is paused.
const PAUSED: u8 = 2;

/// Shares of 64 bits, in units of 1e-8.
pub(super) fn wide_shares(message: &[u8], at: usize) -> Result<i64> {
    let shares = i64::try_from(u64_at(message, at)).ok();
    let size = shares.and_then(|shares| shares.checked_mul(SHARE_UNITS));
    size.filter(|&size| size != NONE).ok_or_else(|| Error::decode(DecodeReason::DoesNotFit, at))
}

impl Task<'_> {
    pub(super) fn imbalance(&mut self, message: &[u8]) -> Result<()> {
        let paired_size = wide_shares(message, 11)?;
        let imbalance_size = wide_shares(message, 19)?;
        let instrument = self.instrument(message, 28)?;
        // A price of 0 is none.
        let [far_price, near_price, reference_price] = [36, 40, 44]
            .map(|at| u32_at(message, at))
            .map(|price| if price == 0 { NONE } else { price_units(price) });
        let (side, state) = match message[27] {
            b'B' => (Side::Bid, 0),
            b'S' => (Side::Ask, 0),
            b'O' => (Side::None, INSUFFICIENT),
            b'P' => (Side::None, PAUSED),
            _ => (Side::None, 0),
        };
        let mut code = [0; 8];
        code[..3].copy_from_slice(&[message[48], message[27], message[49]]);
        if code[2] == b' ' {
            code[2] = 0;
        }
        let header = self.head::<Imbalance>(instrument, true);
        self.out.push(&Imbalance {
            paired_size,
            imbalance_size,
            reference_price,
            near_price,
            far_price,
            code,
            side: side as u8,
            cross: cross_of(message[48]) as u8,
            state,
            ..Imbalance::unknown(header)
        });
        Ok(())
    }
}

/// The letters of the cross, the direction and the variation of what was told.
pub(super) fn letters(told: &Imbalance) -> [u8; 3] {
    let or = |letter: u8, other: u8| if letter == 0 { other } else { letter };
    let cross = match Cross::try_from(told.cross) {
        Ok(Cross::Opening) => b'O',
        Ok(Cross::Halt) => b'H',
        Ok(Cross::ExtendedClose) => b'A',
        _ => b'C',
    };
    let direction = match (told.state, Side::try_from(told.side)) {
        (INSUFFICIENT, _) => b'O',
        (PAUSED, _) => b'P',
        (_, Ok(Side::Bid)) => b'B',
        (_, Ok(Side::Ask)) => b'S',
        _ => b'N',
    };
    [or(told.code[0], cross), or(told.code[1], direction), or(told.code[2], b' ')]
}
