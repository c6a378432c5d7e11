//! Records of one layout, taken out of the stream and put in the order of a file.

use std::sync::Arc;

use super::arrow::Memory;
use super::columns::Layout;
use super::{unpadded, Definition, Header, Plain, NONE};
use crate::error::{Error, Result};

/// Nanoseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000_000;
/// Groups up to which rows are put in order by counting.
const GROUPS_MAX: usize = 1 << 20;

/// The symbols of instrument ids, as the definitions of a tape give them.
#[derive(Debug, Default, Clone)]
pub struct Symbols {
    definitions: Vec<Option<Definition>>,
    /// Distinct symbols, ascending.
    names: Vec<String>,
    /// Index into `names` by instrument id; `u32::MAX` where the id is not known.
    ranks: Vec<u32>,
}

impl Symbols {
    /// Takes in the definitions among `bytes`, which are whole records. Says how many there were.
    pub fn load(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        for record in super::records::iterate(bytes) {
            if let Some(definition) = record.as_definition() {
                let id = definition.header.instrument as usize;
                if id >= self.definitions.len() {
                    self.definitions.resize(id + 1, None);
                }
                self.definitions[id] = Some(definition);
                count += 1;
            }
        }
        if count > 0 {
            self.rank();
        }
        count
    }

    fn rank(&mut self) {
        let symbol = |slot: &Definition| unpadded(&slot.symbol).to_owned();
        self.names = self.definitions.iter().flatten().map(symbol).collect();
        self.names.sort_unstable();
        self.names.dedup();
        self.ranks = vec![u32::MAX; self.definitions.len()];
        for (id, slot) in self.definitions.iter().enumerate() {
            if let Some(definition) = slot {
                let found = self.names.binary_search(&symbol(definition));
                self.ranks[id] = found.map_or(u32::MAX, |rank| rank as u32);
            }
        }
    }

    /// All definitions, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.iter().flatten()
    }

    /// Distinct symbols, ascending.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of the symbol of `instrument` in [`Symbols::names`], or `u32::MAX`.
    #[inline]
    pub fn rank_of(&self, instrument: u32) -> u32 {
        self.ranks.get(instrument as usize).copied().unwrap_or(u32::MAX)
    }
}

/// Rows of one day, `start` to `end` of the ordered rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Days since the epoch.
    pub day: i64,
    /// First row.
    pub start: usize,
    /// One past the last row.
    pub end: usize,
}

/// Records of one layout with their tape offsets.
#[derive(Debug, Clone)]
pub struct Rows {
    layout: &'static Layout,
    words: Vec<u64>,
    offsets: Vec<u64>,
    scratch: Scratch,
    /// Of the columns that were made of the rows and released.
    memory: Arc<Memory>,
}

/// Memory that the next ordering writes to: kept, so that a steady sink does not allocate.
#[derive(Debug, Default, Clone)]
struct Scratch {
    words: Vec<u64>,
    offsets: Vec<u64>,
    /// Rank and time of each row.
    keys: Vec<(u32, i64)>,
    /// Rows in their new order.
    order: Vec<u32>,
}

impl Rows {
    /// No rows yet.
    pub fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            words: Vec::new(),
            offsets: Vec::new(),
            scratch: Scratch::default(),
            memory: Arc::default(),
        }
    }

    /// The layout of the rows.
    pub const fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// Where columns get their memory from.
    pub(super) const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes that the rows take.
    pub fn byte_length(&self) -> usize {
        (self.words.len() + self.offsets.len()) * 8
    }

    /// The records, back to back.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: any `u64` is eight valid bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }

    /// The tape offset of each row.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.offsets.clear();
    }

    /// Takes the records of this layout out of `bytes`, whole records of which the first stands at
    /// `first_offset` of its tape; those before offset `from` are left out. Says how many it took.
    pub fn extend(&mut self, bytes: &[u8], first_offset: u64, from: u64) -> usize {
        let before = self.offsets.len();
        let (mut at, mut offset) = (0, first_offset);
        let (layout, words) = (self.layout, self.layout.width / 8);
        while at + size_of::<Header>() <= bytes.len() {
            let length = bytes[at] as usize * 8;
            if length < size_of::<Header>() || at + length > bytes.len() {
                break;
            }
            if offset >= from && layout.matches(&bytes[at..]) {
                let start = self.words.len();
                self.words.reserve(words);
                // SAFETY: `words` words were reserved, and `length` is `words * 8` (checked by
                // `matches`) and lies within `bytes`.
                unsafe {
                    let target = self.words.as_mut_ptr().add(start);
                    std::ptr::copy_nonoverlapping(
                        bytes.as_ptr().add(at),
                        target.cast::<u8>(),
                        length,
                    );
                    self.words.set_len(start + words);
                }
                self.offsets.push(offset);
            }
            at += length;
            offset += 1;
        }
        self.offsets.len() - before
    }

    #[inline]
    fn header(&self, row: usize) -> Header {
        let words = self.layout.width / 8;
        Header::read_from(&self.as_bytes()[row * words * 8..]).unwrap_or_default()
    }

    /// The time that decides a row's day and order: of the event, or else of the receipt.
    #[inline]
    fn time(header: &Header) -> i64 {
        if header.ts_event != NONE {
            header.ts_event
        } else if header.ts_recv != NONE {
            header.ts_recv
        } else {
            0
        }
    }

    /// Puts the rows in the order of files: by day, symbol and time; rows that tie keep the order
    /// of the tape. Gives the days.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument has no definition yet; nothing was moved.
    pub fn sort(&mut self, symbols: &Symbols) -> Result<Vec<Day>> {
        let mut keys = std::mem::take(&mut self.scratch.keys);
        keys.clear();
        // Rows of one symbol nearly always come in the order of their time: then placing each
        // behind the last of its symbol is all there is to do.
        let mut latest = vec![i64::MIN; symbols.names().len() + 1];
        let (mut first, mut last, mut ordered) = (i64::MAX, i64::MIN, true);
        for row in 0..self.len() {
            let header = self.header(row);
            let time = Self::time(&header);
            let rank = self.rank(&header, symbols)?;
            let before = std::mem::replace(&mut latest[rank as usize], time);
            (first, last, ordered) = (first.min(time), last.max(time), ordered & (before <= time));
            keys.push((rank, time));
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (first, last) = (first.div_euclid(DAY), last.div_euclid(DAY));
        let found = if ordered && first == last {
            self.place(&keys, latest.len());
            vec![Day { day: first, start: 0, end: self.len() }]
        } else {
            self.order(&keys, first, last, latest.len())
        };
        self.scratch.keys = keys;
        Ok(found)
    }

    /// Orders rows whose times run back, or that are of several days.
    fn order(&mut self, keys: &[(u32, i64)], first: i64, last: i64, names: usize) -> Vec<Day> {
        let days = (last - first + 1) as usize;
        let group =
            |key: &(u32, i64)| (key.1.div_euclid(DAY) - first) as usize * names + key.0 as usize;
        let mut order = std::mem::take(&mut self.scratch.order);
        order.clear();
        order.extend(0..keys.len() as u32);
        if days.saturating_mul(names) <= GROUPS_MAX {
            order_by_counting(&mut order, keys, days * names, group);
        } else {
            let full = |&row: &u32| (group(&keys[row as usize]), keys[row as usize].1);
            order.sort_by_key(full);
        }
        self.permute(&order);
        let found = days_of(order.iter().map(|&row| keys[row as usize].1.div_euclid(DAY)));
        self.scratch.order = order;
        found
    }

    /// Puts each row behind the last one of its rank.
    fn place(&mut self, keys: &[(u32, i64)], ranks: usize) {
        let mut next = vec![0_usize; ranks + 1];
        for key in keys {
            next[key.0 as usize + 1] += 1;
        }
        for rank in 0..ranks {
            next[rank + 1] += next[rank];
        }
        let width = self.layout.width / 8;
        let Scratch { words, offsets, .. } = &mut self.scratch;
        words.resize(self.words.len(), 0);
        offsets.resize(keys.len(), 0);
        let rows = self.words.chunks_exact(width).zip(&self.offsets);
        for ((row, &offset), key) in rows.zip(keys) {
            let at = next[key.0 as usize];
            next[key.0 as usize] += 1;
            offsets[at] = offset;
            let target = &mut words[at * width..(at + 1) * width];
            // A copy of known length is a few instructions; most records have eight words.
            match (<&mut [u64; 8]>::try_from(&mut *target), <&[u64; 8]>::try_from(row)) {
                (Ok(target), Ok(row)) => *target = *row,
                _ => target.copy_from_slice(row),
            }
        }
        std::mem::swap(&mut self.words, words);
        std::mem::swap(&mut self.offsets, offsets);
    }

    fn rank(&self, header: &Header, symbols: &Symbols) -> Result<u32> {
        let own = self.layout.names_symbol || header.instrument == 0;
        match symbols.rank_of(header.instrument) {
            // Rank 0 is that of rows without a symbol.
            u32::MAX if own => Ok(0),
            u32::MAX => Err(Error::invalid(format!(
                "instrument {} has no definition on the tape so far",
                header.instrument
            ))),
            rank => Ok(rank + 1),
        }
    }

    fn permute(&mut self, order: &[u32]) {
        let width = self.layout.width / 8;
        let Scratch { words, offsets, .. } = &mut self.scratch;
        words.clear();
        words.reserve(self.words.len());
        offsets.clear();
        for &row in order {
            let start = row as usize * width;
            words.extend_from_slice(&self.words[start..start + width]);
            offsets.push(self.offsets[row as usize]);
        }
        std::mem::swap(&mut self.words, words);
        std::mem::swap(&mut self.offsets, offsets);
    }
}

fn order_by_counting(
    order: &mut [u32],
    keys: &[(u32, i64)],
    groups: usize,
    group: impl Fn(&(u32, i64)) -> usize,
) {
    let mut starts = vec![0_u32; groups + 1];
    for key in keys {
        starts[group(key) + 1] += 1;
    }
    for index in 0..groups {
        starts[index + 1] += starts[index];
    }
    let mut next = starts.clone();
    for (row, key) in keys.iter().enumerate() {
        let slot = &mut next[group(key)];
        order[*slot as usize] = row as u32;
        *slot += 1;
    }
    for pair in starts.windows(2) {
        let run = &mut order[pair[0] as usize..pair[1] as usize];
        // Rows of one symbol nearly always come in the order of their time.
        if !run.is_sorted_by_key(|&row| keys[row as usize].1) {
            run.sort_by_key(|&row| keys[row as usize].1);
        }
    }
}

pub(super) fn days_of(days: impl Iterator<Item = i64>) -> Vec<Day> {
    let mut out: Vec<Day> = Vec::new();
    for (row, day) in days.enumerate() {
        match out.last_mut() {
            Some(last) if last.day == day => last.end = row + 1,
            _ => out.push(Day { day, start: row, end: row + 1 }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{padded, Records, Trade};
    use super::*;

    fn definition(id: u32, symbol: &str) -> Definition {
        // SAFETY: every bit pattern is valid for a plain type.
        let mut definition = Definition::read_from(&[0; 192]).unwrap();
        definition.header = Header { instrument: id, ..Header::of::<Definition>() };
        definition.symbol = padded(symbol).unwrap();
        definition
    }

    fn trade(instrument: u32, ts_event: i64, id: u64) -> Trade {
        let mut trade = Trade::read_from(&[0; 64]).unwrap();
        trade.header = Header { instrument, ts_event, sequence: id, ..Header::of::<Trade>() };
        trade
    }

    #[test]
    fn rows_are_ordered_by_day_symbol_and_time_and_ties_keep_the_tape() {
        // Two days, two symbols whose ids run against their names, and a tie in time.
        let mut batch = Records::new();
        batch.push(&definition(1, "ETH"));
        batch.push(&definition(2, "BTC"));
        for (id, (instrument, ts)) in
            [(1, DAY), (2, 5), (1, 7), (2, 5), (1, 3), (2, DAY - 1)].iter().enumerate()
        {
            batch.push(&trade(*instrument, *ts, id as u64));
        }
        let mut symbols = Symbols::default();
        assert_eq!(symbols.load(batch.as_bytes()), 2);
        let mut rows = Rows::new(Layout::named("trade").unwrap());
        assert_eq!(rows.extend(batch.as_bytes(), 100, 0), 6);
        let days = rows.sort(&symbols).unwrap();
        assert_eq!(rows.offsets(), [103, 105, 107, 106, 104, 102]);
        let expected = [Day { day: 0, start: 0, end: 5 }, Day { day: 1, start: 5, end: 6 }];
        assert_eq!(days, expected);
    }

    #[test]
    fn row_without_definition_is_refused() {
        let mut rows = Rows::new(Layout::named("trade").unwrap());
        rows.extend(trade(3, 1, 1).as_bytes(), 0, 0);
        let message = rows.sort(&Symbols::default()).unwrap_err().to_string();
        assert!(message.contains("instrument 3"), "{message}");
    }
}
