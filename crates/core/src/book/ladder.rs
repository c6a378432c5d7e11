//! One side of an L2 book: every price at which there is size, best first.
//!
//! Prices lie on a grid whose step is the greatest common divisor of all prices that ever stood in
//! the ladder; a price off the grid makes the step finer and the ladder is laid out anew, at most
//! 63 times in its life. Sizes lie in pages of 64 grid steps with one bitmap each. Pages near the
//! touch are found by a plain subtraction; pages too far away for that are kept in a sorted list.
//! So the range is unbounded, memory follows the number of levels, and nothing is allocated once a
//! book has reached its usual size.
//!
//! Numbers of pages and slots rise away from the best price on both sides: bids are mirrored.

use std::num::NonZeroU64;
use std::slice::from_ref;

use crate::id_table::fetch;

/// Slots of a page.
const SLOTS: usize = 64;
/// Most pages that are found by subtraction: 16 bytes each, a million grid steps in all.
const NEAR_PAGES_MAX: usize = 1 << 14;
/// Uses of the sorted list after which the near pages are laid around the touch again.
const FAR_USES_MAX: u32 = 4096;
/// The near pages are laid around the level of this rank, so that a few stray prices in front of
/// the market do not draw them away.
const CENTRE_RANK: usize = 64;

/// A price and the size that stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriceLevel {
    /// Units of 1e-9.
    pub price: i64,
    /// Units of 1e-8; never 0 or less.
    pub size: i64,
}

/// Sizes of 64 neighbouring grid steps; 0 where nothing stands.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Page([i64; SLOTS]);

/// A page's place: a slot holds size if its bit is set. Without bits there is no page.
#[derive(Debug, Clone, Copy, Default)]
struct PageEntry {
    occupied: u64,
    page: u32,
}

/// The step between prices, and what turns a price into a number of steps without dividing.
#[derive(Debug, Clone, Copy)]
struct Grid {
    /// Greatest common divisor of the prices so far; 0 while there was none but 0.
    step: i64,
    /// Inverse of the odd part of `step` modulo 2^64.
    inverse: i64,
    /// Number of factors 2 in `step`.
    shift: u32,
    /// Smallest number of steps whose price fits.
    index_min: i64,
    /// Greatest such number less `index_min`.
    index_range: u64,
}

impl Grid {
    const EMPTY: Self = Self { step: 0, inverse: 1, shift: 0, index_min: 0, index_range: 0 };

    const fn new(step: i64) -> Self {
        let shift = step.trailing_zeros();
        let odd = step >> shift;
        // Newton: an odd number is its own inverse modulo 8; each round doubles the right bits.
        let mut inverse = odd;
        let mut round = 0;
        while round < 5 {
            inverse = inverse.wrapping_mul(2_i64.wrapping_sub(odd.wrapping_mul(inverse)));
            round += 1;
        }
        let index_min = i64::MIN / step;
        let index_range = (i64::MAX / step).wrapping_sub(index_min) as u64;
        Self { step, inverse, shift, index_min, index_range }
    }

    /// How many steps `price` is from 0. `None` if it is not a whole number of them.
    ///
    /// A multiple of the step times the odd part's inverse is the quotient shifted left, without
    /// overflow. Any other price leaves low bits, or a quotient whose price would not fit: if both
    /// checks hold, quotient times step equals the price modulo 2^64 and both fit, so are equal.
    #[inline(always)]
    const fn index(&self, price: i64) -> Option<i64> {
        let product = price.wrapping_mul(self.inverse);
        let index = product >> self.shift;
        if index << self.shift == product
            && index.wrapping_sub(self.index_min) as u64 <= self.index_range
        {
            Some(index)
        } else {
            None
        }
    }

    /// The coarsest grid on which lie all prices of this one, and `price`.
    fn with(&self, price: i64) -> Self {
        let (mut a, mut b) = (self.step.unsigned_abs(), price.unsigned_abs());
        while let Some(divisor) = NonZeroU64::new(b) {
            (a, b) = (b, a % divisor);
        }
        match i64::try_from(a) {
            Ok(0) => Self::EMPTY,
            Ok(step) => Self::new(step),
            // Only i64::MIN has 2^63 as its step.
            Err(_) => Self::new(1 << 62),
        }
    }
}

/// One side of a book, best price first.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    /// 0 for asks; -1 for bids, which turns numbers of steps around.
    mirror: i64,
    grid: Grid,
    /// Number of the first near page; a multiple of 64, as is their count.
    base: i64,
    near: Vec<PageEntry>,
    /// A bit for each near entry that has a page.
    words: Vec<u64>,
    /// A bit for each of `words` that is not 0.
    tops: [u64; NEAR_PAGES_MAX / (SLOTS * 64)],
    /// Pages outside the near ones, in order of number.
    far: Vec<(i64, PageEntry)>,
    far_uses: u32,
    pages: Vec<Page>,
    /// Pages that are not in use; all their sizes are 0.
    free: Vec<u32>,
    levels: usize,
}

impl Ladder {
    /// An empty side; `descending` if the highest price is best.
    pub(super) const fn new(descending: bool) -> Self {
        Self {
            mirror: if descending { -1 } else { 0 },
            grid: Grid::EMPTY,
            base: 0,
            near: Vec::new(),
            words: Vec::new(),
            tops: [0; NEAR_PAGES_MAX / (SLOTS * 64)],
            far: Vec::new(),
            far_uses: 0,
            pages: Vec::new(),
            free: Vec::new(),
            levels: 0,
        }
    }

    /// Number of prices.
    pub(super) const fn len(&self) -> usize {
        self.levels
    }

    /// Removes all prices and keeps the memory.
    pub(super) fn clear(&mut self) {
        for (_, entry) in self.far.drain(..) {
            release(&mut self.pages, &mut self.free, entry);
        }
        for entry in &mut self.near {
            if entry.occupied != 0 {
                release(&mut self.pages, &mut self.free, std::mem::take(entry));
            }
        }
        self.words.fill(0);
        self.tops.fill(0);
        self.levels = 0;
        self.far_uses = 0;
    }

    /// Sets the size at `price`; 0 or less removes the price.
    #[inline(always)]
    pub(super) fn set(&mut self, price: i64, size: i64) {
        let Some(index) = self.grid.index(price) else {
            return self.set_off_grid(price, size);
        };
        let index = index ^ self.mirror;
        let at = (index >> 6).wrapping_sub(self.base) as usize;
        match self.near.get_mut(at) {
            Some(entry) if entry.occupied != 0 => {
                self.levels += put(&mut self.pages, entry, index, size);
                self.levels -= 1;
                if entry.occupied == 0 {
                    self.empty_near(at);
                }
            }
            _ => self.set_new_page(index, size),
        }
    }

    /// Begins to bring into the cache what [`Ladder::set`] looks at first.
    #[inline]
    pub(super) fn fetch(&self) {
        fetch(from_ref(&self.grid), 0);
        fetch(from_ref(&self.near), 0);
        fetch(from_ref(&self.pages), 0);
    }

    /// As [`Ladder::fetch`], a step later: where the page of `price` is.
    #[inline]
    pub(super) fn fetch_page(&self, price: i64) {
        let index = self.grid.index(price).unwrap_or(0) ^ self.mirror;
        fetch(&self.near, (index >> 6).wrapping_sub(self.base) as usize);
    }

    /// As [`Ladder::fetch_page`], a step later: the size at `price`.
    #[inline]
    pub(super) fn fetch_size(&self, price: i64) {
        let index = self.grid.index(price).unwrap_or(0) ^ self.mirror;
        let entry = self.near.get((index >> 6).wrapping_sub(self.base) as usize);
        if let Some(page) = entry.and_then(|entry| self.pages.get(entry.page as usize)) {
            fetch(&page.0, index as usize % SLOTS);
        }
    }

    /// The size at `price`, 0 if nothing stands there.
    pub(super) fn size_at(&self, price: i64) -> i64 {
        let Some(index) = self.grid.index(price) else { return 0 };
        let index = index ^ self.mirror;
        let number = index >> 6;
        let entry = match self.near.get(number.wrapping_sub(self.base) as usize) {
            Some(entry) => *entry,
            None => match self.far.binary_search_by_key(&number, |far| far.0) {
                Ok(at) => self.far[at].1,
                Err(_) => return 0,
            },
        };
        if entry.occupied == 0 {
            return 0;
        }
        self.pages[entry.page as usize].0[index as usize % SLOTS]
    }

    /// All prices, best first.
    #[inline]
    pub(super) fn levels(&self) -> Levels<'_> {
        Levels {
            ladder: self,
            far: 0,
            near: 0,
            bits: 0,
            page: None,
            first_index: 0,
            left: self.levels,
        }
    }

    #[cold]
    #[inline(never)]
    fn set_off_grid(&mut self, price: i64, size: i64) {
        if size <= 0 {
            return;
        }
        let levels: Vec<_> = self.levels().collect();
        self.clear();
        self.near.clear();
        self.words.clear();
        self.grid = self.grid.with(price);
        for level in levels {
            self.set(level.price, level.size);
        }
        self.set(price, size);
    }

    /// Sets a size where there is no near page yet: in a new one, or in a far one.
    #[cold]
    #[inline(never)]
    fn set_new_page(&mut self, index: i64, size: i64) {
        let number = index >> 6;
        if self.near_at(number).is_none() {
            if let Ok(at) = self.far.binary_search_by_key(&number, |far| far.0) {
                return self.set_far(at, index, size);
            }
        }
        if size <= 0 {
            return;
        }
        let page = self.free.pop().unwrap_or_else(|| {
            self.pages.push(Page([0; SLOTS]));
            self.pages.len() as u32 - 1
        });
        let mut entry = PageEntry { occupied: 0, page };
        put(&mut self.pages, &mut entry, index, size);
        self.levels += 1;
        if self.near_at(number).is_none() {
            self.reach(number);
        }
        self.place(number, entry);
    }

    fn set_far(&mut self, at: usize, index: i64, size: i64) {
        let entry = &mut self.far[at].1;
        self.levels += put(&mut self.pages, entry, index, size);
        self.levels -= 1;
        if entry.occupied == 0 {
            let (_, entry) = self.far.remove(at);
            self.free.push(entry.page);
        }
        self.far_uses += 1;
        if self.far_uses >= FAR_USES_MAX {
            self.far_uses = 0;
            self.centre();
        }
    }

    #[cold]
    fn empty_near(&mut self, at: usize) {
        self.free.push(self.near[at].page);
        self.words[at >> 6] &= !(1 << (at & 63));
        if self.words[at >> 6] == 0 {
            self.tops[at >> 12] &= !(1 << (at >> 6 & 63));
        }
    }

    fn near_at(&self, number: i64) -> Option<usize> {
        let at = number.wrapping_sub(self.base) as usize;
        (at < self.near.len()).then_some(at)
    }

    /// Takes an entry with bits in, near or far.
    fn place(&mut self, number: i64, entry: PageEntry) {
        if let Some(at) = self.near_at(number) {
            self.near[at] = entry;
            self.words[at >> 6] |= 1 << (at & 63);
            self.tops[at >> 12] |= 1 << (at >> 6 & 63);
        } else if let Err(at) = self.far.binary_search_by_key(&number, |far| far.0) {
            self.far.insert(at, (number, entry));
        }
    }

    /// Widens the near pages so that they hold `number`, if they can.
    fn reach(&mut self, number: i64) {
        let block = number & !63;
        if self.near.is_empty() {
            return self.lay_near(block - 64, 192);
        }
        let end = self.base + self.near.len() as i64;
        let span = (end.max(block + 64) - self.base.min(block)) as usize;
        if span > NEAR_PAGES_MAX {
            return;
        }
        let length = span.max(self.near.len() * 2).next_multiple_of(64).min(NEAR_PAGES_MAX);
        let base = if block < self.base { end - length as i64 } else { self.base };
        self.lay_near(base, length);
    }

    /// Lays the near pages around the level of rank [`CENTRE_RANK`], if it is not among them.
    fn centre(&mut self) {
        let mut seen = 0;
        let mut walk = self.levels();
        while let Some(number) = walk.next_page() {
            seen += walk.bits.count_ones() as usize;
            if seen >= CENTRE_RANK.min(self.levels) {
                if self.near_at(number).is_none() {
                    let base = (number - NEAR_PAGES_MAX as i64 / 4) & !63;
                    self.lay_near(base, NEAR_PAGES_MAX);
                }
                return;
            }
        }
    }

    /// Makes the near pages those from number `base` on, `length` of them.
    fn lay_near(&mut self, base: i64, length: usize) {
        let near = std::mem::replace(&mut self.near, vec![PageEntry::default(); length]);
        let far = std::mem::take(&mut self.far);
        let old_base = std::mem::replace(&mut self.base, base);
        self.words.clear();
        self.words.resize(length / 64, 0);
        self.tops.fill(0);
        let near = near.into_iter().enumerate().map(|(at, entry)| (old_base + at as i64, entry));
        for (number, entry) in near.chain(far) {
            if entry.occupied != 0 {
                self.place(number, entry);
            }
        }
    }

    /// Place of the first near entry with a page from `from` on.
    #[inline(always)]
    fn next_near(&self, from: usize) -> Option<usize> {
        let word = *self.words.get(from >> 6)? >> (from & 63);
        if word != 0 {
            return Some(from + word.trailing_zeros() as usize);
        }
        let next = (from >> 6) + 1;
        let mut at = next >> 6;
        let mut top = *self.tops.get(at)? & (!0 << (next & 63));
        while top == 0 {
            at += 1;
            top = *self.tops.get(at)?;
        }
        let word = at * 64 + top.trailing_zeros() as usize;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }
}

/// Puts a size into its slot. Returns the change of the number of levels, plus one.
#[inline(always)]
fn put(pages: &mut [Page], entry: &mut PageEntry, index: i64, size: i64) -> usize {
    let slot = index as usize % SLOTS;
    let before = entry.occupied >> slot & 1;
    let after = u64::from(size > 0);
    entry.occupied ^= (before ^ after) << slot;
    pages[entry.page as usize].0[slot] = size.max(0);
    (1 + after - before) as usize
}

fn release(pages: &mut [Page], free: &mut Vec<u32>, entry: PageEntry) {
    pages[entry.page as usize].0.fill(0);
    free.push(entry.page);
}

/// The prices of one side, best first.
#[derive(Debug, Clone)]
pub struct Levels<'a> {
    ladder: &'a Ladder,
    /// Next of the far pages.
    far: usize,
    /// Next place among the near pages.
    near: usize,
    /// Slots of the present page that are still to come.
    bits: u64,
    page: Option<&'a Page>,
    /// Number of steps of the present page's first slot, not mirrored back.
    first_index: i64,
    left: usize,
}

impl<'a> Levels<'a> {
    /// Goes to the next page and returns its number.
    #[inline(always)]
    fn next_page(&mut self) -> Option<i64> {
        let ladder = self.ladder;
        if let Some((number, entry)) = ladder.far.get(self.far) {
            // Far pages in front of the near ones come first; the rest after the last near one.
            if *number < ladder.base || ladder.next_near(self.near).is_none() {
                self.far += 1;
                return Some(self.enter(*number, *entry));
            }
        }
        let at = ladder.next_near(self.near)?;
        self.near = at + 1;
        Some(self.enter(ladder.base + at as i64, ladder.near[at]))
    }

    #[inline(always)]
    fn enter(&mut self, number: i64, entry: PageEntry) -> i64 {
        self.bits = entry.occupied;
        self.page = Some(&self.ladder.pages[entry.page as usize]);
        self.first_index = number << 6;
        number
    }
}

impl Iterator for Levels<'_> {
    type Item = PriceLevel;

    #[inline(always)]
    fn next(&mut self) -> Option<PriceLevel> {
        if self.bits == 0 {
            self.next_page()?;
        }
        let slot = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        self.left -= 1;
        let index = (self.first_index + slot as i64) ^ self.ladder.mirror;
        let size = self.page.map_or(0, |page| page.0[slot % SLOTS]);
        Some(PriceLevel { price: index.wrapping_mul(self.ladder.grid.step), size })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Levels<'_> {}

#[cfg(test)]
mod tests;
