//! Stocks and their states: the directory, locates, halts.

use super::decode::{price_units, share_units, Task};
use super::wire::{text, u16_at, u32_at, u64_at};
use super::Stock;
use crate::error::{DecodeReason, Error, Result};
use crate::record::{padded, unpadded, Status, NONE};

/// A trading state, as [`Status::status`].
const TRADING: u8 = 1;
const HALTED: u8 = 2;
const QUOTING: u8 = 3;
const EQUITY: u8 = 4;

impl Task<'_> {
    /// The instrument of a message that names its stock at `at`.
    #[inline(always)]
    pub(super) fn instrument(&mut self, message: &[u8], at: usize) -> Result<u32> {
        let told = u64_at(message, at);
        // Zeros are no symbol, and stand for one that was not compared yet.
        match self.itch.stocks.get(usize::from(u16_at(message, 1))) {
            Some(stock) if stock.named == told && told != 0 => Ok(stock.instrument),
            Some(&stock) if stock.instrument != 0 => self.compare(message, at, stock.instrument),
            _ => self.define(message, at),
        }
    }

    /// Compares the symbol of a message with that of its locate, and remembers that it is the same.
    #[cold]
    fn compare(&mut self, message: &[u8], at: usize, id: u32) -> Result<u32> {
        let (field, length) = text::<8>(message, at);
        let known = self.instruments.get(id).map(|known| unpadded(&known.symbol).as_bytes());
        if known != Some(&field[..length]) {
            return Err(Error::decode(DecodeReason::Contradiction, at));
        }
        self.itch.stocks[usize::from(u16_at(message, 1))].named = u64_at(message, at);
        Ok(id)
    }

    /// The instrument of a message that names its locate alone. One of which nothing told its
    /// symbol so far is called by its locate.
    pub(super) fn located(&mut self, message: &[u8]) -> Result<u32> {
        let locate = u16_at(message, 1);
        let known = self.itch.stocks.get(usize::from(locate));
        if let Some(stock) = known.filter(|stock| stock.instrument != 0) {
            return Ok(stock.instrument);
        }
        let (feed, ts) = (self.header.feed, self.header.ts_event);
        self.instruments.define(feed, &format!("LOCATE-{locate}"), ts)
    }

    /// Defines the instrument that a message names, and remembers its locate. Locate 0 is that of
    /// messages about no single stock.
    #[cold]
    fn define(&mut self, message: &[u8], at: usize) -> Result<u32> {
        let (field, length) = text::<8>(message, at);
        let symbol = std::str::from_utf8(&field[..length])
            .ok()
            .filter(|symbol| {
                !symbol.is_empty() && symbol.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .ok_or(Error::decode(DecodeReason::WrongType, at))?;
        let id = self.instruments.define(self.header.feed, symbol, self.header.ts_event)?;
        let mut definition = *self.instruments.get(id).expect("it was defined just now");
        if definition.asset_class == 0 {
            definition.asset_class = EQUITY;
            definition.canonical = padded(symbol).unwrap_or([0; 40]);
            definition.currency = padded("USD").unwrap_or([0; 24]);
            self.instruments.update(&definition);
        }
        let locate = usize::from(u16_at(message, 1));
        if locate != 0 {
            if self.itch.stocks.is_empty() {
                self.itch.begin_day();
            }
            self.itch.stocks[locate] = Stock { named: u64_at(message, at), instrument: id };
        }
        Ok(id)
    }

    pub(super) fn directory(&mut self, message: &[u8]) -> Result<()> {
        let id = self.define(message, 11)?;
        let mut definition = *self.instruments.get(id).expect("it was defined just now");
        // Smaller orders than a round lot are usual, unless it says that there are none.
        let lot = if message[25] == b'Y' { u32_at(message, 21) } else { 1 };
        definition.lot_size = share_units(lot);
        self.instruments.update(&definition);
        Ok(())
    }

    pub(super) fn trading_action(&mut self, message: &[u8]) -> Result<()> {
        let state = match message[19] {
            b'T' => TRADING,
            b'H' | b'P' => HALTED,
            b'Q' => QUOTING,
            _ => 0,
        };
        let (reason, length) = text::<4>(message, 21);
        self.status(message, state, &reason[..length], [NONE; 2])
    }

    /// A halt of one market of the group alone.
    pub(super) fn operational_halt(&mut self, message: &[u8]) -> Result<()> {
        let state = match message[20] {
            b'H' => HALTED,
            b'T' => TRADING,
            _ => 0,
        };
        self.status(message, state, &[b'O', b'P', b'-', message[19]], [NONE; 2])
    }

    /// The prices between which an auction may end a pause.
    pub(super) fn collar(&mut self, message: &[u8]) -> Result<()> {
        let bands = [u32_at(message, 27), u32_at(message, 23)].map(price_units);
        self.status(message, HALTED, b"COLLAR", bands)
    }

    fn status(
        &mut self,
        message: &[u8],
        status: u8,
        told: &[u8],
        [price_low, price_high]: [i64; 2],
    ) -> Result<()> {
        let instrument = self.instrument(message, 11)?;
        let mut reason = [0; 8];
        reason[..told.len()].copy_from_slice(told);
        let header = self.head::<Status>(instrument, true);
        self.out.push(&Status { header, price_low, price_high, reason, status, reserved: [0; 7] });
        Ok(())
    }
}
