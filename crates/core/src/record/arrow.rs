//! Records as Arrow columns.
//!
//! Prices become `decimal128(19, 9)` and sizes `decimal128(19, 8)`: 19 digits hold every 64-bit
//! value, so nothing is ever rounded or refused, and products of the two fit 38 digits. Absent
//! values become nulls.

use std::ffi::c_void;
use std::sync::Arc;

use gather::{fields, split_time, Gathered};

use super::rows::{Rows, Symbols, BLOCK_ROWS};
use super::NONE;
use crate::error::Result;

mod export;
mod gather;
mod memory;

pub use export::{export, ArrowArray, ArrowSchema};
pub use memory::Memory;

/// Largest magnitude of a decimal of 38 digits.
const DECIMAL_MAX: u128 = 10_u128.pow(38) - 1;
/// Nanoseconds of a microsecond.
const NANOSECONDS: i64 = 1_000;
/// What follows the name of a time in the name of the column of its nanoseconds.
const REST_SUFFIX: &str = "_ns";

/// Memory of a column, aligned for its values.
#[derive(Debug, Clone)]
pub enum Buffer {
    /// Nothing: all values are valid.
    None,
    /// Bytes, or bits.
    Bytes(Vec<u8>),
    /// 16-bit values.
    Halves(Vec<u16>),
    /// 32-bit values.
    Ints(Vec<u32>),
    /// 64-bit values.
    Words(Vec<u64>),
    /// 128-bit values.
    Wides(Vec<i128>),
}

impl Buffer {
    /// Number of values.
    fn count(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Bytes(values) => values.len(),
            Self::Halves(values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Words(values) => values.len(),
            Self::Wides(values) => values.len(),
        }
    }

    fn pointer(&self) -> *const c_void {
        match self {
            Self::None => std::ptr::null(),
            Self::Bytes(values) => values.as_ptr().cast(),
            Self::Halves(values) => values.as_ptr().cast(),
            Self::Ints(values) => values.as_ptr().cast(),
            Self::Words(values) => values.as_ptr().cast(),
            Self::Wides(values) => values.as_ptr().cast(),
        }
    }
}

/// One Arrow array with its name and type.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    format: String,
    length: usize,
    nulls: usize,
    buffers: Vec<Buffer>,
    children: Vec<Column>,
    dictionary: Option<Box<Column>>,
    /// Where the buffers go when they are released.
    memory: Option<Arc<Memory>>,
}

impl Column {
    /// A column of plain values; `valid` is a bitmap, or none when no value is null.
    fn plain(name: &str, format: &str, length: usize, validity: Validity, values: Buffer) -> Self {
        Self {
            name: name.to_owned(),
            format: format.to_owned(),
            length,
            nulls: validity.nulls,
            buffers: vec![validity.into_buffer(), values],
            children: Vec::new(),
            dictionary: None,
            memory: None,
        }
    }

    fn structure(children: Vec<Self>, length: usize) -> Self {
        Self {
            name: String::new(),
            format: "+s".to_owned(),
            length,
            nulls: 0,
            buffers: vec![Buffer::None],
            children,
            dictionary: None,
            memory: None,
        }
    }

    /// Values that are all there.
    fn numbers(name: &str, format: &str, values: Buffer) -> Self {
        Self::plain(name, format, values.count(), Validity::all(), values)
    }

    /// Text of any length.
    pub fn text<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        let (mut ends, mut bytes) = (vec![0_u32], Vec::new());
        for value in values {
            bytes.extend_from_slice(value.as_bytes());
            ends.push(bytes.len() as u32);
        }
        Self::text_parts(name, ends, bytes)
    }

    fn text_parts(name: &str, ends: Vec<u32>, bytes: Vec<u8>) -> Self {
        let length = ends.len() - 1;
        let mut column = Self::plain(name, "u", length, Validity::all(), Buffer::Ints(ends));
        column.buffers.push(Buffer::Bytes(bytes));
        column
    }

    /// Lists of `items`; list `n` ends before item `ends[n + 1]`, and `ends[0]` is 0.
    pub fn list(name: &str, ends: Vec<u32>, items: Self) -> Self {
        let format = "+l";
        let length = ends.len() - 1;
        let mut column = Self::plain(name, format, length, Validity::all(), Buffer::Ints(ends));
        column.children.push(items);
        column
    }

    /// Times in ns, the bits of an `i64`, as two columns: whole microseconds, rounded down, and
    /// `<name>_ns`, the rest, 0 to 999. [`NONE`] is null in both.
    ///
    /// Every reader of Arrow and Parquet takes microseconds; some refuse or cut nanoseconds.
    pub fn times(name: &str, mut values: Vec<u64>) -> [Self; 2] {
        let absent = values.iter().any(|&value| value as i64 == NONE);
        let rest = values.iter_mut().map(split_time).collect();
        Self::time_parts(name, values, rest, absent)
    }

    /// Times as whole microseconds and the nanoseconds beyond; with `absent` one may be [`NONE`].
    fn time_parts(name: &str, whole: Vec<u64>, rest: Vec<u16>, absent: bool) -> [Self; 2] {
        let mut none = NONE as u64;
        let none = (split_time(&mut none), none);
        let valid = rest.iter().copied().zip(whole.iter().copied()).map(|parts| parts != none);
        let validity = Validity::where_absent(absent, valid);
        let rest_name = format!("{name}{REST_SUFFIX}");
        let (length, again) = (whole.len(), validity.clone());
        [
            Self::plain(name, "tsu:UTC", length, validity, Buffer::Words(whole)),
            Self::plain(&rest_name, "s", length, again, Buffer::Halves(rest)),
        ]
    }

    /// Decimals of 19 digits of which `places` are behind the point; [`NONE`] is null.
    pub fn decimals(name: &str, places: u32, values: &[i64]) -> Self {
        let absent = values.contains(&NONE);
        let values = values.iter().map(|&value| i128::from(value)).collect();
        Self::wide_decimals(name, places, values, absent)
    }

    /// As [`Column::decimals`]; with `absent` one may be [`NONE`].
    fn wide_decimals(name: &str, places: u32, values: Vec<i128>, absent: bool) -> Self {
        let valid = values.iter().map(|&value| value != i128::from(NONE));
        let validity = Validity::where_absent(absent, valid);
        let format = format!("d:19,{places}");
        Self::plain(name, &format, values.len(), validity, Buffer::Wides(values))
    }

    /// Unsigned 64-bit numbers.
    pub fn words(name: &str, values: Vec<u64>) -> Self {
        Self::numbers(name, "L", Buffer::Words(values))
    }

    /// Symbols by their place in `names`; a place beyond the end is null.
    pub fn symbols(name: &str, ranks: Vec<u32>, names: &[String]) -> Self {
        let known = ranks.iter().map(|&rank| (rank as usize) < names.len());
        let validity = Validity::of(known, ranks.len());
        let mut column = Self::plain(name, "i", ranks.len(), validity, Buffer::Ints(ranks));
        let values = names.iter().map(String::as_str);
        column.dictionary = Some(Box::new(Self::text("", values)));
        column
    }
}

/// Which values of a column are there.
#[derive(Clone)]
struct Validity {
    bits: Vec<u8>,
    nulls: usize,
}

impl Validity {
    const fn all() -> Self {
        Self { bits: Vec::new(), nulls: 0 }
    }

    /// As [`Validity::of`]; without `absent`, all are known to be there.
    fn where_absent(absent: bool, valid: impl ExactSizeIterator<Item = bool> + Clone) -> Self {
        let length = valid.len();
        if absent {
            Self::of(valid, length)
        } else {
            Self::all()
        }
    }

    fn of(valid: impl Iterator<Item = bool> + Clone, length: usize) -> Self {
        let nulls = valid.clone().filter(|valid| !valid).count();
        if nulls == 0 {
            return Self::all();
        }
        let mut bits = vec![0; length.div_ceil(8)];
        for (index, valid) in valid.enumerate() {
            bits[index / 8] |= u8::from(valid) << (index % 8);
        }
        Self { bits, nulls }
    }

    fn into_buffer(self) -> Buffer {
        if self.nulls == 0 {
            Buffer::None
        } else {
            Buffer::Bytes(self.bits)
        }
    }
}

/// The columns of rows `start` to `end`. With `symbols`, the first column is `symbol`; with
/// `offsets`, the last is the tape offset.
///
/// # Errors
/// `Error::Invalid`: a byte stands for no name that this build knows, or a turnover exceeds 38
/// digits; the message names the column.
pub fn columns(
    rows: &Rows,
    start: usize,
    end: usize,
    symbols: Option<&Symbols>,
    offsets: bool,
) -> Result<Vec<Column>> {
    let (layout, memory, count) = (rows.layout(), rows.memory(), end - start);
    let width = layout.width;
    let symbols = symbols.filter(|_| !layout.names_symbol);
    let header = |name: &str| super::columns::HEADER.iter().find(|field| field.name == name);
    let times = ["ts_event", "ts_recv"].into_iter().filter_map(header);
    let rest = ["sequence", "flags", "feed", "instrument"].into_iter().filter_map(header);
    let all = times.chain(layout.body).chain(rest);
    let mut parts: Vec<_> = all.map(|field| Gathered::new(field, count, memory)).collect();
    let mut ranks = memory.take(Buffer::Ints(Vec::new()), count);
    let instrument = (width, std::mem::offset_of!(super::Header, instrument));
    let mut space = Vec::new();
    for at in (start..end).step_by(BLOCK_ROWS) {
        let block = rows.ordered(at, end.min(at + BLOCK_ROWS), &mut space);
        if let (Some(symbols), Buffer::Ints(ranks)) = (symbols, &mut ranks) {
            ranks.extend(fields::<u32>(block, instrument).map(|id| symbols.rank_of(id)));
        }
        parts.iter_mut().for_each(|part| part.take(block, width));
    }
    let mut out = Vec::with_capacity(parts.len() + 4);
    if let (Some(symbols), Buffer::Ints(ranks)) = (symbols, ranks) {
        out.push(Column::symbols("symbol", ranks, symbols.names()));
    }
    for part in parts {
        part.columns(&mut out)?;
    }
    if offsets {
        let mut values = memory.take(Buffer::Words(Vec::new()), count);
        if let Buffer::Words(values) = &mut values {
            rows.take_offsets(start, end, values);
        }
        out.push(Column::numbers("tape_offset", "L", values));
    }
    out.iter_mut().for_each(|column| column.memory = Some(Arc::clone(memory)));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Only, LAYOUTS};
    use super::super::MarkerCode;
    use super::*;

    #[test]
    fn every_layout_becomes_columns_and_is_released() {
        // Export zeroed records of each layout and drop both halves: a leak or a double free is
        // seen under a memory checker, a wrong length here.
        for layout in LAYOUTS {
            let mut bytes = vec![0; layout.width * 3];
            for row in bytes.chunks_exact_mut(layout.width) {
                row[0] = (layout.width / 8) as u8;
                row[1] = layout.kind as u8;
                match layout.only {
                    Only::Code(code) => row[32] = code as u8,
                    Only::BookMarker => row[32] = MarkerCode::BookState as u8,
                    Only::Session => row[32] = MarkerCode::Connected as u8,
                    Only::All | Only::Book => {}
                }
            }
            let mut rows = Rows::new(layout);
            assert_eq!(rows.extend(&bytes, 7, 0), 3, "{}", layout.name);
            let columns = columns(&rows, 0, 3, Some(&Symbols::default()), true).unwrap();
            assert!(columns.iter().all(|column| column.length == 3), "{}", layout.name);
            let (schema, array) = export(columns, 3);
            drop(schema);
            drop(array);
        }
    }

    #[test]
    fn times_are_microseconds_and_the_rest_of_the_nanosecond() {
        // Also before 1970 and at both ends of the range: the rest is never negative, and the two
        // make the same time again.
        let times = [0, 999, 1_000, -1, -1_000, -1_001, i64::MIN, i64::MAX - 1, NONE];
        let values = times.iter().map(|&ts| ts as u64).collect();
        let [whole, rest] = Column::times("ts_event", values);
        assert_eq!((whole.name.as_str(), whole.format.as_str()), ("ts_event", "tsu:UTC"));
        assert_eq!((rest.name.as_str(), rest.format.as_str()), ("ts_event_ns", "s"));
        assert_eq!((whole.nulls, rest.nulls), (1, 1));
        let (Buffer::Words(whole), Buffer::Halves(rest)) = (&whole.buffers[1], &rest.buffers[1])
        else {
            panic!("times are words and halves");
        };
        for (index, &ts) in times.iter().enumerate().filter(|(_, &ts)| ts != NONE) {
            assert!(rest[index] < 1_000);
            let made = i128::from(whole[index] as i64) * 1_000 + i128::from(rest[index]);
            assert_eq!(made, i128::from(ts));
        }
        assert_eq!((whole[3] as i64, rest[3]), (-1, 999));
    }

    #[test]
    fn absent_values_are_null() {
        let column = Column::decimals("price", 9, &[1, NONE, -3]);
        assert_eq!(column.nulls, 1);
        assert!(matches!(&column.buffers[0], Buffer::Bytes(bits) if bits == &[0b101]));
    }
}
