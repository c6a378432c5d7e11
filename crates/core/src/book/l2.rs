//! The price levels of one instrument, and questions about them.
//!
//! All answers are exact. A book does not judge what it is told: where the best bid meets or passes
//! the best ask, [`L2Book::touch`] says so, and nothing is repaired.

use super::ladder::{Ladder, Levels, Pages, PriceLevel};
use crate::numbered;
use crate::record::Side;

numbered! {
    /// How the two best prices stand to each other.
    pub enum Touch {
        /// No price on either side.
        Empty = 0, "empty";
        /// Prices on one side only.
        OneSided = 1, "one_sided";
        /// The best bid is below the best ask.
        Open = 2, "open";
        /// The best bid equals the best ask.
        Locked = 3, "locked";
        /// The best bid is above the best ask.
        Crossed = 4, "crossed";
    }
}

/// How far from the middle of the touch a level may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// Units of 1e-9.
    Price(i64),
    /// Hundredths of a percent of the middle.
    BasisPoints(u32),
}

/// What stands within a [`Distance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Sum of the sizes, units of 1e-8.
    pub size: i128,
    /// Sum of price times size, units of 1e-17.
    pub turnover: i128,
    /// Number of levels.
    pub levels: usize,
}

/// What it takes to fill a size against one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fill {
    /// What the side can fill of it, units of 1e-8: less than asked for if the side is too thin.
    pub size: i64,
    /// Sum of price times size, units of 1e-17.
    pub cost: i128,
    /// The last price reached, units of 1e-9; `None` if nothing is filled.
    pub price_worst: Option<i64>,
}

/// An L2 book: exact prices, any range.
#[derive(Debug, Clone)]
pub struct L2Book {
    sides: [Ladder; 2],
    pages: Pages<i64>,
}

impl Default for L2Book {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for L2Book {
    fn eq(&self, other: &Self) -> bool {
        [Side::Bid, Side::Ask].into_iter().all(|side| {
            self.len(side) == other.len(side) && self.levels(side).eq(other.levels(side))
        })
    }
}

impl Eq for L2Book {}

impl L2Book {
    /// An empty book.
    pub const fn new() -> Self {
        Self { sides: [Ladder::new(true), Ladder::new(false)], pages: Pages::new() }
    }

    /// Sets the size at `price`, in the units of records; 0 or less removes the level.
    #[inline(always)]
    pub fn set(&mut self, side: Side, price: i64, size: i64) {
        let of = &mut self.sides[usize::from(side as u8 == Side::Ask as u8)];
        of.set(&mut self.pages, price, size);
    }

    /// Removes all levels and keeps the memory.
    pub fn clear(&mut self) {
        self.sides.iter_mut().for_each(|side| side.clear(&mut self.pages));
    }

    /// Number of levels of a side.
    pub const fn len(&self, side: Side) -> usize {
        self.side(side).len()
    }

    /// Whether no side has a level.
    pub const fn is_empty(&self) -> bool {
        self.sides[0].len() == 0 && self.sides[1].len() == 0
    }

    /// The size at `price`; 0 if there is no such level.
    pub fn size_at(&self, side: Side, price: i64) -> i64 {
        self.side(side).get(&self.pages, price)
    }

    /// All levels of a side, best first.
    #[inline(always)]
    pub fn levels(&self, side: Side) -> Levels<'_> {
        Levels { walk: self.side(side).walk(&self.pages) }
    }

    /// The best level of a side.
    #[inline]
    pub fn best(&self, side: Side) -> Option<PriceLevel> {
        self.levels(side).next()
    }

    /// Fills `out` with the best levels of a side, and returns how many there were.
    #[inline]
    pub fn top(&self, side: Side, out: &mut [PriceLevel]) -> usize {
        let mut count = 0;
        for (place, level) in out.iter_mut().zip(self.levels(side)) {
            *place = level;
            count += 1;
        }
        count
    }

    /// How the best prices stand to each other.
    pub fn touch(&self) -> Touch {
        match (self.best(Side::Bid), self.best(Side::Ask)) {
            (None, None) => Touch::Empty,
            (Some(bid), Some(ask)) if bid.price < ask.price => Touch::Open,
            (Some(bid), Some(ask)) if bid.price == ask.price => Touch::Locked,
            (Some(_), Some(_)) => Touch::Crossed,
            _ => Touch::OneSided,
        }
    }

    /// What stands on `side` at most `distance` from the middle of the touch. `None` if a side is
    /// empty, so that there is no middle.
    pub fn depth(&self, side: Side, distance: Distance) -> Option<Depth> {
        let (bid, ask) = (self.best(Side::Bid)?.price, self.best(Side::Ask)?.price);
        // Doubled, the middle is whole.
        let middle = i128::from(bid) + i128::from(ask);
        // Of the doubled middle, in hundredths of a percent of a unit: whole for both kinds.
        let reach = match distance {
            Distance::Price(price) => i128::from(price) * 20_000,
            Distance::BasisPoints(points) => middle.abs() * i128::from(points),
        };
        let outward = if side == Side::Ask { 10_000 } else { -10_000 };
        let within = |price: i64| (i128::from(price) * 2 - middle) * outward <= reach;
        let mut depth = Depth::default();
        for level in self.levels(side).take_while(|level| within(level.price)) {
            depth.size += i128::from(level.size);
            depth.turnover += i128::from(level.price) * i128::from(level.size);
            depth.levels += 1;
        }
        Some(depth)
    }

    /// What it costs to fill `size` against the levels of `side`: asks for a buyer.
    pub fn cost(&self, side: Side, size: i64) -> Fill {
        let mut fill = Fill::default();
        for level in self.levels(side) {
            let taken = level.size.min(size - fill.size);
            if taken <= 0 {
                break;
            }
            fill.size += taken;
            fill.cost += i128::from(level.price) * i128::from(taken);
            fill.price_worst = Some(level.price);
        }
        fill
    }

    /// A number that two books share if their levels are equal, and else all but never. It depends
    /// on the levels alone, not on how they came about, and is stored on tapes: never change it.
    ///
    /// The sum over all levels of `mix(mix(price + side * A) + size)`, where `mix` is the finaliser
    /// of SplitMix64 and `A` its increment, modulo 2^64.
    pub fn checksum(&self) -> u64 {
        let mut sum = 0_u64;
        for side in [Side::Bid, Side::Ask] {
            let salt = (side as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for level in self.levels(side) {
                let price = mix((level.price as u64).wrapping_add(salt));
                sum = sum.wrapping_add(mix(price.wrapping_add(level.size as u64)));
            }
        }
        sum
    }

    const fn side(&self, side: Side) -> &Ladder {
        match side {
            Side::Ask => &self.sides[1],
            _ => &self.sides[0],
        }
    }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
