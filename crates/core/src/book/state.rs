//! A synchronised book as bytes and back, for the snapshots of processors.
//!
//! Little-endian numbers in the order of the functions below; lists start with their length as u32.
//! The version stands with whoever holds the bytes. A book's levels are followed by its checksum.

use super::continuity::Update;
use super::sync::{Course, Incoming};
use super::synced::{SyncedBook, Waiting};
use super::Continuity;
use super::SyncState;
use crate::error::{Error, Result};
use crate::record::Side;

/// Takes numbers from the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.bytes.len() {
            return Err(Error::invalid(format!(
                "expected {length} more bytes of book state, got {}",
                self.bytes.len()
            )));
        }
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.bytes.len() {
            0 => Ok(()),
            more => Err(Error::invalid(format!("{more} bytes follow the end of a book state"))),
        }
    }
}

impl SyncedBook {
    /// Appends all of it to `out`.
    pub(crate) fn store(&self, out: &mut Vec<u8>) {
        let sync = &self.sync;
        out.push(u8::from(sync.continuity == Continuity::Chained));
        out.push(sync.state as u8);
        for number in [sync.sequence, sync.dropped, sync.breaks] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&sync.stale.to_le_bytes());
        let (open, course) = sync.open.map_or((0, 0), |(last, course)| (last, course as u8 + 1));
        out.extend_from_slice(&open.to_le_bytes());
        out.push(course);
        let none = Incoming { sequence: 0, announced: 0, received: 0 };
        let incoming = sync.incoming.unwrap_or(none);
        out.push(u8::from(sync.incoming.is_some()));
        out.extend_from_slice(&incoming.sequence.to_le_bytes());
        out.extend_from_slice(&incoming.announced.to_le_bytes());
        out.extend_from_slice(&incoming.received.to_le_bytes());
        out.extend_from_slice(&(sync.buffered.len() as u32).to_le_bytes());
        for update in &sync.buffered {
            for number in [update.first, update.last, update.previous] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&update.levels.to_le_bytes());
        }
        out.extend_from_slice(&(self.waiting.len() as u32).to_le_bytes());
        for level in &self.waiting {
            out.push(level.side as u8);
            out.extend_from_slice(&level.price.to_le_bytes());
            out.extend_from_slice(&level.size.to_le_bytes());
        }
        out.extend_from_slice(&self.ts_event.to_le_bytes());
        out.extend_from_slice(&self.ts_recv.to_le_bytes());
        for side in [Side::Bid, Side::Ask] {
            out.extend_from_slice(&(self.book.len(side) as u32).to_le_bytes());
            for level in self.book.levels(side) {
                out.extend_from_slice(&level.price.to_le_bytes());
                out.extend_from_slice(&level.size.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.book.checksum().to_le_bytes());
    }

    /// Takes what [`SyncedBook::store`] wrote from the front of `cursor`.
    ///
    /// # Errors
    /// `Error::Invalid`: the bytes are not whole, or do not fit together.
    pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Self> {
        let chained = cursor.u8()? == 1;
        let mut synced =
            Self::new(if chained { Continuity::Chained } else { Continuity::Adjacent });
        let sync = &mut synced.sync;
        sync.state = SyncState::try_from(cursor.u8()?)?;
        (sync.sequence, sync.dropped, sync.breaks) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        sync.stale = cursor.u32()?;
        let open = cursor.u64()?;
        sync.open = course(cursor.u8()?)?.map(|course| (open, course));
        let some = cursor.u8()? == 1;
        let incoming =
            Incoming { sequence: cursor.u64()?, announced: cursor.u32()?, received: cursor.u32()? };
        sync.incoming = some.then_some(incoming);
        for _ in 0..cursor.u32()? {
            sync.buffered.push_back(Update {
                first: cursor.u64()?,
                last: cursor.u64()?,
                previous: cursor.u64()?,
                levels: cursor.u32()?,
            });
        }
        sync.buffered_levels = sync.buffered.iter().map(|update| update.levels as usize).sum();
        for _ in 0..cursor.u32()? {
            let side = Side::try_from(cursor.u8()?)?;
            let (price, size) = (cursor.i64()?, cursor.i64()?);
            synced.waiting.push_back(Waiting { price, size, side });
        }
        if synced.waiting.len() != synced.sync.buffered_levels {
            return Err(Error::invalid("buffered levels of a book state do not add up"));
        }
        (synced.ts_event, synced.ts_recv) = (cursor.i64()?, cursor.i64()?);
        for side in [Side::Bid, Side::Ask] {
            for _ in 0..cursor.u32()? {
                let (price, size) = (cursor.i64()?, cursor.i64()?);
                synced.book.set(side, price, size);
            }
        }
        let (wanted, found) = (cursor.u64()?, synced.book.checksum());
        if wanted != found {
            return Err(Error::invalid(format!(
                "expected a book of checksum {wanted:016x}, got {found:016x}"
            )));
        }
        Ok(synced)
    }
}

fn course(number: u8) -> Result<Option<Course>> {
    [Course::Ignore, Course::Buffer, Course::Set, Course::Bridge]
        .into_iter()
        .map(Some)
        .chain([None])
        .find(|course| course.map_or(0, |course| course as u8 + 1) == number)
        .ok_or_else(|| Error::invalid(format!("course {number} of a book state is not known")))
}
