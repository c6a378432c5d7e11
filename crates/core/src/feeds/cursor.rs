//! Straight-line reading of bytes whose form is expected.
//!
//! Every step answers `None` when the bytes are anything else than expected, and the frame is then
//! read anew by the path that takes any JSON. Bytes behind the end of the frame read as zeros, and
//! no step moves over a zero byte: so a cursor never leaves the frame.

use crate::decimal;
use crate::record::{PRICE_PLACES, SIZE_PLACES};

/// Times from here on are in µs, below in ms: the years 33658 and 2001.
pub const MICROSECONDS_MIN: i64 = 1_000_000_000_000_000;
/// Texts up to this length are looked at; symbols and stream names are shorter.
const TEXT_MAX: usize = 64;
/// Numbers in quotes up to this length are looked at.
const NUMBER_MAX: usize = 40;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const ZEROS: u64 = 0x3030_3030_3030_3030;
const QUOTES: u64 = b'"' as u64 * ONES;

/// A key of up to seven bytes as a number, the first one lowest.
pub type Key = u64;
/// Stands for all longer keys.
const LONG_KEY: Key = 0;
/// Bytes of the longest key that is read with what stands around it.
const SHORT_KEY: u32 = 4;

/// The number of the key `text`.
#[inline(always)]
pub const fn key(text: &[u8]) -> Key {
    if text.len() > 7 {
        return LONG_KEY;
    }
    let (mut number, mut at) = (0, 0);
    while at < text.len() {
        number |= (text[at] as u64) << (at * 8);
        at += 1;
    }
    number
}

/// The first `count` bytes of eight, 0 to 7.
#[inline(always)]
const fn first_bytes(word: u64, count: u32) -> u64 {
    word & ((1 << (count * 8)) - 1)
}

/// Marks bytes that are not ASCII, a control character, or a backslash; exact up to the first.
#[inline(always)]
const fn wrong_in_text(word: u64) -> u64 {
    (word & HIGHS)
        | (word.wrapping_sub(0x20 * ONES) & !word & HIGHS)
        | zero_bytes(word ^ (b'\\' as u64 * ONES))
}

/// A place in a frame.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Marks bytes that are no digit, given eight bytes xored with `ZEROS`; exact up to the first.
#[inline(always)]
const fn not_digits(word: u64) -> u64 {
    (word.wrapping_add(0x76 * ONES) | word) & HIGHS
}

/// The number that eight digits make, the first one in the lowest byte.
#[inline(always)]
const fn eight_digits(word: u64) -> u64 {
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

/// The number that the first `count` bytes of eight make, 0 to 8.
#[inline(always)]
const fn few_digits(word: u64, count: u32) -> u64 {
    // Shifted up, the digits stand last, with zeros in front of them. Twice, since a shift by all
    // 64 bits is none.
    let half = (8 - count) * 4;
    eight_digits(word << half << half)
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of a frame.
    #[inline(always)]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Whether all of the frame was read.
    #[inline(always)]
    pub const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Eight bytes from `offset` on, the first one lowest.
    #[inline(always)]
    fn word(&self, offset: usize) -> u64 {
        let at = self.at + offset;
        match self.bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => self.last_word(at),
        }
    }

    /// As `word`, at the end of the frame.
    #[cold]
    fn last_word(&self, at: usize) -> u64 {
        let rest = self.bytes.get(at..).unwrap_or_default();
        rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    /// The byte here, zero at the end.
    #[inline(always)]
    pub fn byte(&self) -> u8 {
        self.byte_at(0)
    }

    #[inline(always)]
    fn byte_at(&self, offset: usize) -> u8 {
        self.bytes.get(self.at + offset).copied().unwrap_or(0)
    }

    /// The next bytes, if there are as many.
    #[inline(always)]
    pub fn window<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.bytes.get(self.at..self.at + N)?.first_chunk()
    }

    /// Moves over `count` bytes of a window.
    #[inline(always)]
    pub fn advance(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.bytes.len());
    }

    /// Whether `text` stands here.
    #[inline(always)]
    pub fn sees<const N: usize>(&self, text: &[u8; N]) -> bool {
        self.window::<N>() == Some(text)
    }

    /// Moves over `text`, which has no zero byte.
    #[inline(always)]
    pub fn expect<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        if !self.sees(text) {
            return None;
        }
        self.at += N;
        Some(())
    }

    /// Moves over `text` if it stands here.
    #[inline(always)]
    pub fn skip<const N: usize>(&mut self, text: &[u8; N]) -> bool {
        self.expect(text).is_some()
    }

    /// The text up to the next quote, which is moved over. It has no escape and is ASCII.
    #[inline(always)]
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        while self.at - start < TEXT_MAX && self.at < self.bytes.len() {
            let word = self.word(0);
            let quote = zero_bytes(word ^ QUOTES);
            let before = quote.wrapping_sub(1) & !quote;
            if wrong_in_text(word) & before != 0 {
                return None;
            }
            if quote != 0 {
                let end = self.at + (quote.trailing_zeros() / 8) as usize;
                self.at = end + 1;
                return self.bytes.get(start..end);
            }
            self.at += 8;
        }
        None
    }

    /// An integer that is not negative, of up to 16 digits.
    #[inline(always)]
    pub fn integer(&mut self) -> Option<u64> {
        let first = self.word(0) ^ ZEROS;
        let stops = not_digits(first);
        if stops != 0 {
            let count = stops.trailing_zeros() / 8;
            if count == 0 || (count > 1 && first & 0xff == 0) {
                return None;
            }
            self.at += count as usize;
            return Some(few_digits(first, count));
        }
        let second = self.word(8) ^ ZEROS;
        let stops = not_digits(second);
        let count = stops.trailing_zeros() / 8;
        if first & 0xff == 0 || self.byte_at(8 + count as usize).is_ascii_digit() {
            return None;
        }
        self.at += 8 + count as usize;
        Some(eight_digits(first) * POWERS[count as usize] + few_digits(second, count))
    }

    /// As [`Cursor::integer`], of any number of digits that 64 bits hold.
    #[inline(always)]
    pub fn wide_integer(&mut self) -> Option<u64> {
        let start = *self;
        self.integer().or_else(|| {
            *self = start;
            self.integer_long()
        })
    }

    #[cold]
    fn integer_long(&mut self) -> Option<u64> {
        let length = self.digits(0)?;
        if length > 1 && self.byte() == b'0' {
            return None;
        }
        let digits = self.bytes.get(self.at..self.at + length)?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        self.at += length;
        Some(number)
    }

    /// The fraction of a second behind its point, of one to nine digits, in ns.
    #[inline(always)]
    pub fn nanoseconds(&mut self) -> Option<i64> {
        let digits = self.word(0) ^ ZEROS;
        let stops = not_digits(digits);
        if stops != 0 {
            let count = stops.trailing_zeros() / 8;
            self.at += count as usize;
            // What follows the digits is cut to zeros: they make up eight places.
            let mask = ((stops & stops.wrapping_neg()) >> 7).wrapping_sub(1);
            return (count > 0).then_some(eight_digits(digits & mask) as i64 * 10);
        }
        let last = self.byte_at(8);
        let has_nine = last.is_ascii_digit();
        self.at += 8 + usize::from(has_nine);
        let ninth = if has_nine { i64::from(last - b'0') } else { 0 };
        (!self.byte().is_ascii_digit()).then_some(eight_digits(digits) as i64 * 10 + ninth)
    }

    /// The next key of an object, up to its value. `None` within it is its end.
    #[inline(always)]
    pub fn next_key(&mut self) -> Option<Option<Key>> {
        let word = self.word(0);
        if word as u16 != u16::from_le_bytes(*b",\"") {
            return self.expect(b"}").map(|()| None);
        }
        // The key, its quote and the colon, as far as they are within eight bytes.
        let told = word >> 16;
        let quote = zero_bytes(told ^ QUOTES);
        let count = quote.trailing_zeros() / 8;
        if count > SHORT_KEY {
            return self.long_key();
        }
        let before = quote.wrapping_sub(1) & !quote;
        if wrong_in_text(told) & before != 0 || (told >> (count * 8 + 8)) as u8 != b':' {
            return None;
        }
        self.at += count as usize + 4;
        Some(Some(first_bytes(told, count)))
    }

    /// As [`Cursor::next_key`], of a key of more bytes.
    #[cold]
    fn long_key(&mut self) -> Option<Option<Key>> {
        self.at += 2;
        let text = self.text()?;
        self.expect(b":")?;
        Some(Some(key(text)))
    }

    /// Moves over a number, a text, or a list of these.
    #[inline(always)]
    pub fn skip_value(&mut self) -> Option<()> {
        if self.byte() != b'[' {
            return self.skip_scalar();
        }
        self.at += 1;
        if self.skip(b"]") {
            return Some(());
        }
        loop {
            self.skip_scalar()?;
            if !self.skip(b",") {
                return self.expect(b"]");
            }
        }
    }

    #[inline(always)]
    fn skip_scalar(&mut self) -> Option<()> {
        if self.byte() != b'"' {
            return self.skip_number();
        }
        self.at += 1;
        self.text().map(drop)
    }

    /// A time in ns, written in ms or µs.
    #[inline(always)]
    pub fn time(&mut self) -> Option<i64> {
        let value = self.integer()? as i64;
        // Values of up to 16 digits; those in ms that do not fit are left to the other path.
        let unit = if value >= MICROSECONDS_MIN { 1_000 } else { 1_000_000 };
        value.checked_mul(unit)
    }

    /// A decimal, in units of 1e-8, up to the quote after it, which is not moved over.
    #[inline(always)]
    fn decimal(&mut self, places: u32) -> Option<i64> {
        let whole = self.word(0) ^ ZEROS;
        let stops = not_digits(whole);
        let count = stops.trailing_zeros() / 8;
        if stops == 0 || count == 0 {
            return self.decimal_long(places);
        }
        let unit = 10i64.pow(places - 8);
        let value = few_digits(whole, count) as i64 * 100_000_000;
        if (whole >> (count * 8)) as u8 != b'.' ^ b'0' {
            self.at += count as usize;
            return Some(value * unit);
        }
        let fraction = self.word(count as usize + 1) ^ ZEROS;
        let stops = not_digits(fraction);
        // Eight digits at most; a ninth one makes the quote fail to follow.
        let digits = stops.trailing_zeros() / 8;
        if digits == 0 || self.byte_at((count + 1 + digits) as usize) != b'"' {
            return self.decimal_long(places);
        }
        self.at += (count + 1 + digits) as usize;
        // What follows the digits is cut to zeros: they make up eight places.
        let mask = ((stops & stops.wrapping_neg()) >> 7).wrapping_sub(1);
        Some((value + eight_digits(fraction & mask) as i64) * unit)
    }

    #[cold]
    fn decimal_long(&mut self, places: u32) -> Option<i64> {
        let rest = &self.bytes[self.at..];
        let rest = &rest[..rest.len().min(NUMBER_MAX)];
        let length = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.'))?;
        let value = decimal::parse(&rest[..length], places).ok()?;
        self.at += length;
        Some(value)
    }

    /// A decimal without quotes, in units of `10^-places`: digits, with a point between digits or
    /// none, up to what ends a value, which is not moved over.
    #[inline(always)]
    fn bare(&mut self, places: u32) -> Option<i64> {
        let whole = self.word(0) ^ ZEROS;
        let stops = not_digits(whole);
        let count = stops.trailing_zeros() / 8;
        if stops == 0 || count == 0 || (count > 1 && whole & 0xff == 0) {
            return None;
        }
        let unit = 10i64.pow(places - 8);
        let value = few_digits(whole, count) as i64 * 100_000_000;
        let next = (whole >> (count * 8)) as u8 ^ b'0';
        if next != b'.' {
            self.at += count as usize;
            return ends_value(next).then_some(value * unit);
        }
        let fraction = self.word(count as usize + 1) ^ ZEROS;
        let stops = not_digits(fraction);
        // Eight digits at most: a ninth one ends no value.
        let digits = stops.trailing_zeros() / 8;
        let length = (count + 1 + digits) as usize;
        if digits == 0 || !ends_value(self.byte_at(length)) {
            return None;
        }
        self.at += length;
        // What follows the digits is cut to zeros: they make up eight places.
        let mask = ((stops & stops.wrapping_neg()) >> 7).wrapping_sub(1);
        Some((value + eight_digits(fraction & mask) as i64) * unit)
    }

    /// A price without quotes, as [`Cursor::bare`] reads it.
    #[inline(always)]
    pub fn bare_price(&mut self) -> Option<i64> {
        self.bare(PRICE_PLACES)
    }

    /// A size without quotes, as [`Cursor::bare`] reads it.
    #[inline(always)]
    pub fn bare_size(&mut self) -> Option<i64> {
        self.bare(SIZE_PLACES)
    }

    /// Moves over a number without an exponent, up to what ends a value.
    #[inline(always)]
    pub fn skip_number(&mut self) -> Option<()> {
        let length = self.digits(0)?;
        if length > 1 && self.byte() == b'0' {
            return None;
        }
        self.at += length;
        if self.byte() == b'.' {
            self.at += 1 + self.digits(1)?;
        }
        ends_value(self.byte()).then_some(())
    }

    /// Number of digits from `offset` on, one or more.
    #[inline(always)]
    fn digits(&self, offset: usize) -> Option<usize> {
        let mut end = offset;
        while self.byte_at(end).is_ascii_digit() {
            end += 1;
        }
        (end > offset).then_some(end - offset)
    }

    /// A price up to its closing quote.
    #[inline(always)]
    pub fn price(&mut self) -> Option<i64> {
        self.decimal(PRICE_PLACES)
    }

    /// A size up to its closing quote.
    #[inline(always)]
    pub fn size(&mut self) -> Option<i64> {
        self.decimal(SIZE_PLACES)
    }

    /// `true` or `false`.
    #[inline(always)]
    pub fn flag(&mut self) -> Option<bool> {
        if self.skip(b"true") {
            return Some(true);
        }
        self.expect(b"false").map(|()| false)
    }
}

/// Whether `byte` may follow a value of an array or object.
#[inline(always)]
const fn ends_value(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']')
}

/// Marks zero bytes; exact up to the first.
#[inline(always)]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

// Decimals are read in units of 1e-8 and brought to these.
const _: () = assert!(PRICE_PLACES >= 8 && SIZE_PLACES >= 8);
