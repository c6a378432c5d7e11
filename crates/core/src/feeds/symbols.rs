//! From the bytes of a symbol to its instrument id, without a string in between.
//!
//! The table holds hints only: an id is believed when the definition that it names has exactly the
//! wanted symbol and is still valid. So it may be stale or lost at any time.

use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::NONE;

/// Slots at first, a power of two; a crypto venue lists some 3,000 symbols.
const SLOTS_MIN: usize = 1024;
/// Slots looked at from the home slot on, so that a look-up has a bound.
const PROBES_MAX: usize = 8;

/// The look-up of one feed.
#[derive(Debug)]
pub struct SymbolCache {
    feed: u8,
    /// Instrument ids; 0 is empty.
    slots: Vec<u32>,
}

impl SymbolCache {
    /// An empty table for the feed of that number.
    pub fn new(feed: u8) -> Self {
        Self { feed, slots: vec![0; SLOTS_MIN] }
    }

    /// The id of `symbol` if it is known here.
    #[inline]
    pub fn get(&self, symbol: &[u8], instruments: &Instruments) -> Option<u32> {
        let home = self.home(symbol);
        for probe in 0..PROBES_MAX {
            let id = self.slots[(home + probe) & (self.slots.len() - 1)];
            if id == 0 {
                return None;
            }
            if self.is_of(id, symbol, instruments) {
                return Some(id);
            }
        }
        None
    }

    /// The id of `symbol`, which is defined from `ts` on if it is new.
    ///
    /// # Errors
    /// `Error::Decode` at `byte`: it is empty or has control characters (`WrongType`), is not
    /// UTF-8 (`NotUtf8`), has more than 48 bytes (`TooLong`) or is one too many (`UnknownStream`).
    pub fn define(
        &mut self,
        symbol: &[u8],
        instruments: &mut Instruments,
        ts: i64,
        byte: usize,
    ) -> Result<u32> {
        if let Some(id) = self.get(symbol, instruments) {
            return Ok(id);
        }
        if symbol.is_empty() || symbol.iter().any(|&letter| letter <= b' ') {
            return Err(Error::decode(DecodeReason::WrongType, byte));
        }
        let text =
            std::str::from_utf8(symbol).map_err(|_| Error::decode(DecodeReason::NotUtf8, byte))?;
        let id = instruments.define(self.feed, text, ts).map_err(|error| match error {
            Error::Decode { reason, .. } => Error::decode(reason, byte),
            other => other,
        })?;
        if instruments.len() * 4 > self.slots.len() {
            // Hints may be forgotten: each comes back with the next message of its symbol.
            self.slots = vec![0; (instruments.len() * 8).next_power_of_two()];
        }
        let home = self.home(symbol);
        let mask = self.slots.len() - 1;
        let free = (0..PROBES_MAX).find(|probe| self.slots[(home + probe) & mask] == 0);
        self.slots[(home + free.unwrap_or(0)) & mask] = id;
        Ok(id)
    }

    #[inline]
    fn home(&self, symbol: &[u8]) -> usize {
        let mut state = symbol.len() as u64;
        let mut mix = |word: u64| {
            state = (state.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        };
        if let Some((first, last)) = ends(symbol) {
            mix(first);
            mix(last);
        } else {
            symbol.iter().for_each(|&byte| mix(u64::from(byte)));
        }
        (state >> 32) as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn is_of(&self, id: u32, symbol: &[u8], instruments: &Instruments) -> bool {
        instruments.get(id).is_some_and(|definition| {
            let known = &definition.symbol;
            definition.header.feed == self.feed
                && definition.valid_to == NONE
                && known.get(..symbol.len()).is_some_and(|known| is_same(known, symbol))
                && known.get(symbol.len()).is_none_or(|&byte| byte == 0)
        })
    }
}

/// The first and the last bytes of a text of 4 to 16, which overlap and together are all of it.
#[inline]
fn ends(text: &[u8]) -> Option<(u64, u64)> {
    if text.len() > 16 {
        return None;
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return Some((u64::from_le_bytes(*first), u64::from_le_bytes(*last)));
    }
    let (first, last) = (text.first_chunk()?, text.last_chunk()?);
    Some((u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))))
}

/// Whether two texts of one length are equal, most often without a call.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (ends(one), ends(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::INSTRUMENTS_MAX;

    #[test]
    fn every_symbol_keeps_its_id() {
        // Far more symbols than slots at first, each asked for again after all were defined, and
        // again with a registry that gave other ids.
        let mut symbols = SymbolCache::new(1);
        let mut first = Instruments::new();
        let mut second = Instruments::new();
        second.define(1, "OTHER", 0).unwrap();
        for instruments in [&mut first, &mut second] {
            for number in 0..5_000 {
                let symbol = format!("COIN{number}USDT");
                let id = symbols.define(symbol.as_bytes(), instruments, 0, 0).unwrap();
                assert_eq!(instruments.current(1, &symbol), Some(id));
            }
            for number in 0..5_000 {
                let symbol = format!("COIN{number}USDT");
                let id = symbols.define(symbol.as_bytes(), instruments, 0, 0).unwrap();
                assert_eq!(instruments.current(1, &symbol), Some(id));
            }
        }
        assert_eq!((first.len(), second.len()), (5_000, 5_001));
    }

    #[test]
    fn invented_symbols_are_refused_from_a_bound_on() {
        // A venue that names ever new symbols: those within the bound keep their ids, each one
        // beyond it is refused, and nothing more is remembered of it.
        let mut symbols = SymbolCache::new(1);
        let mut instruments = Instruments::new();
        for number in 0..INSTRUMENTS_MAX + 100 {
            let defined = symbols.define(format!("Z{number}").as_bytes(), &mut instruments, 0, 7);
            match defined {
                Ok(id) => assert_eq!(id as usize, number + 1),
                Err(Error::Decode { reason: DecodeReason::UnknownStream, byte: 7 }) => {
                    assert!(number >= INSTRUMENTS_MAX);
                }
                Err(other) => panic!("expected UnknownStream, got {other}"),
            }
        }
        assert_eq!(instruments.len(), INSTRUMENTS_MAX);
        assert_eq!(symbols.define(b"Z5", &mut instruments, 0, 0).unwrap(), 6);
    }

    #[test]
    fn retired_symbol_gets_a_new_id() {
        let mut symbols = SymbolCache::new(1);
        let mut instruments = Instruments::new();
        let old = symbols.define(b"FB", &mut instruments, 0, 0).unwrap();
        instruments.retire(old, 5);
        assert_ne!(symbols.define(b"FB", &mut instruments, 6, 0).unwrap(), old);
        assert_eq!(symbols.get(b"F", &instruments), None);
    }
}
