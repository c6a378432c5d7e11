//! Books of crypto, which the venue tells whole once and then by their changes.
//!
//! It numbers nothing, so that the updates are numbered here, one by one. A whole book becomes the
//! update that makes it of what was told before, and beside it a snapshot of the same number: so it
//! sets right a book that goes on, and begins one that does not. Of an update that could not be
//! read the number is left out, so that the book is known to be broken there. So it is with every
//! book where it is not known what could not be read, or did not come: a frame that is broken, an
//! element that does not say what it is, frames that were shed, and where a connection ended.

use std::collections::BTreeSet;

use super::decode::Task;
use super::keys::{Books, Fields, ToldBook};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::fields::Slot;
use crate::feeds::scan::Scanner;
use crate::record::{Channel, Level, Side, FLAG_LAST};

/// Prices of one book that are remembered. A venue that tells more is not believed.
const PRICES_MAX: usize = 100_000;

/// Leaves out a number of each of `books`: an update of any may be missing.
#[cold]
pub(super) fn leave_out(books: &mut Books) {
    for book in books.values_mut() {
        book.number += 1;
    }
}

/// A level: its side, price and size.
type Told = (Side, i64, i64);

impl Task<'_> {
    pub(super) fn book(&mut self, fields: &Fields) -> Result<()> {
        let subject = self.time(fields).and_then(|ts| Ok((self.subject(fields, ts)?.0, ts)));
        let (instrument, ts) = subject.inspect_err(|_| leave_out(self.venue.books))?;
        let done = self.book_of(fields, instrument, ts);
        if done.is_err() {
            self.venue.books.entry(instrument).or_default().number += 1;
        }
        done
    }

    fn book_of(&mut self, fields: &Fields, instrument: u32, ts: i64) -> Result<()> {
        let is_whole = fields.find(self.bytes, b'r');
        let is_whole = is_whole.map_or(Ok(false), |span| self.values().flag(span))?;
        let mut levels = Vec::new();
        self.side(fields, b'b', Side::Bid, &mut levels)?;
        self.side(fields, b'a', Side::Ask, &mut levels)?;
        let told = self.venue.books.entry(instrument).or_default();
        if told.bids.len() + told.asks.len() + levels.len() > PRICES_MAX {
            return Err(Error::decode(DecodeReason::TooLong, fields.start()));
        }
        let update = told.take_in(&levels, is_whole);
        if !update.is_empty() || told.number == 0 {
            told.number += 1;
        }
        let number = told.number;
        self.push_update(&update, instrument, ts, number);
        if is_whole {
            levels.retain(|&(_, _, size)| size != 0);
            let book = self.begin_book(instrument, ts, number, Channel::Snapshot);
            book.push(&levels, self.out);
        }
        Ok(())
    }

    /// Reads the levels at `slot`.
    fn side(
        &mut self,
        fields: &Fields,
        slot: Slot,
        side: Side,
        levels: &mut Vec<Told>,
    ) -> Result<()> {
        let Some(span) = fields.find(self.bytes, slot) else { return Ok(()) };
        let mut scanner = Scanner::inside(self.bytes, span);
        scanner.at_value(b'[')?;
        scanner.array(|scanner| {
            let level: Fields = self.fields(scanner)?;
            let mut values = self.values();
            let price = values.price(level.need(b'p')?, "price")?;
            levels.push((side, price, values.size(level.need(b's')?, "size")?));
            Ok(())
        })
    }

    fn push_update(&mut self, update: &[Told], instrument: u32, ts: i64, number: u64) {
        let mut level = Level {
            header: self.head::<Level>(instrument, ts, number),
            price: 0,
            size: 0,
            previous: number - 1,
            span: 0,
            side: 0,
            channel: Channel::Depth as u8,
            reserved: [0; 2],
        };
        level.header.flags &= !FLAG_LAST;
        for (at, &(side, price, size)) in update.iter().enumerate() {
            (level.side, level.price, level.size) = (side as u8, price, size);
            if at + 1 == update.len() {
                level.header.flags |= FLAG_LAST;
            }
            self.out.push(&level);
        }
    }
}

impl ToldBook {
    /// Takes in `levels`, of the whole book or of its changes, and gives the update that they are.
    fn take_in(&mut self, levels: &[Told], is_whole: bool) -> Vec<Told> {
        let before = [&mut self.bids, &mut self.asks];
        let mut update = Vec::with_capacity(levels.len());
        for (side, known) in [Side::Bid, Side::Ask].into_iter().zip(before) {
            let own = || levels.iter().filter(|&&(of, ..)| of == side);
            if is_whole {
                let kept: BTreeSet<i64> = own().map(|&(_, price, _)| price).collect();
                update.extend(known.difference(&kept).map(|&price| (side, price, 0)));
                known.clear();
            }
            for &(_, price, size) in own() {
                if size == 0 {
                    known.remove(&price);
                } else {
                    known.insert(price);
                }
            }
        }
        update.extend_from_slice(levels);
        update
    }
}
