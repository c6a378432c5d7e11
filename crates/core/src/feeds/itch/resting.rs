//! The orders that are open, as far as later messages ask for them: side, price, shares.
//!
//! The latest orders lie in the order of their ids, 16 bytes for each id; older ones take 24 bytes
//! in a table that is between a third and two thirds full. What a message takes away is never more
//! than is there.

use super::taken;
use crate::id_table::{RecentTable, Vacant};
use crate::record::Side;

/// Shift of the side above the instrument's number.
const SIDE_SHIFT: u32 = 30;

/// One order that rests. It is two words, so that it is read and written by two instructions: one
/// that is put together of parts in memory and read as a whole right after waits for the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RestingOrder {
    /// Price (four decimals), and above it the shares.
    amount: u64,
    /// Instrument and side, and above them who entered it; zeros where that is not told.
    owner: u64,
}

impl RestingOrder {
    #[inline(always)]
    pub(super) const fn new(
        instrument: u32,
        side: u8,
        price: u32,
        shares: u32,
        participant: [u8; 4],
    ) -> Self {
        let owner = instrument | (side as u32) << SIDE_SHIFT;
        let participant = u32::from_le_bytes(participant);
        Self {
            amount: price as u64 | (shares as u64) << 32,
            owner: owner as u64 | (participant as u64) << 32,
        }
    }

    /// Four decimals.
    pub(super) const fn price(&self) -> u32 {
        self.amount as u32
    }

    pub(super) const fn shares(&self) -> u32 {
        (self.amount >> 32) as u32
    }

    pub(super) const fn instrument(&self) -> u32 {
        self.owner as u32 & ((1 << SIDE_SHIFT) - 1)
    }

    /// Whether it is known on which side it is: its beginning was seen.
    pub(super) const fn has_side(&self) -> bool {
        self.side() != Side::None as u8
    }

    pub(super) const fn side(&self) -> u8 {
        (self.owner as u32 >> SIDE_SHIFT) as u8
    }

    /// Who entered it.
    pub(super) const fn participant(&self) -> [u8; 4] {
        ((self.owner >> 32) as u32).to_le_bytes()
    }

    /// The same with that many shares.
    const fn with_shares(self, shares: u32) -> Self {
        Self { amount: self.price() as u64 | (shares as u64) << 32, owner: self.owner }
    }
}

/// One that is open has an instrument.
impl Vacant for RestingOrder {
    const VACANT: Self = Self { amount: 0, owner: 0 };

    #[inline(always)]
    fn is_vacant(self) -> bool {
        self.owner as u32 == 0
    }
}

/// What became of an order from which shares were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reduced {
    /// As it was before.
    pub(super) before: RestingOrder,
    /// Shares left.
    pub(super) left: u32,
    /// More was to be taken than was there.
    pub(super) is_excess: bool,
}

/// All open orders of the market.
#[derive(Debug, Default)]
pub(super) struct Resting {
    orders: RecentTable<RestingOrder>,
}

impl Resting {
    pub(super) const fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn clear(&mut self) {
        self.orders.clear();
    }

    /// Puts an order in; one without shares is none. False if one of that id is open already: the
    /// new one takes its place.
    #[inline(always)]
    pub(super) fn add(&mut self, id: u64, order: RestingOrder) -> bool {
        if order.shares() == 0 {
            return self.orders.remove(id).is_none();
        }
        self.orders.insert(id, order).is_none()
    }

    /// Begins to bring the place of an order into the cache.
    #[inline]
    pub(super) fn fetch(&self, id: u64) {
        self.orders.fetch(id);
    }

    /// Takes an order out.
    #[inline]
    pub(super) fn remove(&mut self, id: u64) -> Option<RestingOrder> {
        self.orders.remove(id)
    }

    /// Takes `shares` from an order, which goes when nothing is left.
    #[inline]
    pub(super) fn reduce(&mut self, id: u64, shares: u32) -> Option<Reduced> {
        let order = self.orders.get_mut(id)?;
        let before = *order;
        let left = before.shares().saturating_sub(shares);
        if left > 0 {
            *order = before.with_shares(left);
        } else {
            self.orders.remove(id);
        }
        Some(Reduced { before, left, is_excess: shares > before.shares() })
    }

    /// Writes all orders, by id, so that equal sets give equal bytes.
    pub(super) fn store(&self, out: &mut Vec<u8>) {
        let mut all: Vec<_> = self.orders.iter().map(|(id, order)| (id, *order)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        out.reserve(8 + all.len() * 24);
        out.extend_from_slice(&(all.len() as u64).to_le_bytes());
        for (id, order) in all {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&order.amount.to_le_bytes());
            out.extend_from_slice(&order.owner.to_le_bytes());
        }
    }

    /// Reads what `store` wrote from the front of `rest`.
    pub(super) fn load(rest: &mut &[u8]) -> Option<Self> {
        let mut resting = Self::default();
        for _ in 0..u64::from_le_bytes(taken(rest)?) {
            let id = u64::from_le_bytes(taken(rest)?);
            let (amount, owner) = (taken(rest)?, taken(rest)?);
            let order = RestingOrder {
                amount: u64::from_le_bytes(amount),
                owner: u64::from_le_bytes(owner),
            };
            if order.is_vacant() {
                return None;
            }
            resting.orders.insert(id, order);
        }
        Some(resting)
    }

    /// The side that `letter` stands for.
    pub(super) const fn side_of(letter: u8) -> Option<u8> {
        match letter {
            b'B' => Some(Side::Bid as u8),
            b'S' => Some(Side::Ask as u8),
            _ => None,
        }
    }
}
