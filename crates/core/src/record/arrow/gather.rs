//! The values of one field, taken out of rows block by block on their way into a column.
//!
//! A block lies in the nearest cache. All that is to be known of its values is found in that one
//! pass: whether one is absent, and which names occur.

use super::memory::Memory;
use super::{Buffer, Column, Validity, DECIMAL_MAX, NANOSECONDS};
use crate::error::{Error, Result};
use crate::record::columns::{Field, Meaning};
use crate::record::{unpadded, NONE, PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES};

/// The values of one field.
pub(super) struct Gathered {
    field: &'static Field,
    values: Buffer,
    /// Of a time, the nanoseconds beyond its microseconds; of a text, its bytes.
    rest: Buffer,
    /// Whether a value is absent.
    absent: bool,
    /// The largest byte.
    largest: u8,
}

impl Gathered {
    /// Nothing yet of `field`, with room for `rows` values.
    pub(super) fn new(field: &'static Field, rows: usize, memory: &Memory) -> Self {
        let (like, rest) = match (field.meaning, field.width) {
            (Meaning::Hidden, _) => (Buffer::None, Buffer::None),
            (Meaning::Text, _) => (Buffer::Ints(Vec::new()), Buffer::Bytes(Vec::new())),
            (Meaning::Time, _) => (Buffer::Words(Vec::new()), Buffer::Halves(Vec::new())),
            (Meaning::Price | Meaning::Size | Meaning::Turnover, _) => {
                (Buffer::Wides(Vec::new()), Buffer::None)
            }
            (_, 1) => (Buffer::Bytes(Vec::new()), Buffer::None),
            (_, 2) => (Buffer::Halves(Vec::new()), Buffer::None),
            (_, 4) => (Buffer::Ints(Vec::new()), Buffer::None),
            _ => (Buffer::Words(Vec::new()), Buffer::None),
        };
        let values = memory.take(like, rows);
        Self { field, values, rest: memory.take(rest, rows), absent: false, largest: 0 }
    }

    /// Takes the values of the rows of `block`, each `width` bytes long.
    pub(super) fn take(&mut self, block: &[u8], width: usize) {
        let Field { offset, width: length, meaning, .. } = *self.field;
        let at = (width, offset);
        match (&mut self.values, &mut self.rest) {
            (Buffer::Ints(ends), Buffer::Bytes(text)) => {
                for row in block.chunks_exact(width) {
                    text.extend_from_slice(unpadded(&row[offset..offset + length]).as_bytes());
                    ends.push(text.len() as u32);
                }
            }
            (Buffer::Words(whole), Buffer::Halves(rest)) => {
                self.absent |= take_times(whole, rest, block, at);
            }
            (Buffer::Wides(out), _) if meaning == Meaning::Turnover => {
                out.extend(fields::<i128>(block, at));
            }
            (Buffer::Wides(out), _) => {
                let absent = &mut self.absent;
                out.extend(fields::<i64>(block, at).map(|value| {
                    *absent |= value == NONE;
                    i128::from(value)
                }));
            }
            (Buffer::Bytes(out), _) => {
                let start = out.len();
                out.extend(fields::<u8>(block, at));
                self.absent |= out[start..].iter().fold(false, |any, &value| any | (value == 0));
                self.largest = out[start..].iter().fold(self.largest, |a, &b| a.max(b));
            }
            (Buffer::Halves(out), _) => out.extend(fields::<u16>(block, at)),
            (Buffer::Ints(out), _) => {
                let start = out.len();
                out.extend(fields::<u32>(block, at));
                let none = |any, &value: &u32| any | (value == u32::MAX);
                self.absent |= out[start..].iter().fold(false, none);
            }
            (Buffer::Words(out), _) => out.extend(fields::<u64>(block, at)),
            (Buffer::None, _) => {}
        }
    }

    /// Appends the columns to `out`: two for a time, none for what is not shown.
    pub(super) fn columns(self, out: &mut Vec<Column>) -> Result<()> {
        let Self { field, values, rest, absent, largest } = self;
        let name = field.name;
        let all = Validity::all;
        let column = match (field.meaning, values, rest) {
            (_, Buffer::None, _) => return Ok(()),
            (Meaning::Time, Buffer::Words(whole), Buffer::Halves(rest)) => {
                out.extend(Column::time_parts(name, whole, rest, absent));
                return Ok(());
            }
            (Meaning::Text, Buffer::Ints(mut ends), Buffer::Bytes(text)) => {
                ends.insert(0, 0);
                Column::text_parts(name, ends, text)
            }
            (Meaning::Price, Buffer::Wides(values), _) => {
                Column::wide_decimals(name, PRICE_PLACES, values, absent)
            }
            (Meaning::Size, Buffer::Wides(values), _) => {
                Column::wide_decimals(name, SIZE_PLACES, values, absent)
            }
            (Meaning::Turnover, Buffer::Wides(values), _) => {
                if values.iter().any(|value| value.unsigned_abs() > DECIMAL_MAX) {
                    return Err(Error::invalid(format!("{name} has more than 38 digits")));
                }
                let format = format!("d:38,{TURNOVER_PLACES}");
                Column::plain(name, &format, values.len(), all(), Buffer::Wides(values))
            }
            (Meaning::Count, Buffer::Ints(values), _) => {
                let valid = values.iter().map(|&value| value != u32::MAX);
                let validity = Validity::where_absent(absent, valid);
                Column::plain(name, "I", values.len(), validity, Buffer::Ints(values))
            }
            (Meaning::Float, Buffer::Words(values), _) => {
                let valid = values.iter().map(|&bits| !f64::from_bits(bits).is_nan());
                let validity = Validity::of(valid, values.len());
                Column::plain(name, "g", values.len(), validity, Buffer::Words(values))
            }
            (Meaning::Name(names), Buffer::Bytes(values), _) => {
                names_column(name, names, values, absent, largest)?
            }
            (_, values @ Buffer::Bytes(_), _) => Column::numbers(name, "C", values),
            (_, values @ Buffer::Halves(_), _) => Column::numbers(name, "S", values),
            (_, values @ Buffer::Ints(_), _) => Column::numbers(name, "I", values),
            (_, values, _) => Column::numbers(name, "L", values),
        };
        out.push(column);
        Ok(())
    }
}

/// The field at `offset` of each row of `block`, which are `width` bytes long.
pub(super) fn fields<T: Copy + 'static>(
    block: &[u8],
    (width, offset): (usize, usize),
) -> impl Iterator<Item = T> + '_ {
    block.chunks_exact(width).map(move |row| {
        let field = &row[offset..offset + size_of::<T>()];
        // SAFETY: the slice is as long as the value, and `T` is an integer.
        unsafe { std::ptr::read_unaligned(field.as_ptr().cast::<T>()) }
    })
}

/// Appends times as microseconds and the nanoseconds beyond. Says whether one is absent.
fn take_times(whole: &mut Vec<u64>, rest: &mut Vec<u16>, block: &[u8], at: (usize, usize)) -> bool {
    let (start, mut absent) = (whole.len(), false);
    whole.extend(fields::<u64>(block, at));
    rest.extend(whole[start..].iter_mut().map(|value| {
        absent |= *value as i64 == NONE;
        split_time(value)
    }));
    absent
}

/// Turns the bits of a time in ns into those of its microseconds, rounded down; gives the rest.
#[inline]
pub(super) const fn split_time(value: &mut u64) -> u16 {
    let ns = *value as i64;
    let whole = ns.div_euclid(NANOSECONDS);
    *value = whole as u64;
    (ns - whole * NANOSECONDS) as u16
}

fn names_column(
    name: &str,
    names: &[&str],
    mut values: Vec<u8>,
    absent: bool,
    largest: u8,
) -> Result<Column> {
    if !values.is_empty() && largest as usize >= names.len() {
        let unknown = values.iter().find(|&&value| value as usize >= names.len());
        return Err(Error::invalid(format!(
            "{name} {} is not known to this build: update Tapeworks to read it",
            unknown.unwrap_or(&largest)
        )));
    }
    let validity = Validity::where_absent(absent, values.iter().map(|&value| value != 0));
    values.iter_mut().for_each(|value| *value = value.saturating_sub(1));
    let mut column = Column::plain(name, "c", values.len(), validity, Buffer::Bytes(values));
    column.dictionary = Some(Box::new(Column::text("", names.iter().skip(1).copied())));
    Ok(column)
}
