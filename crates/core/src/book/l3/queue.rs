//! The orders of one side at one price.

use super::SIDE_SHIFT;
use crate::record::Side;

/// The orders of a level.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Queue {
    pub(super) price: i64,
    pub(super) size: i64,
    pub(super) count: u32,
    pub(super) first: u32,
    pub(super) last: u32,
    /// Instrument and side.
    pub(super) owner: u32,
}

/// The side of that number; none where there is no such side.
#[inline(always)]
pub(super) const fn side_of(number: u8) -> Side {
    const BID: u8 = Side::Bid as u8;
    const ASK: u8 = Side::Ask as u8;
    match number {
        BID => Side::Bid,
        ASK => Side::Ask,
        _ => Side::None,
    }
}

impl Queue {
    /// Whether it is the queue of that side at that price, with an order in it.
    #[inline(always)]
    pub(super) const fn is_at(&self, owner: u32, price: i64) -> bool {
        self.owner == owner && self.price == price && self.count > 0
    }

    pub(super) const fn instrument(&self) -> u32 {
        self.owner & ((1 << SIDE_SHIFT) - 1)
    }

    pub(super) const fn side(&self) -> Side {
        if self.owner >> SIDE_SHIFT == Side::Ask as u32 {
            Side::Ask
        } else {
            Side::Bid
        }
    }
}
