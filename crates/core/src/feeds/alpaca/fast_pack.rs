//! Frames of msgpack in the form that the venue sends, read where they stand.
//!
//! A double is taken for the decimal of up to 15 digits that it is nearest to, if there is one:
//! that is the one with the fewest digits, which `msgpack.rs` would write.

use super::fast::{Form, Letters};
use crate::feeds::cursor::{key, Key};
use crate::record::{NONE, PRICE_PLACES, SIZE_PLACES};

const NS_PER_S: i64 = 1_000_000_000;
/// Places of a decimal that a double is taken for.
const PLACES: u32 = 8;
/// From here on such a decimal has more than 15 digits.
const DOUBLE_END: f64 = 1e7;
/// Bytes of the longest text that is looked at.
const TEXT_MAX: usize = 64;

/// A frame of msgpack.
pub struct Pack<'a> {
    /// What was not read yet.
    rest: &'a [u8],
    events: usize,
    members: usize,
}

/// A value that is a number.
enum Number {
    Whole(u64),
    Double(f64),
}

impl<'a> Pack<'a> {
    /// The frame `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, events: 0, members: 0 }
    }

    #[inline(always)]
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|&[byte]| byte)
    }

    /// The length of a list (`few` 0x90, `many` 0xdc) or of a map (0x80, 0xde).
    #[inline(always)]
    fn count(&mut self, few: u8, many: u8) -> Option<usize> {
        let first = self.byte()?;
        if first & 0xf0 == few {
            return Some(usize::from(first & 0x0f));
        }
        if first == many {
            return self.take().map(|&bytes| usize::from(u16::from_be_bytes(bytes)));
        }
        (first == many + 1).then_some(())?;
        self.take().map(|&bytes| u32::from_be_bytes(bytes) as usize)
    }

    /// The number whose first byte is `first`, if it is one.
    #[inline(always)]
    fn number_of(&mut self, first: u8) -> Option<Number> {
        Some(Number::Whole(match first {
            0x00..=0x7f => u64::from(first),
            0xcc => u64::from(self.byte()?),
            0xcd => u64::from(u16::from_be_bytes(*self.take()?)),
            0xce => u64::from(u32::from_be_bytes(*self.take()?)),
            0xcf => u64::from_be_bytes(*self.take()?),
            0xd0 => u64::try_from(i8::from_be_bytes(*self.take()?)).ok()?,
            0xd1 => u64::try_from(i16::from_be_bytes(*self.take()?)).ok()?,
            0xd2 => u64::try_from(i32::from_be_bytes(*self.take()?)).ok()?,
            0xd3 => u64::try_from(i64::from_be_bytes(*self.take()?)).ok()?,
            0xcb => return Some(Number::Double(f64::from_be_bytes(*self.take()?))),
            _ => return None,
        }))
    }

    /// A number that is not negative, in units of `10^-places`.
    #[inline(always)]
    fn decimal(&mut self, places: u32) -> Option<i64> {
        let first = self.byte()?;
        let value = match self.number_of(first)? {
            Number::Whole(value) => i64::try_from(value).ok()?.checked_mul(10i64.pow(places))?,
            Number::Double(value) => units_of(value)?.checked_mul(10i64.pow(places - PLACES))?,
        };
        (value != NONE).then_some(value)
    }

    /// The text whose first byte is `first`. It is ASCII.
    #[inline(always)]
    fn text_of(&mut self, first: u8) -> Option<&'a [u8]> {
        let length = match first {
            0xa0..=0xbf => usize::from(first & 0x1f),
            0xd9 => usize::from(self.byte()?),
            _ => return None,
        };
        if length > TEXT_MAX {
            return None;
        }
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        (text.iter().fold(0, |all, byte| all | byte) < 0x80).then_some(text)
    }

    /// The time whose first byte is `first`.
    #[inline(always)]
    fn time_of(&mut self, first: u8) -> Option<i64> {
        let (seconds, ns) = match (first, self.byte()?) {
            (0xd6, 0xff) => (i64::from(u32::from_be_bytes(*self.take()?)), 0),
            (0xd7, 0xff) => {
                let both = u64::from_be_bytes(*self.take()?);
                ((both & 0x3_ffff_ffff) as i64, (both >> 34) as i64)
            }
            (0xc7, 12) if self.byte()? == 0xff => {
                let ns = i64::from(u32::from_be_bytes(*self.take()?));
                (i64::from_be_bytes(*self.take()?), ns)
            }
            _ => return None,
        };
        if seconds < 0 || ns >= NS_PER_S {
            return None;
        }
        seconds.checked_mul(NS_PER_S)?.checked_add(ns).filter(|&ts| ts != NONE)
    }

    /// Moves over the value whose first byte is `first`, which is no container.
    #[inline(always)]
    fn skip_scalar(&mut self, first: u8) -> Option<()> {
        match first {
            0xc0 | 0xc2 | 0xc3 => Some(()),
            0xa0..=0xbf | 0xd9 => self.text_of(first).map(drop),
            0xc7 | 0xd6 | 0xd7 => self.time_of(first).map(drop),
            _ => self.number_of(first).map(drop),
        }
    }
}

/// The units of 1e-8 of the decimal that `value` is nearest to, if it is one of up to 15 digits.
#[inline(always)]
fn units_of(value: f64) -> Option<i64> {
    if !(0.0..DOUBLE_END).contains(&value) {
        return None;
    }
    let unit = 10u32.pow(PLACES) as f64;
    // Whatever the rounding of the product is: the quotient of two whole numbers below 2^53 is the
    // double that is nearest to the decimal.
    let units = (value * unit + 0.5) as i64;
    (units as f64 / unit == value).then_some(units)
}

impl<'a> Form<'a> for Pack<'a> {
    #[inline(always)]
    fn begin(&mut self) -> Option<()> {
        self.events = self.count(0x90, 0xdc)?;
        (self.events > 0).then_some(())
    }

    #[inline(always)]
    fn event_type(&mut self) -> Option<&'a [u8]> {
        self.members = self.count(0x80, 0xde)?.checked_sub(1)?;
        if self.text()? != b"T" {
            return None;
        }
        self.text()
    }

    #[inline(always)]
    fn next_key(&mut self) -> Option<Option<Key>> {
        let Some(left) = self.members.checked_sub(1) else { return Some(None) };
        self.members = left;
        // A key with zeros behind it is another one.
        let text = self.text().filter(|text| text.last() != Some(&0))?;
        Some(Some(key(text)))
    }

    #[inline(always)]
    fn has_next(&mut self) -> Option<bool> {
        self.events -= 1;
        (self.events > 0 || self.rest.is_empty()).then_some(self.events > 0)
    }

    #[inline(always)]
    fn text(&mut self) -> Option<&'a [u8]> {
        let first = self.byte()?;
        self.text_of(first)
    }

    #[inline(always)]
    fn price(&mut self) -> Option<i64> {
        self.decimal(PRICE_PLACES)
    }

    #[inline(always)]
    fn size(&mut self) -> Option<i64> {
        self.decimal(SIZE_PLACES)
    }

    #[inline(always)]
    fn integer(&mut self) -> Option<u64> {
        let first = self.byte()?;
        match self.number_of(first)? {
            Number::Whole(value) => Some(value),
            Number::Double(_) => None,
        }
    }

    #[inline(always)]
    fn time(&mut self) -> Option<i64> {
        let first = self.byte()?;
        self.time_of(first)
    }

    #[inline(always)]
    fn letters(&mut self, out: &mut Letters) -> Option<()> {
        if !matches!(self.rest.first()?, 0x90..=0x9f | 0xdc) {
            return out.push(self.text()?);
        }
        for _ in 0..self.count(0x90, 0xdc)? {
            out.push(self.text()?)?;
        }
        Some(())
    }

    #[inline(always)]
    fn skip(&mut self) -> Option<()> {
        if !matches!(self.rest.first()?, 0x90..=0x9f | 0xdc) {
            let first = self.byte()?;
            return self.skip_scalar(first);
        }
        for _ in 0..self.count(0x90, 0xdc)? {
            let first = self.byte()?;
            self.skip_scalar(first)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal;

    #[test]
    fn doubles_are_the_decimals_with_the_fewest_digits() {
        // Decimals of each number of places, and doubles beside them: what is read straight is
        // what the shortest text says, and no decimal below the end is left to the other path.
        let mut state = 7u64;
        for round in 0..300_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round | 1);
            let places = (state >> 33) % 9;
            let whole = (state >> 40) % 10u64.pow(7 + places as u32);
            let value: f64 = format!("{whole}e-{places}").parse().unwrap();
            let off = f64::from_bits(value.to_bits() + (state >> 20) % 3);
            for (value, must) in [(value, true), (off, false)] {
                let shortest = decimal::parse(format!("{value:e}").as_bytes(), PLACES);
                match units_of(value) {
                    Some(units) => assert_eq!(Ok(units), shortest, "{value}"),
                    None => assert!(!must, "{value}"),
                }
            }
        }
        for no in [-1.0, 1e7, f64::NAN, f64::INFINITY, 1e-9, 0.1 + 0.2] {
            assert_eq!(units_of(no), None, "{no}");
        }
        assert_eq!(units_of(-0.0), Some(0));
    }
}
