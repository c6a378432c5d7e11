//! Writing of events as JSON objects, such as venues send them in arrays.

use crate::decimal;
use crate::record::{NONE, PRICE_PLACES, SIZE_PLACES};

/// An object being written, of which something stands there already.
pub struct EventWriter<'a> {
    /// Where it is written to.
    pub out: &'a mut Vec<u8>,
}

impl EventWriter<'_> {
    /// Writes a key, after a comma.
    pub fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Writes a text, which holds no control characters.
    pub fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.out.push(b'"');
        for &byte in text.as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(byte);
        }
        self.out.push(b'"');
    }

    /// Writes a number of units of `10^-places`.
    pub fn number(&mut self, key: &str, value: impl Into<i128>, places: u32) {
        self.key(key);
        decimal::format(value.into(), places, 0, self.out);
    }

    /// Writes a price; zero is the venues' word for "none".
    pub fn price(&mut self, key: &str, value: i64) {
        self.number(key, if value == NONE { 0 } else { value }, PRICE_PLACES);
    }

    /// Writes a size; none is zero.
    pub fn size(&mut self, key: &str, value: i64) {
        self.number(key, if value == NONE { 0 } else { value }, SIZE_PLACES);
    }
}
