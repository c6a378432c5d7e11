//! The wire format of Protocol Buffers: varints, tags, and a reader that believes nothing.

use crate::error::{Error, Result};

pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;
pub(super) const FIXED32: u32 = 5;

/// Bytes behind `at` that a writer may touch beyond what it writes.
pub(super) const SLACK: usize = 16;

/// Writes `value` at `at` and returns the place behind it. May touch [`SLACK`] bytes.
#[inline]
pub(super) fn put_varint(buffer: &mut [u8], at: usize, value: u64) -> usize {
    if value < 0x80 {
        buffer[at] = value as u8;
        return at + 1;
    }
    if value < 1 << 56 {
        // Seven bits to a byte, in three steps: halves, quarters, eighths.
        let mut spread = (value & 0x0FFF_FFFF) | ((value & 0x00FF_FFFF_F000_0000) << 4);
        spread = (spread & 0x0000_3FFF_0000_3FFF) | ((spread & 0x0FFF_C000_0FFF_C000) << 2);
        spread = (spread & 0x007F_007F_007F_007F) | ((spread & 0x3F80_3F80_3F80_3F80) << 1);
        let length = (63 - value.leading_zeros() as usize) / 7 + 1;
        let more = 0x8080_8080_8080_8080 & ((1_u64 << (8 * (length - 1))) - 1);
        put_word(buffer, at, spread | more);
        return at + length;
    }
    let (mut at, mut rest) = (at, value);
    while rest >= 0x80 {
        buffer[at] = rest as u8 | 0x80;
        (at, rest) = (at + 1, rest >> 7);
    }
    buffer[at] = rest as u8;
    at + 1
}

/// Writes eight bytes at `at`.
#[inline]
pub(super) fn put_word(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes the tag of a field and returns the place behind it.
#[inline]
pub(super) fn put_tag(buffer: &mut [u8], at: usize, number: u32, wire: u32) -> usize {
    put_varint(buffer, at, u64::from(number << 3 | wire))
}

/// Writes a whole field of bytes and returns the place behind it.
pub(super) fn put_bytes(buffer: &mut [u8], at: usize, number: u32, bytes: &[u8]) -> usize {
    let at = put_tag(buffer, at, number, BYTES);
    let at = put_varint(buffer, at, bytes.len() as u64);
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

#[inline]
pub(super) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[inline]
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The value of one field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no field of ours has.
    Other,
}

/// Reads the fields of one message in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field, or none at the end.
    ///
    /// # Errors
    /// `Error::Invalid`: the bytes are no message.
    #[inline]
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        if number == 0 {
            return Err(self.broken("a field number"));
        }
        let value = match tag as u32 & 7 {
            VARINT => Value::Varint(self.varint()?),
            FIXED64 => {
                let word = self.take(8)?.try_into().expect("eight bytes were taken");
                Value::Fixed(u64::from_le_bytes(word))
            }
            BYTES => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            FIXED32 => {
                self.take(4)?;
                Value::Other
            }
            _ => return Err(self.broken("a wire type of 0, 1, 2 or 5")),
        };
        Ok(Some((number, value)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64> {
        let rest = &self.bytes[self.at..];
        match rest.first() {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                return Ok(u64::from(byte));
            }
            _ => {}
        }
        if let Some(word) = rest.first_chunk::<8>() {
            let word = u64::from_le_bytes(*word);
            let last = !word & 0x8080_8080_8080_8080;
            if last != 0 {
                // The way back of `put_varint`: seven bits of each byte up to the last one.
                let length = last.trailing_zeros() / 8 + 1;
                let bits = word & 0x7F7F_7F7F_7F7F_7F7F & (u64::MAX >> (64 - 8 * length));
                let pairs = (bits & 0x007F_007F_007F_007F) | (bits & 0x7F00_7F00_7F00_7F00) >> 1;
                let quads = (pairs & 0x3FFF_0000_3FFF) | (pairs & 0x3FFF_0000_3FFF_0000) >> 2;
                self.at += length as usize;
                return Ok((quads & 0x0FFF_FFFF) | (quads & 0x0FFF_FFFF_0000_0000) >> 4);
            }
        }
        let mut value = 0_u64;
        for (index, &byte) in rest.iter().take(10).enumerate() {
            let part = u64::from(byte & 0x7F);
            if index == 9 && byte > 1 {
                break;
            }
            value |= part << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(self.broken("a whole varint"))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.broken(&format!("{length} more bytes")));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    #[cold]
    fn broken(&self, expected: &str) -> Error {
        Error::invalid(format!(
            "message of {} bytes: expected {expected} at byte {}",
            self.bytes.len(),
            self.at
        ))
    }
}

/// What stands behind the header of Confluent's wire format, if `message` has one.
///
/// No message of protobuf starts with a zero, as no field has the number 0.
///
/// # Errors
/// `Error::Invalid`: the header is cut.
pub(super) fn without_frame(message: &[u8]) -> Result<&[u8]> {
    let Some((0, rest)) = message.split_first() else {
        return Ok(message);
    };
    let mut fields = Fields::new(rest);
    fields.take(4)?;
    let indexes = unzigzag(fields.varint()?);
    // A message within messages has several indexes; `MarketData` comes first in its file.
    for _ in 0..indexes.clamp(0, 16) {
        fields.varint()?;
    }
    Ok(&rest[fields.at..])
}
