//! One side of a book: every price at which something stands, best first.
//!
//! What stands at a price is a size in a book by price, and a queue of orders in one of orders.
//! Prices lie on a grid whose step is the greatest common divisor of all prices that ever stood in
//! the ladder; a price off the grid makes the step finer and the ladder is laid out anew, at most
//! 63 times in its life. What stands there lies in pages of 64 grid steps with one bitmap each.
//! Pages near the touch are found by a plain subtraction; pages too far away for that are kept in a
//! sorted list. So the range is unbounded, memory follows the number of levels, and nothing is
//! allocated once a book has reached its usual size.
//!
//! Numbers of pages and slots rise away from the best price on both sides: bids are mirrored.

use std::slice::from_ref;

use self::grid::Grid;
use crate::id_table::{fetch, push_to_large};

mod grid;

/// Slots of a page.
const SLOTS: usize = 64;
/// Fewest pages that are found by subtraction, as most stocks of a market need no more: what is
/// small for each of them stays in the cache for all.
const NEAR_PAGES_MIN: usize = 8;
/// Most such pages: 16 bytes each, a million grid steps in all.
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

/// What may stand at a price.
pub(super) trait Standing: Copy {
    /// What stands where nothing does.
    const NOTHING: Self;

    /// Whether it is something.
    fn is_something(self) -> bool;
}

/// A size, units of 1e-8.
impl Standing for i64 {
    const NOTHING: Self = 0;

    #[inline(always)]
    fn is_something(self) -> bool {
        self > 0
    }
}

/// The number of a queue.
impl Standing for u32 {
    const NOTHING: Self = u32::MAX;

    #[inline(always)]
    fn is_something(self) -> bool {
        self != Self::NOTHING
    }
}

/// What stands at 64 neighbouring grid steps.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Page<V>([V; SLOTS]);

/// Pages of any number of ladders.
#[derive(Debug, Clone)]
pub(super) struct Pages<V> {
    all: Vec<Page<V>>,
    /// Those that are not in use: nothing stands in them.
    free: Vec<u32>,
}

impl<V: Standing> Pages<V> {
    /// No pages.
    pub(super) const fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }

    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            push_to_large(&mut self.all, Page([V::NOTHING; SLOTS]));
            self.all.len() as u32 - 1
        })
    }

    fn release(&mut self, entry: PageEntry) {
        self.all[entry.page as usize].0.fill(V::NOTHING);
        self.free.push(entry.page);
    }

    /// Puts something, or nothing, into its slot. Returns the change of the number of levels, plus
    /// one.
    #[inline(always)]
    fn put(&mut self, entry: &mut PageEntry, index: i64, standing: V) -> usize {
        let slot = index as usize % SLOTS;
        let before = entry.occupied >> slot & 1;
        let after = u64::from(standing.is_something());
        entry.occupied ^= (before ^ after) << slot;
        let kept = if standing.is_something() { standing } else { V::NOTHING };
        self.all[entry.page as usize].0[slot] = kept;
        (1 + after - before) as usize
    }
}

/// A page's place: something stands in a slot if its bit is set. Without bits there is no page.
#[derive(Debug, Clone, Copy, Default)]
struct PageEntry {
    occupied: u64,
    page: u32,
}

/// One side of a book, best price first. Its pages are among those that every call is given.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Ladder {
    // What every look-up needs lies together, in 64 bytes. No more alignment is asked for than 8: a
    // book may lie within an object that another language allocates.
    near: Vec<PageEntry>,
    /// Number of the first near page; their count is a multiple of [`NEAR_PAGES_MIN`].
    base: i64,
    levels: usize,
    grid: Grid,
    /// A bit for each near entry that has a page.
    words: Vec<u64>,
    /// A bit for each of `words` that is not 0.
    tops: [u64; NEAR_PAGES_MAX / (SLOTS * 64)],
    /// Pages outside the near ones, in order of number.
    far: Vec<(i64, PageEntry)>,
    far_uses: u32,
}

impl Ladder {
    /// An empty side; `descending` if the highest price is best.
    pub(super) const fn new(descending: bool) -> Self {
        Self {
            grid: Grid::empty(if descending { -1 } else { 0 }),
            base: 0,
            near: Vec::new(),
            words: Vec::new(),
            tops: [0; NEAR_PAGES_MAX / (SLOTS * 64)],
            far: Vec::new(),
            far_uses: 0,
            levels: 0,
        }
    }

    /// Number of prices.
    pub(super) const fn len(&self) -> usize {
        self.levels
    }

    /// Removes all prices and keeps the memory.
    pub(super) fn clear<V: Standing>(&mut self, pages: &mut Pages<V>) {
        for (_, entry) in self.far.drain(..) {
            pages.release(entry);
        }
        for entry in &mut self.near {
            if entry.occupied != 0 {
                pages.release(std::mem::take(entry));
            }
        }
        self.words.fill(0);
        self.tops.fill(0);
        self.levels = 0;
        self.far_uses = 0;
    }

    /// Sets what stands at `price`; nothing removes the price.
    #[inline(always)]
    pub(super) fn set<V: Standing>(&mut self, pages: &mut Pages<V>, price: i64, standing: V) {
        let Some(index) = self.grid.index(price) else {
            return self.set_off_grid(pages, price, standing);
        };
        let index = index ^ self.grid.mirror();
        let at = (index >> 6).wrapping_sub(self.base) as usize;
        match self.near.get_mut(at) {
            Some(entry) if entry.occupied != 0 => {
                self.levels += pages.put(entry, index, standing);
                self.levels -= 1;
                if entry.occupied == 0 {
                    self.empty_near(pages, at);
                }
            }
            _ => self.set_new_page(pages, index, standing),
        }
    }

    /// Begins to bring into the cache what [`Ladder::set`] looks at first.
    #[inline]
    pub(super) fn fetch(&self) {
        fetch(from_ref(self), 0);
    }

    /// As [`Ladder::fetch`], a step later: where the page of `price` is.
    #[inline]
    pub(super) fn fetch_page(&self, price: i64) {
        let index = self.grid.index(price).unwrap_or(0) ^ self.grid.mirror();
        fetch(&self.near, (index >> 6).wrapping_sub(self.base) as usize);
    }

    /// As [`Ladder::fetch_page`], a step later: what stands at `price`.
    #[inline]
    pub(super) fn fetch_standing<V: Standing>(&self, pages: &Pages<V>, price: i64) {
        let index = self.grid.index(price).unwrap_or(0) ^ self.grid.mirror();
        let entry = self.near.get((index >> 6).wrapping_sub(self.base) as usize);
        if let Some(page) = entry.and_then(|entry| pages.all.get(entry.page as usize)) {
            fetch(&page.0, index as usize % SLOTS);
        }
    }

    /// What stands at `price`.
    #[inline]
    pub(super) fn get<V: Standing>(&self, pages: &Pages<V>, price: i64) -> V {
        let Some(index) = self.grid.index(price) else { return V::NOTHING };
        let index = index ^ self.grid.mirror();
        match self.near.get((index >> 6).wrapping_sub(self.base) as usize) {
            Some(entry) if entry.occupied == 0 => V::NOTHING,
            Some(entry) => pages.all[entry.page as usize].0[index as usize % SLOTS],
            None => self.get_far(pages, index),
        }
    }

    #[cold]
    fn get_far<V: Standing>(&self, pages: &Pages<V>, index: i64) -> V {
        match self.far.binary_search_by_key(&(index >> 6), |far| far.0) {
            Ok(at) => pages.all[self.far[at].1.page as usize].0[index as usize % SLOTS],
            Err(_) => V::NOTHING,
        }
    }

    /// All prices and what stands there, best first.
    #[inline]
    pub(super) fn walk<'a, V: Standing>(&'a self, pages: &'a Pages<V>) -> Walk<'a, V> {
        Walk {
            ladder: self,
            pages,
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
    fn set_off_grid<V: Standing>(&mut self, pages: &mut Pages<V>, price: i64, standing: V) {
        if !standing.is_something() {
            return;
        }
        let levels: Vec<_> = self.walk(pages).collect();
        self.clear(pages);
        self.near.clear();
        self.words.clear();
        self.grid = self.grid.with(price);
        for (price, standing) in levels {
            self.set(pages, price, standing);
        }
        self.set(pages, price, standing);
    }

    /// Sets a size where there is no near page yet: in a new one, or in a far one.
    #[cold]
    #[inline(never)]
    fn set_new_page<V: Standing>(&mut self, pages: &mut Pages<V>, index: i64, standing: V) {
        let number = index >> 6;
        if self.near_at(number).is_none() {
            if let Ok(at) = self.far.binary_search_by_key(&number, |far| far.0) {
                return self.set_far(pages, at, index, standing);
            }
        }
        if !standing.is_something() {
            return;
        }
        let mut entry = PageEntry { occupied: 0, page: pages.take() };
        pages.put(&mut entry, index, standing);
        self.levels += 1;
        if self.near_at(number).is_none() {
            self.reach(number);
        }
        self.place(number, entry);
    }

    fn set_far<V: Standing>(&mut self, pages: &mut Pages<V>, at: usize, index: i64, standing: V) {
        let entry = &mut self.far[at].1;
        self.levels += pages.put(entry, index, standing);
        self.levels -= 1;
        if entry.occupied == 0 {
            let (_, entry) = self.far.remove(at);
            pages.free.push(entry.page);
        }
        self.far_uses += 1;
        if self.far_uses >= FAR_USES_MAX {
            self.far_uses = 0;
            self.centre(pages);
        }
    }

    #[cold]
    fn empty_near<V: Standing>(&mut self, pages: &mut Pages<V>, at: usize) {
        pages.free.push(self.near[at].page);
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
        const STEP: i64 = NEAR_PAGES_MIN as i64;
        let block = number & -STEP;
        if self.near.is_empty() {
            return self.lay_near(number - STEP / 2, NEAR_PAGES_MIN);
        }
        let end = self.base + self.near.len() as i64;
        let span = (end.max(block + STEP) - self.base.min(block)) as usize;
        if span > NEAR_PAGES_MAX {
            return;
        }
        let length = span.max(self.near.len() * 2).next_multiple_of(NEAR_PAGES_MIN);
        let length = length.min(NEAR_PAGES_MAX);
        let base = if block < self.base { end - length as i64 } else { self.base };
        self.lay_near(base, length);
    }

    /// Lays the near pages around the level of rank [`CENTRE_RANK`], if it is not among them.
    fn centre<V: Standing>(&mut self, pages: &Pages<V>) {
        let mut seen = 0;
        let mut walk = self.walk(pages);
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
        self.words.resize(length.div_ceil(64), 0);
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

/// The prices of one side and what stands there, best first.
#[derive(Debug, Clone)]
pub(super) struct Walk<'a, V> {
    ladder: &'a Ladder,
    pages: &'a Pages<V>,
    /// Next of the far pages.
    far: usize,
    /// Next place among the near pages.
    near: usize,
    /// Slots of the present page that are still to come.
    bits: u64,
    page: Option<&'a Page<V>>,
    /// Number of steps of the present page's first slot, not mirrored back.
    first_index: i64,
    left: usize,
}

impl<V: Standing> Walk<'_, V> {
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
        self.page = Some(&self.pages.all[entry.page as usize]);
        self.first_index = number << 6;
        number
    }
}

impl<V: Standing> Iterator for Walk<'_, V> {
    type Item = (i64, V);

    #[inline(always)]
    fn next(&mut self) -> Option<(i64, V)> {
        if self.bits == 0 {
            self.next_page()?;
        }
        let slot = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        self.left -= 1;
        let index = (self.first_index + slot as i64) ^ self.ladder.grid.mirror();
        let standing = self.page.map_or(V::NOTHING, |page| page.0[slot % SLOTS]);
        Some((index.wrapping_mul(self.ladder.grid.step), standing))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<V: Standing> ExactSizeIterator for Walk<'_, V> {}

/// The prices of one side, best first.
#[derive(Debug, Clone)]
pub struct Levels<'a> {
    pub(super) walk: Walk<'a, i64>,
}

impl Iterator for Levels<'_> {
    type Item = PriceLevel;

    #[inline(always)]
    fn next(&mut self) -> Option<PriceLevel> {
        self.walk.next().map(|(price, size)| PriceLevel { price, size })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.walk.size_hint()
    }
}

impl ExactSizeIterator for Levels<'_> {}

#[cfg(test)]
mod tests;
