//! Instruments: ids, symbols by date, tick and lot sizes.
//!
//! Ids are given in order of first appearance on a tape and never reused, so that the same raw
//! tape gives the same ids. Symbols change and are reused: a symbol is looked up by date.

use std::collections::HashMap;

use crate::error::{DecodeReason, Error, Result};
use crate::record::{padded, unpadded, Definition, Header, Records, NONE};

/// Most instruments of one tape. A venue that names more is not believed: each costs kilobytes in
/// every stage, so that invented symbols would otherwise take all memory.
pub const INSTRUMENTS_MAX: usize = 20_000;

/// All instruments that a tape knows.
#[derive(Debug, Default, Clone)]
pub struct Instruments {
    definitions: Vec<Definition>,
    /// Open definitions: (feed, symbol) to instrument id.
    current: HashMap<(u8, Box<str>), u32, FastHash>,
    /// Ids whose definition changed since [`Instruments::take_changed`] was last called.
    changed: Vec<u32>,
}

/// A fast hash of short keys; symbols come from the venue, not from an attacker.
#[derive(Debug, Default, Clone, Copy)]
pub struct FastHash;

impl std::hash::BuildHasher for FastHash {
    type Hasher = FastHasher;

    fn build_hasher(&self) -> FastHasher {
        FastHasher(0)
    }
}

/// State of a [`FastHash`].
#[derive(Debug, Clone, Copy)]
pub struct FastHasher(u64);

impl std::hash::Hasher for FastHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl Instruments {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of instruments ever defined.
    pub fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty()
    }

    /// The definition of `id`.
    pub fn get(&self, id: u32) -> Option<&Definition> {
        self.definitions.get((id as usize).checked_sub(1)?)
    }

    /// All definitions, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.iter()
    }

    /// The id that `symbol` of `feed` has now.
    pub fn current(&self, feed: u8, symbol: &str) -> Option<u32> {
        // The key is borrowed by building it once; symbols are short and this is not the hot path:
        // decoders keep their own table from symbol bytes to id.
        self.current.get(&(feed, Box::from(symbol))).copied()
    }

    /// The id that `symbol` of `feed` had at `ts` ns.
    pub fn at(&self, feed: u8, symbol: &str, ts: i64) -> Option<u32> {
        self.definitions
            .iter()
            .rev()
            .find(|definition| {
                definition.header.feed == feed
                    && unpadded(&definition.symbol) == symbol
                    && definition.valid_from <= ts
                    && (definition.valid_to == NONE || ts < definition.valid_to)
            })
            .map(|definition| definition.header.instrument)
    }

    /// The id of `symbol`, defining it from `ts` on if it is new.
    ///
    /// # Errors
    /// `Error::Decode`: the symbol has more than 48 bytes (`TooLong`), or there are
    /// [`INSTRUMENTS_MAX`] already (`UnknownStream`).
    pub fn define(&mut self, feed: u8, symbol: &str, ts: i64) -> Result<u32> {
        if let Some(id) = self.current(feed, symbol) {
            return Ok(id);
        }
        if self.definitions.len() >= INSTRUMENTS_MAX {
            return Err(Error::decode(DecodeReason::UnknownStream, 0));
        }
        let id = self.definitions.len() as u32 + 1;
        let field = padded(symbol).ok_or(Error::decode(DecodeReason::TooLong, 0))?;
        self.definitions.push(Definition {
            header: Header {
                feed,
                instrument: id,
                ts_event: ts,
                ts_recv: ts,
                ..Header::of::<Definition>()
            },
            tick_size: NONE,
            lot_size: NONE,
            valid_from: ts,
            valid_to: NONE,
            symbol: field,
            canonical: [0; 40],
            currency: [0; 24],
            asset_class: 0,
            status: 0,
            reserved: [0; 6],
            contract_size: 0,
        });
        self.current.insert((feed, Box::from(symbol)), id);
        self.changed.push(id);
        Ok(id)
    }

    /// Replaces what is known of `definition.header.instrument`, keeping its id and validity.
    /// Nothing happens when nothing but times differ.
    pub fn update(&mut self, definition: &Definition) {
        let id = definition.header.instrument;
        let Some(known) = (id as usize).checked_sub(1).and_then(|i| self.definitions.get_mut(i))
        else {
            return;
        };
        let mut next = *definition;
        next.valid_from = known.valid_from;
        next.valid_to = known.valid_to;
        let mut same = next;
        same.header = known.header;
        if same != *known {
            *known = next;
            // One that was defined just now is written once, as it is by then.
            if self.changed.last() != Some(&id) {
                self.changed.push(id);
            }
        }
    }

    /// Ends the validity of `id` at `ts`: its symbol may be defined anew.
    pub fn retire(&mut self, id: u32, ts: i64) {
        let Some(known) = (id as usize).checked_sub(1).and_then(|i| self.definitions.get_mut(i))
        else {
            return;
        };
        known.valid_to = ts;
        let key = (known.header.feed, Box::from(unpadded(&known.symbol)));
        self.current.remove(&key);
        self.changed.push(id);
    }

    /// Takes in a definition read from a tape. Later ones of the same id replace earlier ones.
    ///
    /// # Errors
    /// `Error::Invalid`: its id is not the next one and not known, so the tape lacks a definition.
    pub fn load(&mut self, definition: &Definition) -> Result<()> {
        let id = definition.header.instrument as usize;
        if id == 0 || id > self.definitions.len() + 1 {
            return Err(Error::invalid(format!(
                "expected the definition of instrument {} next, got that of {id}",
                self.definitions.len() + 1
            )));
        }
        let key = (definition.header.feed, Box::from(unpadded(&definition.symbol)));
        if definition.valid_to == NONE {
            self.current.insert(key, id as u32);
        } else if self.current.get(&key) == Some(&(id as u32)) {
            self.current.remove(&key);
        }
        if id > self.definitions.len() {
            self.definitions.push(*definition);
        } else {
            self.definitions[id - 1] = *definition;
        }
        Ok(())
    }

    /// Writes the definitions that changed since the last call to `out`, in order of change.
    pub fn take_changed(&mut self, out: &mut Records) {
        for id in self.changed.drain(..) {
            out.push(&self.definitions[id as usize - 1]);
        }
    }

    /// Whether [`Instruments::take_changed`] would write anything.
    #[inline]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbol_is_mapped_by_date() {
        // FB becomes META's old symbol: the same text means another instrument after retirement.
        let mut instruments = Instruments::new();
        let first = instruments.define(1, "FB", 100).unwrap();
        instruments.retire(first, 200);
        let second = instruments.define(1, "FB", 300).unwrap();
        assert_ne!(first, second);
        assert_eq!(instruments.at(1, "FB", 150), Some(first));
        assert_eq!(instruments.at(1, "FB", 250), None);
        assert_eq!(instruments.at(1, "FB", 300), Some(second));
        assert_eq!(instruments.current(1, "FB"), Some(second));
        assert_eq!(instruments.current(2, "FB"), None);
    }

    #[test]
    fn registry_is_rebuilt_from_its_own_records() {
        // What `take_changed` wrote, loaded in order, must give an equal registry.
        let mut instruments = Instruments::new();
        let mut written = Records::new();
        for symbol in ["BTCUSDT", "ETHUSDT", "这是测试币456"] {
            instruments.define(1, symbol, 5).unwrap();
        }
        let mut changed = *instruments.get(2).unwrap();
        changed.tick_size = 10_000_000;
        instruments.update(&changed);
        instruments.retire(1, 9);
        instruments.take_changed(&mut written);
        let mut loaded = Instruments::new();
        for record in &written {
            loaded.load(&record.as_definition().unwrap()).unwrap();
        }
        assert!(loaded.iter().eq(instruments.iter()));
        assert_eq!(loaded.current(1, "BTCUSDT"), None);
        assert_eq!(loaded.current(1, "ETHUSDT"), Some(2));
    }
}
