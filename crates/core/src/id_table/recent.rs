//! What belongs to each id of a set whose ids mostly rise, such as the open orders of a market.
//!
//! Venues number orders in turn, and most orders live for moments. The latest ids are a window that
//! is indexed by the id itself: no hash, no comparison, and what is asked for most lies side by
//! side in few pages of memory. Ids that the window left behind, and those that come far from it,
//! are in an [`IdTable`]. No id within the window is in that table. Where most ids come elsewhere,
//! the window moves there. It becomes wider as long as much of what it leaves behind is still open.
//! Each value that is put in pays for some ids that the window may pass, so that no order of ids
//! makes it do more than that.

use super::{fetch, prefer_huge_pages, IdTable};

/// Ids of the window at first, and at most.
const IDS_MIN: usize = 1 << 10;
const IDS_MAX: usize = 1 << 20;
/// The window moves on by one of so many parts.
const PARTS: usize = 16;
/// It gets wider where more than one in so many ids of a part that it leaves is in use.
const LEFT_MAX: usize = 8;
/// The last id at which a window may begin: none goes around at the greatest id.
const BASE_MAX: u64 = u64::MAX - IDS_MAX as u64;
/// Ids that the window may pass for each value that is put in.
const PAID: u64 = 16;
/// The window moves elsewhere once one in so many of those to be looked through was put there.
const OUTSIDE_PART: usize = 4;
/// How many ids ahead the place of one is fetched that goes into the other table.
const MOVED: usize = 16;

/// A value that can say that there is none.
pub trait Vacant: Copy {
    /// No value.
    const VACANT: Self;

    /// Whether it is none.
    fn is_vacant(self) -> bool;
}

/// Numbers of places: the greatest stands for none.
impl Vacant for u32 {
    const VACANT: Self = Self::MAX;

    #[inline(always)]
    fn is_vacant(self) -> bool {
        self == Self::MAX
    }
}

/// Values by id; the latest ids are the quickest.
#[derive(Debug, Clone)]
pub struct RecentTable<V> {
    /// By the low bits of the id; as many as a power of two, or none.
    window: Vec<V>,
    /// The first id of the window.
    base: u64,
    /// Values in the window.
    count: usize,
    rest: IdTable<V>,
    /// Values of `rest` whose ids the window will come to.
    ahead: usize,
    /// Values put into `rest` since one was put into the window.
    outside: usize,
    /// Ids that the window may pass.
    paid: u64,
}

impl<V: Vacant + Default> Default for RecentTable<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Vacant + Default> RecentTable<V> {
    /// An empty table.
    pub const fn new() -> Self {
        let rest = IdTable::new();
        Self { window: Vec::new(), base: 0, count: 0, rest, ahead: 0, outside: 0, paid: 0 }
    }

    /// Number of values.
    pub const fn len(&self) -> usize {
        self.count + self.rest.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all values and keeps the memory.
    pub fn clear(&mut self) {
        if self.count > 0 {
            self.window.fill(V::VACANT);
        }
        if !self.rest.is_empty() {
            self.rest.clear();
        }
        (self.count, self.ahead, self.outside) = (0, 0, 0);
    }

    /// The place of `id` in the window, if it is one of its ids.
    #[inline(always)]
    fn place(&self, id: u64) -> Option<usize> {
        let length = self.window.len();
        let is_inside = id.wrapping_sub(self.base) < length as u64;
        is_inside.then_some(id as usize & length.wrapping_sub(1))
    }

    /// Whether the window, which moves on to greater ids, will come to `id`, which is not in it.
    #[inline]
    const fn is_ahead(&self, id: u64) -> bool {
        id >= self.base
    }

    /// The value of `id`.
    #[inline(always)]
    pub fn get(&self, id: u64) -> Option<&V> {
        match self.place(id) {
            Some(at) => Some(&self.window[at]).filter(|value| !value.is_vacant()),
            None => self.rest.get(id),
        }
    }

    /// The value of `id`, to be changed; it must not become vacant.
    #[inline(always)]
    pub fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        match self.place(id) {
            Some(at) => Some(&mut self.window[at]).filter(|value| !value.is_vacant()),
            None => self.rest.get_mut(id),
        }
    }

    /// Puts `value` in for `id`, and returns the one that was there. It must not be vacant.
    #[inline(always)]
    pub fn insert(&mut self, id: u64, value: V) -> Option<V> {
        match self.place(id) {
            Some(at) => self.put(at, value),
            None => self.insert_outside(id, value),
        }
    }

    #[inline(always)]
    fn put(&mut self, at: usize, value: V) -> Option<V> {
        debug_assert!(!value.is_vacant());
        self.outside = 0;
        self.paid += PAID;
        let before = std::mem::replace(&mut self.window[at], value);
        self.count += usize::from(before.is_vacant());
        (!before.is_vacant()).then_some(before)
    }

    #[cold]
    fn insert_outside(&mut self, id: u64, value: V) -> Option<V> {
        if !self.reach(id) {
            self.outside += 1;
            self.paid += PAID;
            let before = self.rest.insert(id, value);
            self.ahead += usize::from(before.is_none() && self.is_ahead(id));
            return before;
        }
        let at = self.place(id).expect("the window was moved to it");
        self.put(at, value)
    }

    /// Moves the window so that `id` is in it, if that is worth it.
    fn reach(&mut self, id: u64) -> bool {
        let length = self.window.len();
        if id > BASE_MAX {
            return false;
        }
        if self.is_empty() {
            self.begin(id);
            return true;
        }
        if id >= self.base && id - self.base < 2 * length as u64 {
            let passed = id - self.base - length as u64 + (length / PARTS) as u64;
            if passed > self.paid {
                return false;
            }
            self.paid -= passed;
            while self.place(id).is_none() {
                self.advance();
            }
            return true;
        }
        let looked_through = length.max(self.rest.slots());
        if self.outside < IDS_MIN.max(looked_through / OUTSIDE_PART) {
            return false;
        }
        self.move_to(id);
        true
    }

    /// Takes `id` out, and returns its value.
    #[inline(always)]
    pub fn remove(&mut self, id: u64) -> Option<V> {
        match self.place(id) {
            Some(at) => {
                let value = std::mem::replace(&mut self.window[at], V::VACANT);
                self.count -= usize::from(!value.is_vacant());
                (!value.is_vacant()).then_some(value)
            }
            None => {
                let value = self.rest.remove(id)?;
                self.ahead -= usize::from(self.is_ahead(id));
                Some(value)
            }
        }
    }

    /// Begins to bring the place of `id` into the cache, for a look-up some steps ahead.
    #[inline(always)]
    pub fn fetch(&self, id: u64) {
        match self.place(id) {
            Some(at) => fetch(&self.window, at),
            None => self.rest.fetch(id),
        }
    }

    /// All values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let ids = (0..self.window.len() as u64).map(|at| self.base + at);
        let inside = ids.map(|id| (id, &self.window[id as usize & (self.window.len() - 1)]));
        inside.filter(|(_, value)| !value.is_vacant()).chain(self.rest.iter())
    }

    /// Lays the window of an empty table where `id` is its first.
    fn begin(&mut self, id: u64) {
        self.open();
        (self.base, self.outside) = (id, 0);
    }

    fn open(&mut self) {
        if self.window.is_empty() {
            self.window = vec![V::VACANT; IDS_MIN];
        }
    }

    /// Leaves the first part of the window behind, or makes it wider.
    fn advance(&mut self) {
        let (length, part) = (self.window.len(), self.window.len() / PARTS);
        if length < IDS_MAX {
            let first = self.base as usize;
            let is_used = |at: &usize| !self.window[(first + at) & (length - 1)].is_vacant();
            if (0..part).filter(is_used).count() * LEFT_MAX > part {
                return self.widen();
            }
        }
        self.leave(part);
        let end = self.base + length as u64;
        self.base += part as u64;
        self.take_in(end, part);
    }

    fn widen(&mut self) {
        let length = self.window.len();
        let mut window = Vec::with_capacity(2 * length);
        prefer_huge_pages(&window);
        window.resize(2 * length, V::VACANT);
        for at in 0..length as u64 {
            let id = (self.base + at) as usize;
            window[id & (2 * length - 1)] = self.window[id & (length - 1)];
        }
        self.window = window;
        self.take_in(self.base + length as u64, length);
    }

    /// Lays the window where `id` is its first, while others are elsewhere.
    fn move_to(&mut self, id: u64) {
        self.open();
        let length = self.window.len();
        self.leave(length);
        (self.base, self.outside) = (id, 0);
        self.ahead = self.rest.iter().filter(|(id, _)| self.is_ahead(*id)).count();
        self.take_in(id, length);
    }

    /// Moves the values of the first `count` ids of the window into the other table. The place of
    /// each there is fetched while those before it are put in.
    fn leave(&mut self, count: usize) {
        let mask = self.window.len() - 1;
        let (mut moved, mut found) = ([(0, V::VACANT); MOVED], 0);
        for at in 0..count as u64 {
            let id = self.base + at;
            let place = &mut self.window[id as usize & mask];
            if place.is_vacant() {
                continue;
            }
            let value = std::mem::replace(place, V::VACANT);
            self.rest.fetch(id);
            let (id, value) = std::mem::replace(&mut moved[found % MOVED], (id, value));
            if found >= MOVED {
                self.rest.insert(id, value);
            }
            found += 1;
        }
        for at in found.saturating_sub(MOVED)..found {
            let (id, value) = moved[at % MOVED];
            self.rest.insert(id, value);
        }
        self.count -= found;
    }

    /// Takes the values of `count` ids from `first` on, which are in the window now, out of the
    /// other table.
    fn take_in(&mut self, first: u64, count: usize) {
        let mask = self.window.len() - 1;
        for at in 0..count as u64 {
            if self.ahead == 0 {
                break;
            }
            let id = first + at;
            if let Some(value) = self.rest.remove(id) {
                self.window[id as usize & mask] = value;
                self.count += 1;
                self.ahead -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// No id of the window is in the other table, and both are counted.
    fn check(table: &RecentTable<u32>) {
        let ahead = table.rest.iter().filter(|(id, _)| table.is_ahead(*id)).count();
        assert_eq!(table.ahead, ahead);
        assert!(table.rest.iter().all(|(id, _)| table.place(id).is_none()));
        assert_eq!(table.count, table.window.iter().filter(|value| !value.is_vacant()).count());
    }

    #[test]
    fn a_table_holds_what_a_map_holds_wherever_ids_go() {
        // Ids that rise, some of them late; that jump far and go on there; that go around at the
        // greatest; that follow no order at all: against the map of the standard library.
        for seed in 1..=24_u64 {
            let mut random = seed;
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let (mut table, mut map) = (RecentTable::new(), BTreeMap::new());
            let mut rising = [1, 1 << 40, u64::MAX - 30_000, u64::MAX - 2][seed as usize % 4];
            let lives = [50, 3_000, 40_000][seed as usize % 3];
            for step in 0..60_000_u32 {
                if next() % 20_000 == 0 {
                    rising = next() << (next() % 40);
                }
                let id = match next() % 16 {
                    0 if seed > 16 => next(),
                    1 => rising.wrapping_add(next() % 5_000),
                    2 => next() % 64,
                    3..=7 => rising.wrapping_sub(next() % lives),
                    _ => {
                        rising = rising.wrapping_add(1 + next() % 3);
                        rising
                    }
                };
                match next() % 8 {
                    0..=3 => assert_eq!(table.insert(id, step), map.insert(id, step), "{seed}"),
                    4..=6 => assert_eq!(table.remove(id), map.remove(&id), "seed {seed}, id {id}"),
                    _ => {
                        assert_eq!(table.get(id), map.get(&id), "seed {seed}, id {id}");
                        if let Some(value) = table.get_mut(id) {
                            *value ^= 1;
                            map.entry(id).and_modify(|value| *value ^= 1);
                        }
                    }
                }
                assert_eq!(table.len(), map.len());
                if step % 5_000 == 0 {
                    check(&table);
                }
            }
            let mut all: Vec<_> = table.iter().map(|(id, value)| (id, *value)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(map), "seed {seed}");
            check(&table);
            table.clear();
            assert!(table.is_empty() && table.iter().next().is_none());
            assert_eq!(table.insert(7, 7), None);
            check(&table);
        }
    }

    #[test]
    fn ids_at_half_of_all_from_the_window_and_at_the_greatest_are_found_and_taken_out() {
        for far in [1_u64 << 63, (1 << 63) + 1_030, u64::MAX, BASE_MAX, BASE_MAX + 1] {
            let mut table = RecentTable::new();
            for id in 1..200_000_u64 {
                table.insert(id, id as u32);
                table.remove(id.saturating_sub(5_000));
                if id == 3 {
                    assert_eq!(table.insert(far, 9), None);
                }
            }
            check(&table);
            assert_eq!(table.get(far), Some(&9), "{far}");
            assert_eq!((table.remove(far), table.remove(far), table.len()), (Some(9), None, 5_000));
            check(&table);
        }
        // The greatest first, and nothing but such: there is no window yet, or it stays.
        let mut table = RecentTable::new();
        for step in 0..100_000_u64 {
            assert_eq!(table.insert(u64::MAX - step, 1), None);
        }
        for step in 0..5_000_u64 {
            assert_eq!(table.insert(step << 32, 2), None);
        }
        check(&table);
        assert_eq!(table.iter().count(), 105_000);
        assert_eq!((table.get(u64::MAX), table.get(0)), (Some(&1), Some(&2)));
    }

    #[test]
    fn no_order_of_ids_makes_the_window_pass_more_than_is_paid_for() {
        // A window that became as wide as it may, then ids that each lie beyond its end.
        let mut table = RecentTable::new();
        let mut last = 2 * IDS_MAX as u64;
        (0..last).for_each(|id| _ = table.insert(id, 1));
        assert_eq!(table.window.len(), IDS_MAX);
        (0..last).for_each(|id| _ = table.remove(id));
        table.insert(last, 1);
        let (mut paid, begin) = (table.paid, table.base);
        for _ in 0..5_000 {
            last = last.max(table.base + IDS_MAX as u64) + IDS_MAX as u64 / 2;
            paid += PAID;
            table.insert(last, 1);
            assert!(table.paid <= paid);
        }
        assert!(table.base - begin <= paid, "{} for {paid}", table.base - begin);
        assert_eq!(table.len(), 5_001);
        check(&table);
    }
}
