//! Frames in msgpack as the JSON that they stand for, so that one decoder reads both encodings.
//!
//! A double is written with the fewest digits that give it back, which are those that the venue
//! put into it. A timestamp becomes a bare number of ns, which no JSON frame has at such a place.
//! What JSON has no word for, such as an infinite number, becomes a text: no value that is a
//! number or a time can be read of it, and its event alone is rejected.

use std::io::Write;

use crate::error::{DecodeReason, Error, Result};

/// Containers inside one another, at most: the venue's have four.
const DEPTH_MAX: usize = 32;
/// The type of an extension that is a timestamp.
const TIMESTAMP: i8 = -1;
const NS_PER_S: u32 = 1_000_000_000;

/// Appends the frame `bytes` to `out` as JSON.
///
/// # Errors
/// `Error::Decode`: it ends within a value (`Truncated`) or goes on behind it (`TrailingBytes`), a
/// text is no UTF-8 (`NotUtf8`), or a key is no text, a value is binary or of an extension that
/// is not known (`WrongType`).
pub fn to_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut reader = Reader { bytes, at: 0, out };
    reader.value(0)?;
    if reader.at < bytes.len() {
        return Err(reader.wrong(DecodeReason::TrailingBytes));
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
}

impl<'a> Reader<'a> {
    const fn wrong(&self, reason: DecodeReason) -> Error {
        Error::decode(reason, self.at)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else { return Err(self.wrong(DecodeReason::Truncated)) };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An unsigned number of so many bytes.
    fn unsigned(&mut self, length: usize) -> Result<u64> {
        Ok(self.take(length)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// A signed number of so many bytes.
    fn signed(&mut self, length: usize) -> Result<i64> {
        let unused = 64 - 8 * length as u32;
        Ok((self.unsigned(length)? << unused) as i64 >> unused)
    }

    fn length(&mut self, bytes: usize) -> Result<usize> {
        Ok(self.unsigned(bytes)? as usize)
    }

    fn value(&mut self, depth: usize) -> Result<()> {
        let start = self.at;
        let first = self.take(1)?[0];
        match first {
            0x00..=0x7f => self.write(first),
            0x80..=0x8f => self.map(usize::from(first & 0x0f), depth)?,
            0x90..=0x9f => self.array(usize::from(first & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(first & 0x1f))?,
            0xc0 => self.write("null"),
            0xc2 => self.write("false"),
            0xc3 => self.write("true"),
            0xc7..=0xc9 => {
                let length = self.length(1 << (first - 0xc7))?;
                self.extension(length, start)?;
            }
            0xca => {
                let bits = self.unsigned(4)? as u32;
                self.float(f32::from_bits(bits).is_finite(), f32::from_bits(bits));
            }
            0xcb => {
                let value = f64::from_bits(self.unsigned(8)?);
                self.float(value.is_finite(), value);
            }
            0xcc..=0xcf => {
                let value = self.unsigned(1 << (first - 0xcc))?;
                self.write(value);
            }
            0xd0..=0xd3 => {
                let value = self.signed(1 << (first - 0xd0))?;
                self.write(value);
            }
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4), start)?,
            0xd9..=0xdb => {
                let length = self.length(1 << (first - 0xd9))?;
                self.text(length)?;
            }
            0xdc | 0xdd => {
                let length = self.length(2 << (first - 0xdc))?;
                self.array(length, depth)?;
            }
            0xde | 0xdf => {
                let length = self.length(2 << (first - 0xde))?;
                self.map(length, depth)?;
            }
            0xe0..=0xff => self.write(first as i8),
            0xc1 | 0xc4..=0xc6 => return Err(Error::decode(DecodeReason::WrongType, start)),
        }
        Ok(())
    }

    fn write(&mut self, value: impl std::fmt::Display) {
        // A vector takes all that is written.
        let _ = write!(self.out, "{value}");
    }

    fn float(&mut self, is_finite: bool, value: impl std::fmt::LowerExp) {
        let _ = if is_finite {
            write!(self.out, "{value:e}")
        } else {
            write!(self.out, "\"{value:e}\"")
        };
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        if depth == DEPTH_MAX {
            return Err(self.wrong(DecodeReason::WrongType));
        }
        Ok(depth + 1)
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<()> {
        let depth = self.deeper(depth)?;
        self.out.push(b'[');
        for at in 0..length {
            if at > 0 {
                self.out.push(b',');
            }
            self.value(depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<()> {
        let depth = self.deeper(depth)?;
        self.out.push(b'{');
        for at in 0..length {
            if at > 0 {
                self.out.push(b',');
            }
            if !matches!(self.bytes.get(self.at), None | Some(0xa0..=0xbf | 0xd9..=0xdb)) {
                return Err(self.wrong(DecodeReason::WrongType));
            }
            self.value(depth)?;
            self.out.push(b':');
            self.value(depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let start = self.at;
        let text = self.take(length)?;
        if std::str::from_utf8(text).is_err() {
            return Err(Error::decode(DecodeReason::NotUtf8, start));
        }
        self.out.push(b'"');
        for &byte in text {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                0..=0x1f => {
                    let _ = write!(self.out, "\\u{byte:04x}");
                }
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
        Ok(())
    }

    fn extension(&mut self, length: usize, start: usize) -> Result<()> {
        let number = self.take(1)?[0] as i8;
        let (seconds, ns) = match (number, length) {
            (TIMESTAMP, 4) => (self.unsigned(4)? as i64, 0),
            (TIMESTAMP, 8) => {
                let both = self.unsigned(8)?;
                ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
            }
            (TIMESTAMP, 12) => {
                let ns = self.unsigned(4)? as u32;
                (self.signed(8)?, ns)
            }
            _ => {
                self.take(length)?;
                return Err(Error::decode(DecodeReason::WrongType, start));
            }
        };
        if ns < NS_PER_S {
            self.write(i128::from(seconds) * i128::from(NS_PER_S) + i128::from(ns));
        } else {
            self.write("\"no time\"");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> Result<String> {
        let mut out = Vec::new();
        to_json(bytes, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_type_is_read() {
        // The bytes of each form, from the specification, and the JSON by hand.
        for (bytes, wanted) in [
            (&[0x7f][..], "127"),
            (&[0xe0], "-32"),
            (&[0xcc, 0xff], "255"),
            (&[0xcd, 1, 0], "256"),
            (&[0xcf, 255, 255, 255, 255, 255, 255, 255, 255], "18446744073709551615"),
            (&[0xd0, 0x80], "-128"),
            (&[0xd3, 128, 0, 0, 0, 0, 0, 0, 0], "-9223372036854775808"),
            (&[0xca, 0x3f, 0xc0, 0, 0], "1.5e0"),
            (&[0xcb, 0x40, 0x5f, 0xa3, 0x33, 0x33, 0x33, 0x33, 0x33], "1.2655e2"),
            (&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], "\"NaN\""),
            (&[0xc0], "null"),
            (&[0x92, 0xc2, 0xc3], "[false,true]"),
            (&[0x81, 0xa1, b'a', 0xa3, b'"', b'\\', 1], r#"{"a":"\"\\\u0001"}"#),
            (&[0xd9, 1, b'x'], "\"x\""),
            (&[0xdc, 0, 1, 1], "[1]"),
            (&[0xde, 0, 1, 0xa1, b'k', 2], "{\"k\":2}"),
            (&[0xd6, 0xff, 0, 0, 0, 1], "1000000000"),
            (&[0xd7, 0xff, 0, 0, 0, 4, 0, 0, 0, 2], "2000000001"),
            (&[0xc7, 12, 0xff, 0, 0, 0, 7, 255, 255, 255, 255, 255, 255, 255, 255], "-999999993"),
            (&[0xd7, 0xff, 255, 255, 255, 255, 0, 0, 0, 2], "\"no time\""),
        ] {
            assert_eq!(json(bytes).unwrap(), wanted, "{bytes:x?}");
            for end in 0..bytes.len() {
                let found = json(&bytes[..end]).unwrap_err().of_frame().unwrap();
                assert_eq!(found.0, DecodeReason::Truncated, "{bytes:x?} up to {end}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_of_the_venue_is_refused() {
        let deep: Vec<u8> = vec![0x91; 200];
        for (bytes, reason) in [
            (&[0xc1][..], DecodeReason::WrongType),
            (&[0xc4, 1, 0], DecodeReason::WrongType),
            (&[0xd4, 5, 0], DecodeReason::WrongType),
            (&[0x81, 1, 1], DecodeReason::WrongType),
            (&[0xa1, 0xff], DecodeReason::NotUtf8),
            (&[1, 2], DecodeReason::TrailingBytes),
            (&[0xdd, 255, 255, 255, 255], DecodeReason::Truncated),
            (&deep, DecodeReason::WrongType),
        ] {
            assert_eq!(json(bytes).unwrap_err().of_frame().unwrap().0, reason, "{bytes:x?}");
        }
    }
}
