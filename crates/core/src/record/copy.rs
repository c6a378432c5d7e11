//! Records as rows of PostgreSQL's binary COPY.
//!
//! A table names its columns; what each holds follows from the layout's field of that name, as for
//! Arrow: prices and sizes are exact `numeric`, times are `timestamptz` with the nanoseconds beyond
//! in `<name>_ns`, names are `text`, and absent values are null. Whole numbers are the smallest
//! signed type that holds each of their values, which of 64 bits is `numeric`.
//!
//! ```text
//! stream    "PGCOPY\n\xff\r\n\0"  flags i32 = 0  extension i32 = 0  row...  end i16 = -1
//! row       columns i16  column...
//! column    bytes i32 (-1: null)  value
//! numeric   groups i16  weight i16  sign u16  places i16  group i16 (of four digits)...
//! ```

use super::columns::{Field, Layout, Meaning};
use super::rows::{Symbols, DAY};
use super::store_rows::{instrument_of, signed, time_field, word, RowError, RowInput, StoreColumn};
use super::{unpadded, NONE, PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES};
use crate::error::Result;

/// What a stream begins with.
pub const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What a stream ends with.
pub const END: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// Days from 1970 to 2000, where PostgreSQL's time begins.
const DAYS_TO_2000: i64 = 10_957;
const MICROSECONDS_TO_2000: i64 = DAYS_TO_2000 * 86_400_000_000;
const NEGATIVE: u16 = 0x4000;
const GROUP: u64 = 10_000;
/// Groups of four digits that the largest value has: 39 digits, in front of and behind the point.
const GROUPS_MAX: usize = 12;

/// How the records of one layout become rows of a table.
#[derive(Debug, Clone)]
pub struct CopyTable {
    layout: &'static Layout,
    columns: Vec<StoreColumn>,
    /// The time whose day says which partition a row is of; none: all are of one.
    day_of: Option<&'static Field>,
}

/// The rows of one day, to be sent between [`HEAD`] and [`END`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CopyPart {
    /// Days since 1970; 0 where rows have no day.
    pub day: i64,
    /// Number of rows.
    pub count: u64,
    /// The rows, back to back.
    pub bytes: Vec<u8>,
}

impl CopyTable {
    /// The table with these columns: fields of `layout`, `<time>_ns`, `tape_offset`, `symbol` and
    /// `provider`. Its partitions are by the day of the time `day_of`, if there is one.
    ///
    /// # Errors
    /// `Error::Invalid`: there is no such column.
    pub fn new(layout: &'static Layout, columns: &[&str], day_of: Option<&str>) -> Result<Self> {
        let day_of = day_of.map(|name| time_field(layout, name)).transpose()?;
        let columns =
            columns.iter().map(|name| StoreColumn::named(layout, name)).collect::<Result<_>>()?;
        Ok(Self { layout, columns, day_of })
    }

    /// The rows of `inputs`, by day.
    ///
    /// # Errors
    /// A record that cannot be a row.
    pub fn encode(
        &self,
        inputs: &[RowInput<'_>],
        symbols: &Symbols,
        provider: &str,
    ) -> std::result::Result<Vec<CopyPart>, RowError> {
        let mut parts: Vec<CopyPart> = Vec::new();
        let mut current = 0;
        for input in inputs {
            for (offset, bytes) in input.records(self.layout) {
                let day = match self.day_of {
                    None => 0,
                    Some(field) => {
                        day_of(field, bytes).ok_or_else(|| RowError::without_time(offset, field))?
                    }
                };
                // Most rows are of the day of the one before.
                if parts.get(current).map(|part| part.day) != Some(day) {
                    current = find_part(&mut parts, day);
                }
                let part = &mut parts[current];
                self.row(bytes, offset, symbols, provider, &mut part.bytes)?;
                part.count += 1;
            }
        }
        parts.sort_unstable_by_key(|part| part.day);
        Ok(parts)
    }

    #[inline]
    fn row(
        &self,
        bytes: &[u8],
        offset: u64,
        symbols: &Symbols,
        provider: &str,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), RowError> {
        out.extend_from_slice(&(self.columns.len() as i16).to_be_bytes());
        for column in &self.columns {
            match column {
                StoreColumn::Offset => put(out, &(offset as i64).to_be_bytes()),
                StoreColumn::Provider => put(out, provider.as_bytes()),
                StoreColumn::Symbol => {
                    let instrument = instrument_of(bytes);
                    if instrument == 0 {
                        // Of all instruments.
                        out.extend_from_slice(&NULL);
                        continue;
                    }
                    let rank = symbols.rank_of(instrument) as usize;
                    let name = symbols.names().get(rank);
                    let name = name.ok_or(RowError::Unknown { instrument })?;
                    put(out, name.as_bytes());
                }
                StoreColumn::Rest(field) => match signed(field, bytes) {
                    NONE => out.extend_from_slice(&NULL),
                    ts => put(out, &(ts.rem_euclid(1_000) as i16).to_be_bytes()),
                },
                StoreColumn::Field(field) => put_field(out, field, bytes),
            }
        }
        Ok(())
    }
}

fn find_part(parts: &mut Vec<CopyPart>, day: i64) -> usize {
    parts.iter().position(|part| part.day == day).unwrap_or_else(|| {
        parts.push(CopyPart { day, ..CopyPart::default() });
        parts.len() - 1
    })
}

fn day_of(field: &Field, bytes: &[u8]) -> Option<i64> {
    let ts = signed(field, bytes);
    (ts != NONE).then(|| ts.div_euclid(DAY))
}

#[inline]
fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

#[inline]
fn put_field(out: &mut Vec<u8>, field: &Field, bytes: &[u8]) {
    match field.meaning {
        Meaning::Price => put_scaled(out, signed(field, bytes), PRICE_PLACES),
        Meaning::Size => put_scaled(out, signed(field, bytes), SIZE_PLACES),
        Meaning::Time => match signed(field, bytes) {
            NONE => out.extend_from_slice(&NULL),
            ts => {
                let microseconds = ts.div_euclid(1_000) - MICROSECONDS_TO_2000;
                put(out, &microseconds.to_be_bytes());
            }
        },
        Meaning::Turnover => {
            let mut wide = [0; 16];
            wide.copy_from_slice(&bytes[field.offset..field.offset + 16]);
            let value = i128::from_le_bytes(wide);
            put_wide(out, value.unsigned_abs(), value < 0, TURNOVER_PLACES);
        }
        Meaning::Float => match f64::from_bits(word::<8>(bytes, field.offset)) {
            value if value.is_nan() => out.extend_from_slice(&NULL),
            value => put(out, &value.to_be_bytes()),
        },
        Meaning::Text => {
            put(out, unpadded(&bytes[field.offset..field.offset + field.width]).as_bytes());
        }
        Meaning::Name(names) => match names.get(bytes[field.offset] as usize) {
            Some(name) if !name.is_empty() => put(out, name.as_bytes()),
            _ => out.extend_from_slice(&NULL),
        },
        Meaning::Count => match word::<4>(bytes, field.offset) {
            0xFFFF_FFFF => out.extend_from_slice(&NULL),
            count => put(out, &(count as i64).to_be_bytes()),
        },
        Meaning::Number | Meaning::Hidden => match field.width {
            1 => put(out, &(word::<1>(bytes, field.offset) as i16).to_be_bytes()),
            2 => put(out, &(word::<2>(bytes, field.offset) as i32).to_be_bytes()),
            4 => put(out, &(word::<4>(bytes, field.offset) as i64).to_be_bytes()),
            _ => put_number(out, word::<8>(bytes, field.offset)),
        },
    }
}

/// Appends a fixed-point value; [`NONE`] is null.
#[inline]
fn put_scaled(out: &mut Vec<u8>, value: i64, places: u32) {
    if value == NONE {
        out.extend_from_slice(&NULL);
        return;
    }
    let scale = 10_u64.pow(places);
    let (whole, part) = (value.unsigned_abs() / scale, value.unsigned_abs() % scale);
    // Nine places are twelve with three zeros, so that groups of four digits meet the point.
    let groups_behind = places.div_ceil(4) as usize;
    let part = part * 10_u64.pow(groups_behind as u32 * 4 - places);
    let mut groups = [0_u16; 6];
    let front = 3;
    split(whole, &mut groups[..front]);
    split(part, &mut groups[front..front + groups_behind]);
    put_groups(out, &groups[..front + groups_behind], front, value < 0);
}

/// Appends a whole number of 64 bits.
#[inline]
fn put_number(out: &mut Vec<u8>, value: u64) {
    let mut groups = [0_u16; 5];
    split(value, &mut groups);
    put_groups(out, &groups, 5, false);
}

/// Appends a value of 128 bits with `places` digits behind the point.
fn put_wide(out: &mut Vec<u8>, value: u128, is_negative: bool, places: u32) {
    let scale = 10_u128.pow(places);
    let behind = places.div_ceil(4) as usize;
    let (mut whole, part) = (value / scale, value % scale);
    let mut part = part * 10_u128.pow(behind as u32 * 4 - places);
    let mut groups = [0_u16; GROUPS_MAX];
    let front = GROUPS_MAX - behind;
    for group in groups[..front].iter_mut().rev() {
        *group = (whole % u128::from(GROUP)) as u16;
        whole /= u128::from(GROUP);
    }
    for group in groups[front..].iter_mut().rev() {
        *group = (part % u128::from(GROUP)) as u16;
        part /= u128::from(GROUP);
    }
    put_groups(out, &groups, front, is_negative);
}

#[inline]
fn split(mut value: u64, groups: &mut [u16]) {
    for group in groups.iter_mut().rev() {
        *group = (value % GROUP) as u16;
        value /= GROUP;
    }
}

/// Appends a `numeric` of `groups`, of which the first `front` stand before the point. As in text
/// written by hand, there are no more digits behind the point than the value has.
#[inline]
fn put_groups(out: &mut Vec<u8>, groups: &[u16], front: usize, is_negative: bool) {
    let first = groups.iter().position(|&group| group != 0).unwrap_or(groups.len());
    let last = groups.iter().rposition(|&group| group != 0).map_or(first, |at| at + 1);
    let (weight, places) = if first == last {
        (0, 0)
    } else {
        let zeros = match groups[last - 1] {
            group if group % 10 != 0 => 0,
            group if group % 100 != 0 => 1,
            group if group % 1_000 != 0 => 2,
            _ => 3,
        };
        (front as i16 - 1 - first as i16, (last.saturating_sub(front) * 4).saturating_sub(zeros))
    };
    let count = last - first;
    let sign = if is_negative { NEGATIVE } else { 0 };
    let mut value = [0_u8; 12 + 2 * GROUPS_MAX];
    value[..4].copy_from_slice(&(8 + 2 * count as i32).to_be_bytes());
    value[4..6].copy_from_slice(&(count as i16).to_be_bytes());
    value[6..8].copy_from_slice(&weight.to_be_bytes());
    value[8..10].copy_from_slice(&sign.to_be_bytes());
    value[10..12].copy_from_slice(&(places as i16).to_be_bytes());
    for (at, group) in groups[first..last].iter().enumerate() {
        value[12 + 2 * at..14 + 2 * at].copy_from_slice(&group.to_be_bytes());
    }
    out.extend_from_slice(&value[..12 + 2 * count]);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Reads a `numeric` as PostgreSQL does, and writes it as its text.
    fn shown(bytes: &[u8]) -> String {
        let short = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (count, weight) = (short(4) as usize, i32::from(short(6)));
        let places = short(10) as usize;
        let group = |place: i32| {
            let at = weight - place;
            let is_there = at >= 0 && (at as usize) < count;
            if is_there {
                short(12 + 2 * at as usize)
            } else {
                0
            }
        };
        let mut text = String::new();
        for place in (0..=weight.max(0)).rev() {
            let _ = write!(text, "{:04}", group(place));
        }
        let whole = text.trim_start_matches('0').to_owned();
        let mut part = String::new();
        for place in 1..=places.div_ceil(4) as i32 {
            let _ = write!(part, "{:04}", group(-place));
        }
        let point = if places > 0 { "." } else { "" };
        let sign = if short(8) == 0 { "" } else { "-" };
        let whole = if whole.is_empty() { "0" } else { &whole };
        format!("{sign}{whole}{point}{}", &part[..places])
    }

    #[test]
    fn fixed_point_values_are_exact_decimals() {
        // Each value against the text that arithmetic on its digits gives, at the ends of the
        // range, around powers of ten, and for values that a generator makes.
        let mut seed = 7_u64;
        let mut values = vec![0, 1, -1, i64::MAX - 1, i64::MIN, 9_999, 10_000, 100_000_000];
        values.extend((0..19).flat_map(|exponent| {
            let power = 10_i64.pow(exponent);
            [power, power - 1, -power, power + 1]
        }));
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            values.push((seed >> (seed % 60)) as i64);
        }
        for value in values {
            for places in [PRICE_PLACES, SIZE_PLACES] {
                let digits = format!("{:020}", value.unsigned_abs());
                let (whole, part) = digits.split_at(20 - places as usize);
                let whole = whole.trim_start_matches('0');
                let part = part.trim_end_matches('0');
                let sign = if value < 0 { "-" } else { "" };
                let point = if part.is_empty() { "" } else { "." };
                let whole = if whole.is_empty() { "0" } else { whole };
                let mut out = Vec::new();
                put_scaled(&mut out, value, places);
                assert_eq!(shown(&out), format!("{sign}{whole}{point}{part}"), "{value} {places}");
                let mut wide = Vec::new();
                put_wide(&mut wide, u128::from(value.unsigned_abs()), value < 0, places);
                assert_eq!(shown(&wide), shown(&out));
            }
            let mut out = Vec::new();
            put_number(&mut out, value as u64);
            assert_eq!(shown(&out), (value as u64).to_string());
        }
        let mut out = Vec::new();
        put_wide(&mut out, u128::MAX / 2 + 1, true, TURNOVER_PLACES);
        assert_eq!(shown(&out), "-1701411834604692317316.87303715884105728");
    }
}
