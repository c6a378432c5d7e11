//! Symbols that are made of more than one value of a frame.

use crate::decimal;

/// Bytes of the longest symbol of a definition, and one to see that it is longer.
const ROOM: usize = 49;
/// Digits of the largest number of an exchange.
const DIGITS_MAX: usize = 20;

/// A symbol that was copied out of a frame, up to the first byte that no definition holds.
pub struct OwnSymbol {
    bytes: [u8; ROOM],
    length: usize,
}

impl OwnSymbol {
    /// A copy of `text`.
    pub fn of(text: &[u8]) -> Self {
        let mut symbol = Self { bytes: [0; ROOM], length: 0 };
        symbol.push(text);
        symbol
    }

    /// The symbol.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Makes it the symbol on one exchange, such as `BTC-USD@1`.
    pub fn push_exchange(&mut self, exchange: u64) {
        let mut digits = Vec::with_capacity(DIGITS_MAX);
        decimal::format(i128::from(exchange), 0, 0, &mut digits);
        self.push(b"@");
        self.push(&digits);
    }

    fn push(&mut self, text: &[u8]) {
        let length = text.len().min(ROOM - self.length);
        self.bytes[self.length..self.length + length].copy_from_slice(&text[..length]);
        self.length += length;
    }
}
