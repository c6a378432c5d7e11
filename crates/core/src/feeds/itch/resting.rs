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

/// One order that rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RestingOrder {
    /// Four decimals.
    pub(super) price: u32,
    pub(super) shares: u32,
    /// Instrument and side.
    owner: u32,
    /// Who entered it; zeros where that is not told.
    pub(super) participant: [u8; 4],
}

impl RestingOrder {
    pub(super) const fn new(
        instrument: u32,
        side: u8,
        price: u32,
        shares: u32,
        participant: [u8; 4],
    ) -> Self {
        let owner = instrument | (side as u32) << SIDE_SHIFT;
        Self { price, shares, owner, participant }
    }

    pub(super) const fn instrument(&self) -> u32 {
        self.owner & ((1 << SIDE_SHIFT) - 1)
    }

    /// Whether it is known on which side it is: its beginning was seen.
    pub(super) const fn has_side(&self) -> bool {
        self.side() != Side::None as u8
    }

    pub(super) const fn side(&self) -> u8 {
        (self.owner >> SIDE_SHIFT) as u8
    }
}

/// One that is open has an instrument.
impl Vacant for RestingOrder {
    const VACANT: Self = Self { price: 0, shares: 0, owner: 0, participant: [0; 4] };

    #[inline(always)]
    fn is_vacant(self) -> bool {
        self.owner == 0
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
        if order.shares == 0 {
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
        let left = before.shares.saturating_sub(shares);
        if left > 0 {
            order.shares = left;
        } else {
            self.orders.remove(id);
        }
        Some(Reduced { before, left, is_excess: shares > before.shares })
    }

    /// Writes all orders, by id, so that equal sets give equal bytes.
    pub(super) fn store(&self, out: &mut Vec<u8>) {
        let mut all: Vec<_> = self.orders.iter().map(|(id, order)| (id, *order)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        out.reserve(8 + all.len() * 24);
        out.extend_from_slice(&(all.len() as u64).to_le_bytes());
        for (id, order) in all {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&order.price.to_le_bytes());
            out.extend_from_slice(&order.shares.to_le_bytes());
            out.extend_from_slice(&order.owner.to_le_bytes());
            out.extend_from_slice(&order.participant);
        }
    }

    /// Reads what `store` wrote from the front of `rest`.
    pub(super) fn load(rest: &mut &[u8]) -> Option<Self> {
        let mut resting = Self::default();
        for _ in 0..u64::from_le_bytes(taken(rest)?) {
            let id = u64::from_le_bytes(taken(rest)?);
            let order = RestingOrder {
                price: u32::from_le_bytes(taken(rest)?),
                shares: u32::from_le_bytes(taken(rest)?),
                owner: u32::from_le_bytes(taken(rest)?),
                participant: taken(rest)?,
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
