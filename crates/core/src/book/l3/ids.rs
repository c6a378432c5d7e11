//! Where the order of each id is: a table of numbers of nodes.
//!
//! A table with open addressing, eight slots a cache line. As in [`IdTable`], ids that follow each
//! other lie side by side, at most two thirds are in use, and an entry is removed without a trace.
//! A slot has no room for the id: it has 32 bits of its hash, which say where it belongs in a table
//! of any size, and the node itself tells whether it is the one. So an order takes 12 to 24 bytes.
//!
//! [`IdTable`]: crate::id_table::IdTable

use super::{Node, NOTHING};
use crate::id_table::{fetch, place, prefer_huge_pages};

/// Lines before the first entry is put in.
const LINES_MIN: usize = 8;
/// Slots of a line: as many as ids lie side by side.
const SLOTS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// The low bits of the hash of the id.
    mark: u32,
    /// [`NOTHING`] where it is free.
    node: u32,
}

const FREE: Slot = Slot { mark: 0, node: NOTHING };

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([Slot; SLOTS]);

/// Where an order was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Its slot of the table.
    pub(super) slot: u32,
    /// Its node.
    pub(super) node: u32,
}

impl Found {
    pub(super) const NONE: Self = Self { slot: NOTHING, node: NOTHING };
}

/// Nodes by id.
#[derive(Debug)]
pub(super) struct Ids {
    lines: Vec<Line>,
    count: usize,
}

impl Ids {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new(), count: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        (self.lines.len() * SLOTS).wrapping_sub(1)
    }

    #[inline(always)]
    fn slot(&self, at: usize) -> Slot {
        self.lines[at / SLOTS].0[at % SLOTS]
    }

    #[inline(always)]
    fn put(&mut self, at: usize, slot: Slot) {
        self.lines[at / SLOTS].0[at % SLOTS] = slot;
    }

    /// The order of `id`.
    #[inline]
    pub(super) fn find(&self, id: u64, nodes: &[Node]) -> Option<Found> {
        if self.lines.is_empty() {
            return None;
        }
        let (mark, mask) = (place(id) as u32, self.mask());
        let mut at = mark as usize & mask;
        loop {
            let slot = self.slot(at);
            if slot.mark == mark && slot.node != NOTHING && nodes[slot.node as usize].id == id {
                return Some(Found { slot: at as u32, node: slot.node });
            }
            if slot.node == NOTHING {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Where the order of `id` seems to be: no node is looked at, so that it may be another, or one
    /// that is gone.
    #[inline(always)]
    pub(super) fn guess(&self, id: u64) -> Found {
        if self.lines.is_empty() {
            return Found::NONE;
        }
        let (mark, mask) = (place(id) as u32, self.mask());
        let mut at = mark as usize & mask;
        loop {
            let slot = self.slot(at);
            if slot.node == NOTHING || slot.mark == mark {
                return Found { slot: at as u32, node: slot.node };
            }
            at = (at + 1) & mask;
        }
    }

    /// Whether the order of `id` is still where it was found.
    #[inline(always)]
    pub(super) fn is_there(&self, found: Found, id: u64, nodes: &[Node]) -> bool {
        let Some(line) = self.lines.get(found.slot as usize / SLOTS) else { return false };
        let slot = line.0[found.slot as usize % SLOTS];
        slot.node == found.node && nodes.get(slot.node as usize).is_some_and(|node| node.id == id)
    }

    /// Puts the order of `id` in, of which there is none.
    #[inline]
    pub(super) fn insert(&mut self, id: u64, node: u32) {
        if self.count * 3 >= self.lines.len() * SLOTS * 2 {
            self.grow();
        }
        self.count += 1;
        self.put_mark(place(id) as u32, node);
    }

    #[inline(always)]
    fn put_mark(&mut self, mark: u32, node: u32) {
        let mask = self.mask();
        let mut at = mark as usize & mask;
        while self.slot(at).node != NOTHING {
            at = (at + 1) & mask;
        }
        self.put(at, Slot { mark, node });
    }

    /// Takes the entry of a slot out.
    #[inline]
    pub(super) fn remove(&mut self, slot: u32) {
        let mask = self.mask();
        let mut hole = slot as usize;
        let mut at = hole;
        // Whatever was put behind its place because of this one moves up.
        loop {
            at = (at + 1) & mask;
            let slot = self.slot(at);
            if slot.node == NOTHING {
                break;
            }
            let home = slot.mark as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.put(hole, slot);
                hole = at;
            }
        }
        self.put(hole, FREE);
        self.count -= 1;
    }

    /// Begins to bring the place of `id` into the cache, for a look-up some steps ahead.
    #[inline]
    pub(super) fn fetch(&self, id: u64) {
        fetch(&self.lines, (place(id) as u32 as usize & self.mask()) / SLOTS);
    }

    #[cold]
    fn grow(&mut self) {
        let length = (self.lines.len() * 2).max(LINES_MIN);
        let mut lines = Vec::with_capacity(length);
        prefer_huge_pages(&lines);
        lines.resize(length, Line([FREE; SLOTS]));
        let before = std::mem::replace(&mut self.lines, lines);
        for slot in before.iter().flat_map(|line| line.0).filter(|slot| slot.node != NOTHING) {
            self.put_mark(slot.mark, slot.node);
        }
    }
}
