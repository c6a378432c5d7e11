//! Values that a window of rising ids left behind, packed in the order of their ids.
//!
//! They come in that order, and only some of the ids still have one. So each block of ids has its
//! values side by side, and a bit for each id: a value is found by counting the bits before its
//! own. What is put in goes behind what was put in last, where a table by hash would touch a place
//! that is in no cache, and whose page the processor does not remember. A block is packed anew when
//! half of its values are gone, and goes when there are few, which are given back. Its memory is
//! kept for the blocks to come.

use std::collections::VecDeque;

use super::{fetch, prefer_huge_pages, Vacant};

/// Ids of a block: two to this power.
const BLOCK_BITS: u32 = 16;
/// Words of 64 ids.
const WORDS: usize = 1 << (BLOCK_BITS - 6);
/// Few values are no block: the bits of its ids take more memory than they do.
const FEW: usize = 256;

/// 64 ids of a block.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    /// The ids that have a place among the values.
    bits: u64,
    /// Values before its own.
    before: u32,
}

/// The values of a block of ids.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Where its words are, and its values; nowhere if there is no room for any.
    words: usize,
    values: usize,
    room: usize,
    /// Values, and those of them that are not vacant.
    length: usize,
    count: usize,
}

impl Block {
    const NONE: Self = Self { words: 0, values: 0, room: 0, length: 0, count: 0 };
}

/// Values by id, each put in with a greater id than those before.
#[derive(Debug, Clone)]
pub(super) struct Past<V> {
    /// Number of the first block.
    first: u64,
    blocks: VecDeque<Block>,
    count: usize,
    words: Arena<Word>,
    values: Arena<V>,
}

impl<V: Vacant> Past<V> {
    pub(super) const fn new() -> Self {
        Self {
            first: 0,
            blocks: VecDeque::new(),
            count: 0,
            words: Arena::new(),
            values: Arena::new(),
        }
    }

    /// Number of values.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Blocks, words and values that a walk looks at, at most.
    pub(super) fn steps(&self) -> usize {
        self.blocks.len() + self.words.all.len() + self.count
    }

    /// The block of `id`, if it has values, and the place of its word.
    #[inline(always)]
    fn word(&self, id: u64) -> Option<(usize, usize)> {
        let number = (id >> BLOCK_BITS).wrapping_sub(self.first);
        let number = usize::try_from(number).ok()?;
        let block = self.blocks.get(number).filter(|block| block.room > 0)?;
        Some((number, block.words + (id >> 6) as usize % WORDS))
    }

    /// Where a value of `id` would be: its block, and its place.
    #[inline(always)]
    fn find(&self, id: u64) -> Option<(usize, usize)> {
        let (number, at) = self.word(id)?;
        let word = self.words.all[at];
        let below = (1 << (id & 63)) - 1;
        let is_there = word.bits >> (id & 63) & 1 != 0;
        let before = word.before as usize + (word.bits & below).count_ones() as usize;
        is_there.then_some((number, self.blocks[number].values + before))
    }

    /// The value of `id`.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<&V> {
        let (_, at) = self.find(id)?;
        Some(&self.values.all[at]).filter(|value| !value.is_vacant())
    }

    /// The value of `id`, to be changed; it must not become vacant.
    #[inline]
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        let (_, at) = self.find(id)?;
        Some(&mut self.values.all[at]).filter(|value| !value.is_vacant())
    }

    /// Begins to bring into the cache where the value of `id` is. Returns whether there may be one.
    #[inline]
    pub(super) fn fetch(&self, id: u64) -> bool {
        let Some((_, at)) = self.word(id) else { return false };
        fetch(&self.words.all, at);
        true
    }

    /// As [`Past::fetch`], a step later: the value itself.
    #[inline]
    pub(super) fn fetch_value(&self, id: u64) {
        if let Some((_, at)) = self.find(id) {
            fetch(&self.values.all, at);
        }
    }

    /// Puts `value` in for `id`, which is greater than all before. Calls `give` for each value that
    /// is kept here no more, as there are few in its block.
    pub(super) fn push(&mut self, id: u64, value: V, give: impl FnMut(u64, V)) {
        let number = id >> BLOCK_BITS;
        if self.count == 0 {
            self.clear(|_, _| {});
            self.first = number;
        }
        if number >= self.first + self.blocks.len() as u64 {
            self.begin(number, give);
        }
        let last = self.blocks.back_mut().expect("a block was begun");
        if last.length == last.room {
            let grown = self.values.take(2 * last.room, V::VACANT);
            self.values.all.copy_within(last.values..last.values + last.length, grown);
            self.values.keep(last.values, last.room);
            (last.values, last.room) = (grown, 2 * last.room);
        }
        let word = &mut self.words.all[last.words + (id >> 6) as usize % WORDS];
        if word.bits == 0 {
            word.before = last.length as u32;
        }
        debug_assert!(word.bits >> (id & 63) == 0, "ids rise");
        word.bits |= 1 << (id & 63);
        self.values.all[last.values + last.length] = value;
        last.length += 1;
        last.count += 1;
        self.count += 1;
    }

    /// Ends the last block and begins that of a number behind it.
    #[cold]
    fn begin(&mut self, number: u64, give: impl FnMut(u64, V)) {
        if let Some(last) = self.blocks.len().checked_sub(1) {
            self.pack(last, give);
        }
        self.blocks.resize((number - self.first) as usize, Block::NONE);
        let words = self.words.take(WORDS, Word::default());
        self.words.all[words..words + WORDS].fill(Word::default());
        let (room, values) = (2 * FEW, self.values.take(2 * FEW, V::VACANT));
        self.blocks.push_back(Block { words, values, room, length: 0, count: 0 });
    }

    /// Takes `id` out, and returns its value. Calls `give` as [`Past::push`] does.
    #[inline]
    pub(super) fn remove(&mut self, id: u64, give: impl FnMut(u64, V)) -> Option<V> {
        let (number, at) = self.find(id)?;
        let value = std::mem::replace(&mut self.values.all[at], V::VACANT);
        if value.is_vacant() {
            return None;
        }
        let is_last = number + 1 == self.blocks.len();
        let block = &mut self.blocks[number];
        block.count -= 1;
        self.count -= 1;
        // To the last one more may be added.
        if block.count * 2 <= block.room && !is_last {
            self.pack(number, give);
        }
        Some(value)
    }

    /// Packs the values of a block, in memory that fits them, or gives them back if they are few.
    #[cold]
    fn pack(&mut self, number: usize, mut give: impl FnMut(u64, V)) {
        let block = self.blocks[number];
        if block.count <= FEW {
            self.walk(number).for_each(|(id, value)| give(id, *value));
            self.count -= block.count;
            self.release(number);
            while self.blocks.front().is_some_and(|block| block.room == 0) {
                self.blocks.pop_front();
                self.first += 1;
            }
            return;
        }
        let room = block.count.next_power_of_two();
        let values = self.values.take(room, V::VACANT);
        let mut length = 0;
        for word in &mut self.words.all[block.words..][..WORDS] {
            let (mut from, mut left) = (block.values + word.before as usize, word.bits);
            word.before = length as u32;
            while left != 0 {
                let bit = left & left.wrapping_neg();
                let value = self.values.all[from];
                if value.is_vacant() {
                    word.bits ^= bit;
                } else {
                    self.values.all[values + length] = value;
                    length += 1;
                }
                (from, left) = (from + 1, left ^ bit);
            }
        }
        self.values.keep(block.values, block.room);
        self.blocks[number] = Block { values, room, length, ..block };
    }

    /// Keeps the memory of a block for others.
    fn release(&mut self, number: usize) {
        let block = std::mem::replace(&mut self.blocks[number], Block::NONE);
        if block.room > 0 {
            self.words.keep(block.words, WORDS);
            self.values.keep(block.values, block.room);
        }
    }

    /// Takes all values out, in the order of their ids.
    pub(super) fn clear(&mut self, mut give: impl FnMut(u64, V)) {
        for number in 0..self.blocks.len() {
            self.walk(number).for_each(|(id, value)| give(id, *value));
            self.release(number);
        }
        self.blocks.clear();
        self.count = 0;
    }

    /// All values, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        (0..self.blocks.len()).flat_map(|number| self.walk(number))
    }

    /// The values of a block.
    fn walk(&self, number: usize) -> impl Iterator<Item = (u64, &V)> {
        let block = self.blocks[number];
        let first = (self.first + number as u64) << BLOCK_BITS;
        let words = if block.room > 0 { &self.words.all[block.words..][..WORDS] } else { &[] };
        let ids = (first..).step_by(64).zip(words).flat_map(|(id, word)| {
            (0..64).filter(|bit| word.bits >> bit & 1 != 0).map(move |bit| id + bit)
        });
        let values = &self.values.all[block.values..][..block.length];
        ids.zip(values).filter(|(_, value)| !value.is_vacant())
    }
}

/// Pieces of memory whose lengths are powers of two, all in one table; those that are kept are for
/// others of their length.
#[derive(Debug, Clone)]
struct Arena<T> {
    all: Vec<T>,
    /// By the logarithm of their length.
    spare: [Vec<usize>; BLOCK_BITS as usize + 1],
}

impl<T: Copy> Arena<T> {
    const fn new() -> Self {
        Self { all: Vec::new(), spare: [const { Vec::new() }; BLOCK_BITS as usize + 1] }
    }

    /// The place of a piece of `length`.
    fn take(&mut self, length: usize, fill: T) -> usize {
        debug_assert!(length.is_power_of_two());
        if let Some(place) = self.spare[length.ilog2() as usize].pop() {
            return place;
        }
        let place = self.all.len();
        if self.all.capacity() - place < length {
            let mut grown = Vec::with_capacity((place + length).max(2 * place));
            prefer_huge_pages(&grown);
            grown.append(&mut self.all);
            self.all = grown;
        }
        self.all.resize(place + length, fill);
        place
    }

    /// Keeps a piece for others.
    fn keep(&mut self, place: usize, length: usize) {
        self.spare[length.ilog2() as usize].push(place);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_was_left_behind_is_found_changed_and_taken_out_as_in_a_map() {
        // Ids that rise by steps of a size that changes: dense blocks, blocks of few, none for a
        // while; what is taken out is old or young. Against the map of the standard library.
        for seed in 1..=2_u64 {
            let mut random = seed;
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let (mut past, mut map, mut given) = (Past::new(), BTreeMap::new(), BTreeMap::new());
            let mut id = next() % (1 << 40);
            let mut ids = Vec::new();
            for step in 0..120_000_u32 {
                let size = [2, 1, 700, 30, 9, 200_000][step as usize / 20_000];
                id += 1 + next() % size;
                past.push(id, step, |id, value| _ = given.insert(id, value));
                map.insert(id, step);
                ids.push(id);
                let among = if next() % 2 == 0 { ids.len() } else { ids.len().min(5_000) };
                let id = ids.swap_remove(ids.len() - 1 - next() as usize % among);
                let kept = past.get(id).copied();
                assert_eq!(kept.or(given.get(&id).copied()), map.get(&id).copied(), "{seed}");
                if next() % 4 == 0 {
                    // It stays, with another value.
                    let value = past.get_mut(id).or(given.get_mut(&id)).expect("it is there");
                    *value ^= 1;
                    map.entry(id).and_modify(|value| *value ^= 1);
                    ids.push(id);
                } else {
                    let found = past.remove(id, |id, value| _ = given.insert(id, value));
                    assert_eq!(found.or_else(|| given.remove(&id)), map.remove(&id), "{seed}");
                    assert_eq!(past.get(id), None);
                    assert_eq!(past.remove(id, |_, _| {}), None);
                }
                assert_eq!(past.len() + given.len(), map.len(), "seed {seed}, step {step}");
            }
            assert!(past.len() > 0 && !given.is_empty());
            let mut all = given;
            all.extend(past.iter().map(|(id, value)| (id, *value)));
            assert_eq!(all, map, "seed {seed}");
            let (mut left, count) = (Vec::new(), past.len());
            past.clear(|id, _| left.push(id));
            assert!(left.len() == count && left.is_sorted() && past.len() == 0);
        }
    }

    #[test]
    fn memory_of_blocks_that_went_serves_those_to_come() {
        let mut past = Past::new();
        let mut sizes = Vec::new();
        for id in 0..1_600_000_u64 {
            past.push(id * 3, 1_u32, |_, _| panic!("no block is ended with few"));
            past.remove(id.saturating_sub(200_000) * 3, |_, _| {});
            if id % 200_000 == 199_999 {
                sizes.push((past.words.all.capacity(), past.values.all.capacity()));
            }
        }
        assert!(sizes[3..].iter().all(|size| *size == sizes[3]), "{sizes:?}");
    }
}
