//! Records as Arrow columns.
//!
//! Prices become `decimal128(19, 9)` and sizes `decimal128(19, 8)`: 19 digits hold every 64-bit
//! value, so nothing is ever rounded or refused, and products of the two fit 38 digits. Absent
//! values become nulls.

use std::ffi::c_void;
use std::sync::Arc;

use super::columns::{Field, Meaning};
use super::rows::{Rows, Symbols};
use super::{unpadded, NONE, PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES};
use crate::error::{Error, Result};

mod export;
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

    /// Text of any length.
    pub fn text<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        let (mut ends, mut bytes) = (vec![0_u32], Vec::new());
        for value in values {
            bytes.extend_from_slice(value.as_bytes());
            ends.push(bytes.len() as u32);
        }
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
    pub fn times(name: &str, values: Vec<u64>) -> [Self; 2] {
        Self::split_times(name, values, Vec::new())
    }

    /// As [`Column::times`]; `rest` is memory to be used for the second column.
    fn split_times(name: &str, mut values: Vec<u64>, mut rest: Vec<u16>) -> [Self; 2] {
        let length = values.len();
        let is_valid = |&value: &u64| value as i64 != NONE;
        let (validity, again) = (
            Validity::of(values.iter().map(is_valid), length),
            Validity::of(values.iter().map(is_valid), length),
        );
        rest.clear();
        rest.extend(values.iter_mut().map(|value| {
            let ns = *value as i64;
            *value = ns.div_euclid(NANOSECONDS) as u64;
            ns.rem_euclid(NANOSECONDS) as u16
        }));
        let rest_name = format!("{name}{REST_SUFFIX}");
        [
            Self::plain(name, "tsu:UTC", length, validity, Buffer::Words(values)),
            Self::plain(&rest_name, "s", length, again, Buffer::Halves(rest)),
        ]
    }

    /// Decimals of 19 digits of which `places` are behind the point; [`NONE`] is null.
    pub fn decimals(name: &str, places: u32, values: &[i64]) -> Self {
        Self::wide_decimals(name, places, values.iter().map(|&value| i128::from(value)).collect())
    }

    fn wide_decimals(name: &str, places: u32, values: Vec<i128>) -> Self {
        let valid = values.iter().map(|&value| value != i128::from(NONE));
        let (validity, length) = (Validity::of(valid, values.len()), values.len());
        Self::plain(name, &format!("d:19,{places}"), length, validity, Buffer::Wides(values))
    }

    /// Unsigned 64-bit numbers.
    pub fn words(name: &str, values: Vec<u64>) -> Self {
        Self::plain(name, "L", values.len(), Validity::all(), Buffer::Words(values))
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
struct Validity {
    bits: Vec<u8>,
    nulls: usize,
}

impl Validity {
    const fn all() -> Self {
        Self { bits: Vec::new(), nulls: 0 }
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

/// Rows that are taken apart in one go: they stay in the nearest cache while each column takes its
/// part of them.
const BLOCK_ROWS: usize = 256;

/// Appends the field at `offset` of each row of `block` to `out`.
fn gather<T: Copy + 'static, U>(
    out: &mut Vec<U>,
    block: &[u8],
    (width, offset): (usize, usize),
    turn: impl Fn(T) -> U,
) {
    out.extend(block.chunks_exact(width).map(|row| {
        let field = &row[offset..offset + size_of::<T>()];
        // SAFETY: the slice is as long as the value, and `T` is an integer.
        turn(unsafe { std::ptr::read_unaligned(field.as_ptr().cast::<T>()) })
    }));
}

/// The values of one field, on their way into a column.
struct Gathered {
    field: &'static Field,
    values: Buffer,
}

impl Gathered {
    fn new(field: &'static Field, rows: usize, memory: &Memory) -> Self {
        let like = match (field.meaning, field.width) {
            (Meaning::Hidden | Meaning::Text, _) => Buffer::None,
            (Meaning::Price | Meaning::Size | Meaning::Turnover, _) => Buffer::Wides(Vec::new()),
            (_, 1) => Buffer::Bytes(Vec::new()),
            (_, 2) => Buffer::Halves(Vec::new()),
            (_, 4) => Buffer::Ints(Vec::new()),
            _ => Buffer::Words(Vec::new()),
        };
        Self { field, values: memory.take(like, rows) }
    }

    fn take(&mut self, block: &[u8], width: usize) {
        let at = (width, self.field.offset);
        match &mut self.values {
            Buffer::None => {}
            Buffer::Bytes(out) => gather(out, block, at, |value: u8| value),
            Buffer::Halves(out) => gather(out, block, at, |value: u16| value),
            Buffer::Ints(out) => gather(out, block, at, |value: u32| value),
            Buffer::Words(out) => gather(out, block, at, |value: u64| value),
            Buffer::Wides(out) if self.field.meaning == Meaning::Turnover => {
                gather(out, block, at, |value: i128| value);
            }
            Buffer::Wides(out) => gather(out, block, at, |value: i64| i128::from(value)),
        }
    }

    /// The columns, of the rows that are `bytes`: two for a time, none for what is not shown.
    fn columns(self, bytes: &[u8], width: usize, memory: &Memory) -> Result<Vec<Column>> {
        let Self { field, values } = self;
        let count = bytes.len() / width;
        match (field.meaning, values) {
            (Meaning::Time, Buffer::Words(values)) => {
                let Buffer::Halves(rest) = memory.take(Buffer::Halves(Vec::new()), count) else {
                    return Err(Error::invalid("memory of another width was given"));
                };
                Ok(Column::split_times(field.name, values, rest).into())
            }
            (_, values) => Ok(Self { field, values }.column(bytes, width)?.into_iter().collect()),
        }
    }

    /// The column of what is no time; none for what is not shown.
    fn column(self, bytes: &[u8], width: usize) -> Result<Option<Column>> {
        let Self { field, values } = self;
        let (name, length) = (field.name, bytes.len() / width);
        let plain = |format: &str, values| {
            Ok(Some(Column::plain(name, format, length, Validity::all(), values)))
        };
        Ok(Some(match (field.meaning, values) {
            (Meaning::Price, Buffer::Wides(v)) => Column::wide_decimals(name, PRICE_PLACES, v),
            (Meaning::Size, Buffer::Wides(v)) => Column::wide_decimals(name, SIZE_PLACES, v),
            (Meaning::Turnover, Buffer::Wides(values)) => {
                if values.iter().any(|value| value.unsigned_abs() > DECIMAL_MAX) {
                    return Err(Error::invalid(format!("{name} has more than 38 digits")));
                }
                return plain(&format!("d:38,{TURNOVER_PLACES}"), Buffer::Wides(values));
            }
            (Meaning::Count, Buffer::Ints(values)) => {
                let validity = Validity::of(values.iter().map(|&v| v != u32::MAX), length);
                Column::plain(name, "I", length, validity, Buffer::Ints(values))
            }
            (Meaning::Text, _) => {
                let text = |row| unpadded(&(row as &[u8])[field.offset..][..field.width]);
                Column::text(name, bytes.chunks_exact(width).map(text))
            }
            (Meaning::Name(names), Buffer::Bytes(values)) => names_column(name, names, values)?,
            (_, Buffer::None) => return Ok(None),
            (_, values @ Buffer::Bytes(_)) => return plain("C", values),
            (_, values @ Buffer::Halves(_)) => return plain("S", values),
            (_, values @ Buffer::Ints(_)) => return plain("I", values),
            (_, values) => return plain("L", values),
        }))
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
    let bytes = &rows.as_bytes()[start * width..end * width];
    let symbols = symbols.filter(|_| !layout.names_symbol);
    let header = |name: &str| super::columns::HEADER.iter().find(|field| field.name == name);
    let times = ["ts_event", "ts_recv"].into_iter().filter_map(header);
    let rest = ["sequence", "flags", "feed", "instrument"].into_iter().filter_map(header);
    let fields = times.chain(layout.body).chain(rest);
    let mut parts: Vec<_> = fields.map(|field| Gathered::new(field, count, memory)).collect();
    let mut ranks = memory.take(Buffer::Ints(Vec::new()), count);
    let instrument = std::mem::offset_of!(super::Header, instrument);
    for block in bytes.chunks(BLOCK_ROWS * width) {
        if let (Some(symbols), Buffer::Ints(ranks)) = (symbols, &mut ranks) {
            gather(ranks, block, (width, instrument), |id: u32| symbols.rank_of(id));
        }
        parts.iter_mut().for_each(|part| part.take(block, width));
    }
    let mut out = Vec::with_capacity(parts.len() + 2);
    if let (Some(symbols), Buffer::Ints(ranks)) = (symbols, ranks) {
        out.push(Column::symbols("symbol", ranks, symbols.names()));
    }
    for part in parts {
        out.extend(part.columns(bytes, width, memory)?);
    }
    if offsets {
        let mut values = memory.take(Buffer::Words(Vec::new()), count);
        if let Buffer::Words(values) = &mut values {
            values.extend_from_slice(&rows.offsets()[start..end]);
        }
        out.push(Column::plain("tape_offset", "L", count, Validity::all(), values));
    }
    out.iter_mut().for_each(|column| column.memory = Some(Arc::clone(memory)));
    Ok(out)
}

fn names_column(name: &str, names: &[&str], mut values: Vec<u8>) -> Result<Column> {
    if let Some(unknown) = values.iter().find(|&&value| value as usize >= names.len()) {
        return Err(Error::invalid(format!(
            "{name} {unknown} is not known to this build: update Tapeworks to read it"
        )));
    }
    let validity = Validity::of(values.iter().map(|&value| value != 0), values.len());
    values.iter_mut().for_each(|value| *value = value.saturating_sub(1));
    let mut column = Column::plain(name, "c", values.len(), validity, Buffer::Bytes(values));
    column.dictionary = Some(Box::new(Column::text("", names.iter().skip(1).copied())));
    Ok(column)
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
