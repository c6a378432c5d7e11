//! The members of one JSON object, found in one pass and read when all are known.
//!
//! Only spans are kept, in a fixed table: a key that comes twice keeps its last value, as in
//! Python's `json`, and keys that no message uses are checked and forgotten.

use crate::decimal::{self, Unfit};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::scan::{unescape, Scanner, Span};
use crate::record::{PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES};

/// Where a key's value is kept. Keys of one letter use the letter itself.
pub type Slot = u8;

macro_rules! long_keys {
    ($($name:ident $key:literal),+ $(,)?) => {
        /// Slots of the keys with more than one letter.
        pub mod slot {
            use $crate::feeds::fields::Slot;

            #[derive(Clone, Copy)]
            #[repr(u8)]
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Number { First = 127, $($name),+, End }

            /// Number of slots.
            pub const COUNT: usize = Number::End as usize;
            const _: () = assert!(Number::First as u8 == 127);
            $(
                #[doc = concat!("`", $key, "`")]
                pub const $name: Slot = Number::$name as Slot;
            )+

            /// The slot of `key`, if any message uses it.
            pub fn of(key: &[u8]) -> Option<Slot> {
                if let [letter @ ..=127] = key {
                    return Some(*letter);
                }
                $(if key == $key.as_bytes() {
                    return Some($name);
                })+
                None
            }
        }
    };
}

pub(super) use long_keys;

/// Which slot of a feed's messages the value of a key has, if any message uses it.
pub type SlotOf = fn(&[u8]) -> Option<Slot>;

/// Spans of an object's values, by slot.
pub struct Fields<const COUNT: usize> {
    slots: [Span; COUNT],
    start: usize,
}

impl<const COUNT: usize> Fields<COUNT> {
    /// Checks and collects the object at `scanner`.
    ///
    /// # Errors
    /// `Error::Decode`: it is not JSON, or no object.
    pub fn collect(
        bytes: &[u8],
        scanner: &mut Scanner<'_>,
        scratch: &mut Vec<u8>,
        of: SlotOf,
    ) -> Result<Self> {
        let start = scanner.at_value(b'{')?;
        let mut fields = Self { slots: [Span::default(); COUNT], start };
        scanner.object(|scanner, key| {
            let value = scanner.value()?;
            if let Some(slot) = slot_of(key.of(bytes), scratch, of) {
                fields.slots[slot as usize] = value;
            }
            Ok(())
        })?;
        Ok(fields)
    }

    /// Whether the object has the key.
    pub const fn has(&self, slot: Slot) -> bool {
        self.slots[slot as usize].is_some()
    }

    /// The value of a key that the message needs.
    ///
    /// # Errors
    /// `Error::Decode` (`MissingField`) at the start of the object.
    pub const fn need(&self, slot: Slot) -> Result<Span> {
        let span = self.slots[slot as usize];
        if span.is_some() {
            return Ok(span);
        }
        Err(Error::decode(DecodeReason::MissingField, self.start))
    }

    /// First byte of the object.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// The value of a key that may be absent, be `null` or be an empty string.
    pub fn find(&self, bytes: &[u8], slot: Slot) -> Option<Span> {
        let span = self.slots[slot as usize];
        (span.is_some() && !matches!(span.of(bytes), b"null" | b"\"\"")).then_some(span)
    }
}

/// The slot of the key whose bytes, quotes included, are `raw`.
fn slot_of(raw: &[u8], scratch: &mut Vec<u8>, of: SlotOf) -> Option<Slot> {
    let text = &raw[1..raw.len() - 1];
    if !text.contains(&b'\\') {
        return of(text);
    }
    scratch.clear();
    unescape(raw, 0, scratch).ok()?;
    of(scratch)
}

/// Reads values of a frame by their spans.
pub struct Values<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// Room for texts with escapes; kept between frames.
    pub scratch: &'a mut Vec<u8>,
}

impl Values<'_> {
    /// Price and size of a level of a book: the first two elements of the array at `scanner`.
    ///
    /// # Errors
    /// `Error::Decode`.
    pub fn level(&mut self, scanner: &mut Scanner<'_>) -> Result<(i64, i64)> {
        let start = scanner.at_value(b'[')?;
        let (mut spans, mut count) = ([Span::default(); 2], 0);
        scanner.array(|scanner| {
            let value = scanner.value()?;
            if let Some(span) = spans.get_mut(count) {
                *span = value;
            }
            count += 1;
            Ok(())
        })?;
        if count < 2 {
            return Err(Error::decode(DecodeReason::MissingField, start));
        }
        Ok((self.price(spans[0], "price")?, self.size(spans[1], "size")?))
    }

    /// The text of the string at `span`.
    ///
    /// # Errors
    /// `Error::Decode`: it is no string (`WrongType`), or no text (`NotUtf8`).
    pub fn text(&mut self, span: Span) -> Result<&[u8]> {
        let raw = span.of(self.bytes);
        if raw[0] != b'"' {
            return Err(Error::decode(DecodeReason::WrongType, span.start as usize));
        }
        if !raw.contains(&b'\\') {
            return Ok(&raw[1..raw.len() - 1]);
        }
        self.scratch.clear();
        unescape(raw, span.start as usize, self.scratch)?;
        Ok(self.scratch)
    }

    /// The text of a number, bare or in quotes.
    fn number(&mut self, span: Span) -> Result<&[u8]> {
        match span.of(self.bytes)[0] {
            b'-' | b'0'..=b'9' => Ok(span.of(self.bytes)),
            _ => self.text(span),
        }
    }

    fn wide(&mut self, span: Span, places: u32, field: &'static str) -> Result<i128> {
        let byte = span.start as usize;
        decimal::parse_wide(self.number(span)?, places).map_err(|why| unfit(why, field, byte))
    }

    fn narrow(&mut self, span: Span, places: u32, field: &'static str) -> Result<i64> {
        let byte = span.start as usize;
        decimal::parse(self.number(span)?, places).map_err(|why| unfit(why, field, byte))
    }

    fn positive(&mut self, span: Span, places: u32, field: &'static str) -> Result<i64> {
        let value = self.narrow(span, places, field)?;
        if value < 0 {
            return Err(Error::decode(DecodeReason::BadNumber, span.start as usize));
        }
        Ok(value)
    }

    /// A price, in units of 1e-9.
    ///
    /// # Errors
    /// `Error::DoesNotFit` naming `field`; `Error::Decode`: it is no number.
    pub fn price(&mut self, span: Span, field: &'static str) -> Result<i64> {
        self.narrow(span, PRICE_PLACES, field)
    }

    /// A size, in units of 1e-8, not negative.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn size(&mut self, span: Span, field: &'static str) -> Result<i64> {
        self.positive(span, SIZE_PLACES, field)
    }

    /// A size that may be negative, in units of 1e-8.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn signed_size(&mut self, span: Span, field: &'static str) -> Result<i64> {
        self.narrow(span, SIZE_PLACES, field)
    }

    /// A turnover, in units of 1e-17, not negative.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn turnover(&mut self, span: Span, field: &'static str) -> Result<i128> {
        let value = self.wide(span, TURNOVER_PLACES, field)?;
        if value < 0 {
            return Err(Error::decode(DecodeReason::BadNumber, span.start as usize));
        }
        Ok(value)
    }

    /// An id or a count.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn id(&mut self, span: Span, field: &'static str) -> Result<u64> {
        Ok(self.positive(span, 0, field)?.unsigned_abs())
    }

    /// An id that may take all of 64 bits.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn wide_id(&mut self, span: Span, field: &'static str) -> Result<u64> {
        let (value, byte) = (self.wide(span, 0, field)?, span.start as usize);
        if value < 0 {
            return Err(Error::decode(DecodeReason::BadNumber, byte));
        }
        u64::try_from(value).map_err(|_| Error::DoesNotFit { field, byte })
    }

    /// The id of a last trade, which is negative where there was none.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn last_id(&mut self, span: Span, field: &'static str) -> Result<u64> {
        Ok(self.narrow(span, 0, field)?.max(0).unsigned_abs())
    }

    /// A time in ns, from a number of units of one of `units`, each from so many of it on, and ns
    /// a unit. The last that fits counts.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn time_in(
        &mut self,
        span: Span,
        field: &'static str,
        units: &[(i64, i64)],
    ) -> Result<i64> {
        let value = self.positive(span, 0, field)?;
        let unit = units.iter().rfind(|(from, _)| value >= *from).map_or(1, |&(_, ns)| ns);
        let byte = span.start as usize;
        value.checked_mul(unit).ok_or(Error::DoesNotFit { field, byte })
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// `Error::Decode` (`WrongType`).
    pub fn flag(&self, span: Span) -> Result<bool> {
        match span.of(self.bytes) {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(Error::decode(DecodeReason::WrongType, span.start as usize)),
        }
    }
}

/// The error that a value at `byte` is unfit for `field`.
pub const fn unfit(why: Unfit, field: &'static str, byte: usize) -> Error {
    match why {
        Unfit::NotNumber => Error::decode(DecodeReason::BadNumber, byte),
        Unfit::TooManyDigits => Error::DoesNotFit { field, byte },
    }
}
