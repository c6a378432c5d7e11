//! What belongs to each id of a large, ever changing set, such as the orders of a market.
//!
//! A table with open addressing. Ids that follow each other lie side by side, as venues number
//! orders in turn and most live for moments: so the busy ones share cache lines. Which line that is
//! follows from all other bits, mixed, so that no pattern of ids fills one place. At most two
//! thirds are in use; an entry is removed without a trace, and nothing is allocated once the table
//! has reached its usual size.

mod recent;

pub use recent::{RecentTable, Vacant};

/// Slots before the first entry is put in.
const SLOTS_MIN: usize = 64;
/// Ids that lie side by side: two to this power.
const RUN_BITS: u32 = 3;
/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;
/// Tables from here on are kept in huge pages; smaller ones fit what the processor remembers of
/// small ones.
const HUGE_BYTES_MIN: usize = 4 << 20;
/// A multiple of the page size of every machine.
#[cfg(target_os = "linux")]
const ALIGNED_BYTES: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Slot<V> {
    /// 0 where it is free.
    id: u64,
    value: V,
}

/// Values by id.
#[derive(Debug, Clone)]
pub struct IdTable<V> {
    slots: Vec<Slot<V>>,
    count: usize,
    /// That of id 0, which marks free slots.
    zero: Option<V>,
}

impl<V: Copy + Default> Default for IdTable<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Copy + Default> IdTable<V> {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), count: 0, zero: None }
    }

    /// Bytes of memory that one slot takes; between 1.5 and 3 of them are there for each entry.
    pub const SLOT_BYTES: usize = size_of::<Slot<V>>();

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.count + self.zero.is_some() as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that there is room for, of which a third stays free; a walk goes through all.
    fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Removes all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.slots.fill(Slot { id: 0, value: V::default() });
        (self.count, self.zero) = (0, None);
    }

    /// The value of `id`.
    #[inline]
    pub fn get(&self, id: u64) -> Option<&V> {
        if id == 0 {
            return self.zero.as_ref();
        }
        self.find(id).map(|at| &self.slots[at].value)
    }

    /// The value of `id`, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        if id == 0 {
            return self.zero.as_mut();
        }
        self.find(id).map(|at| &mut self.slots[at].value)
    }

    /// Puts `value` in for `id`, and returns the one that was there.
    #[inline]
    pub fn insert(&mut self, id: u64, value: V) -> Option<V> {
        if id == 0 {
            return self.zero.replace(value);
        }
        if self.count * 3 >= self.slots.len() * 2 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = place(id) as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.id == 0 {
                *slot = Slot { id, value };
                self.count += 1;
                return None;
            }
            if slot.id == id {
                return Some(std::mem::replace(&mut slot.value, value));
            }
            at = (at + 1) & mask;
        }
    }

    /// Takes `id` out, and returns its value.
    #[inline]
    pub fn remove(&mut self, id: u64) -> Option<V> {
        if id == 0 {
            return self.zero.take();
        }
        let mut hole = self.find(id)?;
        let value = self.slots[hole].value;
        let mask = self.slots.len() - 1;
        let mut at = hole;
        // Whatever was put behind its place because of this one moves up.
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.id == 0 {
                break;
            }
            let home = place(slot.id) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole].id = 0;
        self.count -= 1;
        Some(value)
    }

    /// Begins to bring the place of `id` into the cache, for a look-up some steps ahead.
    #[inline]
    pub fn fetch(&self, id: u64) {
        let at = place(id) as usize & self.slots.len().wrapping_sub(1);
        fetch(&self.slots, at);
        // An entry may lie across two lines, or be put behind others: the two after this one, too.
        fetch(&self.slots, at + LINE_BYTES.div_ceil(size_of::<Slot<V>>()));
        fetch(&self.slots, at + 2 * LINE_BYTES.div_ceil(size_of::<Slot<V>>()));
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let used = self.slots.iter().filter(|slot| slot.id != 0);
        self.zero.iter().map(|value| (0, value)).chain(used.map(|slot| (slot.id, &slot.value)))
    }

    #[inline]
    fn find(&self, id: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = place(id) as usize & mask;
        loop {
            match self.slots[at].id {
                found if found == id => return Some(at),
                0 => return None,
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let length = (self.slots.len() * 2).max(SLOTS_MIN);
        let free = Slot { id: 0, value: V::default() };
        let mut slots = Vec::with_capacity(length);
        prefer_huge_pages(&slots);
        slots.resize(length, free);
        let before = std::mem::replace(&mut self.slots, slots);
        self.count = 0;
        for slot in before.into_iter().filter(|slot| slot.id != 0) {
            self.insert(slot.id, slot.value);
        }
    }
}

/// Appends `value` to a table that is looked up at random, and may become large.
#[inline]
pub(crate) fn push_to_large<T>(table: &mut Vec<T>, value: T) {
    if table.len() == table.capacity() {
        grow_in_huge_pages(table);
    }
    table.push(value);
}

/// Makes room in a full table, if it is so large that it is kept in huge pages: in memory of which
/// nothing was used yet, as what is in small pages stays there, also where the allocator moves it
/// as a whole.
#[cold]
fn grow_in_huge_pages<T>(table: &mut Vec<T>) {
    let capacity = 2 * table.len();
    if capacity * size_of::<T>() >= HUGE_BYTES_MIN {
        let mut grown = Vec::with_capacity(capacity);
        prefer_huge_pages(&grown);
        grown.append(table);
        *table = grown;
    }
}

/// Lets the system keep a large table in huge pages: what is looked up at random in small ones
/// costs a walk through the page tables besides. Nothing where the system has none.
pub(crate) fn prefer_huge_pages<T>(table: &Vec<T>) {
    #[cfg(target_os = "linux")]
    if table.capacity() * size_of::<T>() >= HUGE_BYTES_MIN {
        let begin = (table.as_ptr() as usize).next_multiple_of(ALIGNED_BYTES);
        let end = table.as_ptr() as usize + table.capacity() * size_of::<T>();
        // SAFETY: the range lies within memory that the table holds, and the advice changes nothing
        // that a program can see.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = table;
}

/// Begins to bring an element of `all` into the cache; nothing where there is no such element.
#[inline(always)]
pub(crate) fn fetch<T>(all: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = all.get(at) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a prefetch changes nothing that a program can see and faults at no address, and
        // this one is of a live value. Every processor of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(element).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (all, at);
}

/// Where `id` belongs, in a table of any size.
#[inline]
pub(crate) const fn place(id: u64) -> u64 {
    let run = (id >> RUN_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((run ^ run >> 32) << RUN_BITS) | (id & ((1 << RUN_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_table_holds_what_a_map_holds() {
        // Ids in turn, ids of one residue, few ids again and again, and the two extremes, against
        // the map of the standard library.
        for seed in 1..=20_u64 {
            let mut random = seed;
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let (mut table, mut map) = (IdTable::new(), BTreeMap::new());
            for step in 0..20_000 {
                let id = match next() % 5 {
                    0 => step,
                    1 => (next() % 500) * 64 + 1,
                    2 => next() % 40,
                    3 => u64::MAX - next() % 3,
                    _ => next() % 3 * step,
                };
                match next() % 4 {
                    0 | 1 => assert_eq!(table.insert(id, step), map.insert(id, step), "{seed}"),
                    2 => assert_eq!(table.remove(id), map.remove(&id), "seed {seed}, id {id}"),
                    _ => assert_eq!(table.get(id), map.get(&id), "seed {seed}, id {id}"),
                }
                assert_eq!(table.len(), map.len());
            }
            let mut all: Vec<_> = table.iter().map(|(id, value)| (id, *value)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(map), "seed {seed}");
            table.clear();
            assert!(table.is_empty() && table.iter().next().is_none());
        }
    }
}
