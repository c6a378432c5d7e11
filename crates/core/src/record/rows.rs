//! Records of one layout, taken out of the stream and put in the order of a file.

use std::sync::Arc;

use super::arrow::Memory;
use super::columns::Layout;
use super::runs::{time_of, Order, Picks, Run};
use super::{unpadded, Definition, Header, Plain};
use crate::error::{Error, Result};

/// Nanoseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000_000;
/// Groups up to which rows are put in order by counting.
const GROUPS_MAX: usize = 1 << 20;
/// Rows that are handled in one go: they stay in the nearest cache meanwhile.
pub(super) const BLOCK_ROWS: usize = 256;

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
    /// What was taken by instrument; none if rows are kept as they come.
    grouped: Option<Grouped>,
    order: Order,
    /// Of the columns that were made of the rows and released.
    memory: Arc<Memory>,
}

#[derive(Debug, Default, Clone)]
struct Grouped {
    runs: Vec<Run>,
    /// Memory for the next batch.
    picks: Picks,
}

impl Rows {
    /// No rows yet; those that come are kept in the order of the tape.
    pub fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            words: Vec::new(),
            offsets: Vec::new(),
            grouped: None,
            order: Order::Stored,
            memory: Arc::default(),
        }
    }

    /// No rows yet; those of a batch are kept by instrument, so that [`Rows::sort`] is quick.
    pub fn grouped(layout: &'static Layout) -> Self {
        Self { grouped: Some(Grouped::default()), ..Self::new(layout) }
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
        let runs = self.grouped.as_ref().map_or(0, |grouped| grouped.runs.len());
        (self.words.len() + self.offsets.len()) * 8 + runs * size_of::<Run>()
    }

    /// The records, back to back, as they are kept.
    pub fn as_bytes(&self) -> &[u8] {
        bytes_of(&self.words)
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.offsets.clear();
        self.order = Order::Stored;
        if let Some(grouped) = &mut self.grouped {
            grouped.runs.clear();
        }
    }

    /// Takes the records of this layout out of `bytes`, whole records of which the first stands at
    /// `first_offset` of its tape; those before offset `from` are left out. Says how many it took.
    pub fn extend(&mut self, bytes: &[u8], first_offset: u64, from: u64) -> usize {
        let before = self.offsets.len();
        self.order = Order::Stored;
        if let Some(mut grouped) = self.grouped.take() {
            grouped.picks.pick(self.layout, bytes, (first_offset, from), before);
            self.place(bytes, first_offset, &mut grouped.picks);
            grouped.runs.extend_from_slice(&grouped.picks.runs);
            self.grouped = Some(grouped);
        } else {
            self.append(bytes, first_offset, from);
        }
        self.offsets.len() - before
    }

    /// Appends what was chosen, the rows of each instrument together.
    fn place(&mut self, bytes: &[u8], first_offset: u64, picks: &mut Picks) {
        let (count, width) = (picks.picked.len(), self.layout.width);
        let end = self.len() + count;
        self.words.reserve(count * (width / 8));
        self.offsets.reserve(count);
        let (words, offsets) = (self.words.as_mut_ptr().cast::<u8>(), self.offsets.as_mut_ptr());
        picks.place(bytes, |picked, row| {
            let record = &bytes[picked.at..picked.at + width];
            assert!(row < end, "a run is longer than was counted");
            // SAFETY: room for `end` rows was reserved, of which `row` is one.
            unsafe {
                let target = words.add(row * width);
                // A copy of known length is a few instructions; most records have 64 bytes.
                if width == 64 {
                    target.cast::<[u8; 64]>().write_unaligned(*record.as_ptr().cast());
                } else {
                    std::ptr::copy_nonoverlapping(record.as_ptr(), target, width);
                }
                offsets.add(row).write(first_offset + u64::from(picked.index));
            }
        });
        // SAFETY: the runs lie one behind the other, and each was filled to its end: as many rows
        // as were chosen.
        unsafe {
            self.words.set_len(end * (width / 8));
            self.offsets.set_len(end);
        }
    }

    /// Appends the records of this layout as they come.
    fn append(&mut self, bytes: &[u8], first_offset: u64, from: u64) {
        let (mut at, mut offset) = (0, first_offset);
        let (layout, width) = (self.layout, self.layout.width);
        while at + size_of::<Header>() <= bytes.len() {
            let length = bytes[at] as usize * 8;
            if length < size_of::<Header>() || at + length > bytes.len() {
                break;
            }
            if offset < from || !layout.matches(&bytes[at..]) {
                (at, offset) = (at + length, offset + 1);
                continue;
            }
            // Rows that follow each other are taken together.
            let rest = bytes[at..].chunks_exact(width).take(BLOCK_ROWS);
            let count = rest.take_while(|row| layout.matches(row)).count();
            let (start, words) = (self.words.len(), count * (width / 8));
            self.words.reserve(words);
            // SAFETY: `words` words were reserved behind `start`, all of which are written before
            // they count, out of as many that lie within `bytes`.
            unsafe {
                let target = self.words.as_mut_ptr().add(start).cast::<u8>();
                std::ptr::copy_nonoverlapping(bytes.as_ptr().add(at), target, words * 8);
                self.words.set_len(start + words);
            }
            self.offsets.extend(offset..offset + count as u64);
            (at, offset) = (at + count * width, offset + count as u64);
        }
    }

    /// Puts the rows in the order of files: by day, symbol and time; rows that tie keep the order
    /// of the tape. Gives the days.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument has no definition yet; nothing was put in order.
    pub fn sort(&mut self, symbols: &Symbols) -> Result<Vec<Day>> {
        self.order = Order::Stored;
        if self.is_empty() {
            return Ok(Vec::new());
        }
        if let Some((order, day)) = self.order_of_runs(symbols)? {
            self.order = order;
            return Ok(vec![Day { day, start: 0, end: self.len() }]);
        }
        let (order, days) = self.order_of_rows(symbols)?;
        self.order = Order::Rows(order);
        Ok(days)
    }

    /// The order of rows that are of one day, each run in the order of time, and that day; none
    /// if they are not.
    fn order_of_runs(&self, symbols: &Symbols) -> Result<Option<(Order, i64)>> {
        let Some(Grouped { runs, .. }) = &self.grouped else { return Ok(None) };
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let mut groups = Vec::with_capacity(runs.len());
        for run in runs {
            if !run.is_ordered {
                return Ok(None);
            }
            (first, last) = (first.min(run.first), last.max(run.last));
            groups.push((self.group(run.instrument, symbols)?, *run));
        }
        let day = first.div_euclid(DAY);
        let is_one_day = day == last.div_euclid(DAY);
        Ok(if is_one_day { Order::of_runs(groups).map(|order| (order, day)) } else { None })
    }

    /// The place of the symbol of an instrument among all: 0 without one, then the symbols.
    fn group(&self, instrument: u32, symbols: &Symbols) -> Result<usize> {
        match symbols.rank_of(instrument) {
            u32::MAX if self.layout.names_symbol || instrument == 0 => Ok(0),
            u32::MAX => Err(Error::invalid(format!(
                "instrument {instrument} has no definition on the tape so far"
            ))),
            rank => Ok(rank as usize + 1),
        }
    }

    /// The order of rows whose times run back, or that are of several days, and the days.
    fn order_of_rows(&self, symbols: &Symbols) -> Result<(Vec<u32>, Vec<Day>)> {
        let rows = || self.as_bytes().chunks_exact(self.layout.width);
        let times = || rows().map(time_of);
        let first = times().min().unwrap_or_default().div_euclid(DAY);
        let last = times().max().unwrap_or_default().div_euclid(DAY);
        let (days, groups) = ((last - first + 1) as usize, symbols.names().len() + 1);
        let mut keys = Vec::with_capacity(self.len());
        for ((row, time), &offset) in rows().zip(times()).zip(&self.offsets) {
            let instrument = Header::read_from(row).unwrap_or_default().instrument;
            let day = (time.div_euclid(DAY) - first) as usize;
            keys.push((day * groups + self.group(instrument, symbols)?, time, offset));
        }
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        if days.saturating_mul(groups) <= GROUPS_MAX {
            order_by_counting(&mut order, &keys, days * groups);
        } else {
            order.sort_by_key(|&row| keys[row as usize]);
        }
        let days = days_of(order.iter().map(|&row| keys[row as usize].1.div_euclid(DAY)));
        Ok((order, days))
    }

    /// Rows `start` to `end` of the order of files, back to back; `space` is for those that do not
    /// lie so already.
    pub(super) fn ordered<'a>(
        &'a self,
        start: usize,
        end: usize,
        space: &'a mut Vec<u64>,
    ) -> &'a [u8] {
        let width = self.layout.width / 8;
        let (mut whole, mut first) = (None, true);
        space.clear();
        self.order.pieces(start, end, |rows| {
            let words = &self.words[rows.start * width..rows.end * width];
            if std::mem::take(&mut first) && rows.len() == end - start {
                whole = Some(words);
            } else if let Ok(row) = <&[u64; 8]>::try_from(words) {
                // A copy of known length is a few instructions; most records have eight words.
                space.extend_from_slice(row);
            } else {
                space.extend_from_slice(words);
            }
        });
        bytes_of(whole.unwrap_or(space))
    }

    /// Appends the tape offsets of rows `start` to `end` of the order of files.
    pub(super) fn take_offsets(&self, start: usize, end: usize, out: &mut Vec<u64>) {
        self.order.pieces(start, end, |rows| out.extend_from_slice(&self.offsets[rows]));
    }
}

const fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: any `u64` is eight valid bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 8) }
}

/// What decides the place of a row: its group, its time, its tape offset.
type Key = (usize, i64, u64);

fn order_by_counting(order: &mut [u32], keys: &[Key], groups: usize) {
    let mut ends = vec![0_u32; groups + 1];
    keys.iter().for_each(|key| ends[key.0 + 1] += 1);
    for index in 0..groups {
        ends[index + 1] += ends[index];
    }
    let starts = ends.clone();
    for (row, key) in (0..).zip(keys) {
        let end = &mut ends[key.0];
        order[*end as usize] = row;
        *end += 1;
    }
    for (start, end) in starts.into_iter().zip(ends) {
        let run = &mut order[start as usize..end as usize];
        // Rows of one symbol nearly always come in the order of their time.
        if !run.is_sorted_by_key(|&row| keys[row as usize]) {
            run.sort_unstable_by_key(|&row| keys[row as usize]);
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
mod tests;
