//! What a store's table is made of, and the records that become its rows.
//!
//! A table names its columns; what each holds follows from the layout's field of that name. `copy`
//! makes such rows for PostgreSQL, `ilp` for QuestDB.

use std::mem::offset_of;

use super::columns::{Field, Layout, Meaning};
use super::Header;
use crate::error::{Error, Result};

/// What one column of a table holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum StoreColumn {
    /// The offset on the tape.
    Offset,
    /// The symbol of the instrument.
    Symbol,
    /// The same text in all rows.
    Provider,
    /// A field.
    Field(&'static Field),
    /// The nanoseconds beyond the microseconds of a time.
    Rest(&'static Field),
}

/// Why records cannot be rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowError {
    /// The instrument has no definition yet.
    Unknown {
        /// Its id.
        instrument: u32,
    },
    /// A record that no partition takes.
    Refused {
        /// The offset of the record.
        offset: u64,
        /// Why.
        reason: String,
    },
}

/// Records on their way into a table.
#[derive(Debug, Clone, Copy)]
pub struct RowInput<'a> {
    /// Whole records.
    pub bytes: &'a [u8],
    /// The offset of the first one.
    pub first_offset: u64,
    /// The instruments whose records are wanted, ascending; none: all.
    pub instruments: Option<&'a [u32]>,
}

impl StoreColumn {
    /// The column `name`: a field of `layout`, `<time>_ns`, `tape_offset`, `symbol` or `provider`.
    ///
    /// # Errors
    /// `Error::Invalid`: there is no such column.
    pub(super) fn named(layout: &'static Layout, name: &str) -> Result<Self> {
        match name {
            "tape_offset" => return Ok(Self::Offset),
            "provider" => return Ok(Self::Provider),
            "symbol" if !layout.names_symbol => return Ok(Self::Symbol),
            _ => {}
        }
        if let Some(field) = layout.fields().find(|field| field.name == name) {
            return Ok(Self::Field(field));
        }
        match name.strip_suffix("_ns") {
            Some(name) => time_field(layout, name).map(Self::Rest),
            None => Err(Error::invalid(format!("{} has no column {name:?}", layout.name))),
        }
    }
}

impl RowError {
    /// Of a record that lacks the time that its row goes by.
    pub(super) fn without_time(offset: u64, field: &Field) -> Self {
        Self::Refused { offset, reason: format!("expected a time in {}, got none", field.name) }
    }
}

impl<'a> RowInput<'a> {
    /// The wanted records of `layout`, each with its offset.
    pub(super) fn records(self, layout: &'static Layout) -> impl Iterator<Item = (u64, &'a [u8])> {
        super::records::iterate(self.bytes)
            .enumerate()
            .map(move |(at, record)| (self.first_offset + at as u64, record.bytes()))
            .filter(move |(_, bytes)| {
                layout.matches(bytes)
                    && self
                        .instruments
                        .is_none_or(|ids| ids.binary_search(&instrument_of(bytes)).is_ok())
            })
    }
}

/// The time `name` of `layout`.
pub(super) fn time_field(layout: &'static Layout, name: &str) -> Result<&'static Field> {
    layout
        .fields()
        .find(|field| field.name == name && field.meaning == Meaning::Time)
        .ok_or_else(|| Error::invalid(format!("{} has no time {name:?}", layout.name)))
}

/// The instrument of a record; 0: all.
#[inline]
pub(super) fn instrument_of(bytes: &[u8]) -> u32 {
    word::<4>(bytes, offset_of!(Header, instrument)) as u32
}

/// The unsigned number in the `N` bytes from `at` on.
#[inline]
pub(super) fn word<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}

/// The signed number of a field of 64 bits.
#[inline]
pub(super) fn signed(field: &Field, bytes: &[u8]) -> i64 {
    word::<8>(bytes, field.offset) as i64
}
