//! Records back to back: the batch that flows through the whole system.

use std::marker::PhantomData;

use super::{Header, Kind, Plain, Record, NONE};
use crate::error::{Error, Result};

/// A batch of records, back to back, 8-byte aligned. Reused between batches: no allocation in
/// steady state.
#[derive(Debug, Default, Clone)]
pub struct Records {
    words: Vec<u64>,
    count: usize,
}

impl Records {
    /// An empty batch.
    pub const fn new() -> Self {
        Self { words: Vec::new(), count: 0 }
    }

    /// Copies `bytes`, which must be whole records.
    ///
    /// # Errors
    /// `Error::Invalid`: a length is 0, not a multiple of 64, or runs past the end.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut batch = Self::new();
        batch.extend_from_bytes(bytes)?;
        Ok(batch)
    }

    /// Appends `bytes`, which must be whole records.
    ///
    /// # Errors
    /// As [`Records::from_bytes`]; nothing is appended then.
    pub fn extend_from_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let count = count_records(bytes)?;
        self.extend_counted(bytes, count);
        Ok(())
    }

    /// Makes room for `count` records of 64 bytes, so that appending them moves nothing.
    pub fn reserve(&mut self, count: usize) {
        self.words.reserve(count * 8);
    }

    /// Appends `bytes`, which are known to be `count` whole records.
    pub(super) fn extend_counted(&mut self, bytes: &[u8], count: usize) {
        let (start, words) = (self.words.len(), bytes.len() / 8);
        self.words.reserve(words);
        // SAFETY: `words` words were reserved behind `start`, and all of them are written before
        // they count; `u64` has no invalid patterns.
        unsafe {
            let target = self.words.as_mut_ptr().add(start);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.cast::<u8>(), words * 8);
            self.words.set_len(start + words);
        }
        self.count += count;
    }

    /// Appends one record.
    #[inline]
    pub fn push<R: Record>(&mut self, record: &R) {
        let words = size_of::<R>() / 8;
        let start = self.words.len();
        self.words.reserve(words);
        // SAFETY: space was reserved, records are whole numbers of words and have no padding.
        unsafe {
            self.words.as_mut_ptr().add(start).cast::<R>().write_unaligned(*record);
            self.words.set_len(start + words);
        }
        self.count += 1;
    }

    /// Makes room for up to `count` records of type `R`. They are appended when the writer is told
    /// to commit, and not at all when it is dropped before.
    #[inline]
    pub fn writer<R: Record>(&mut self, count: usize) -> Writer<'_, R> {
        self.words.reserve(count * (size_of::<R>() / 8));
        Writer { records: self, count: 0, room: count, kind: PhantomData }
    }

    /// Appends one record of any kind.
    pub fn push_ref(&mut self, record: RecordRef<'_>) {
        let start = self.words.len();
        self.words.resize(start + record.bytes.len() / 8, 0);
        // SAFETY: as in `extend_from_bytes`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                record.bytes.as_ptr(),
                self.words.as_mut_ptr().add(start).cast(),
                record.bytes.len(),
            );
        }
        self.count += 1;
    }

    /// A copy of the records from number `start` up to `end`.
    ///
    /// # Errors
    /// `Error::Invalid`: there are not so many.
    pub fn part(&self, start: usize, end: usize) -> Result<Self> {
        if start > end || end > self.count {
            let told = format!("expected a part of {} records, got {start} to {end}", self.count);
            return Err(Error::invalid(told));
        }
        let mut part = Self::new();
        self.iter().skip(start).take(end - start).for_each(|record| part.push_ref(record));
        Ok(part)
    }

    /// Number of records.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.count = 0;
    }

    /// A place to return to with [`Records::truncate`]: bytes and records so far.
    pub fn mark(&self) -> (usize, usize) {
        (self.words.len() * 8, self.count)
    }

    /// Goes back to a place that [`Records::mark`] gave, dropping what was pushed since.
    pub fn truncate(&mut self, mark: (usize, usize)) {
        self.words.truncate(mark.0 / 8);
        self.count = mark.1;
    }

    /// The bytes of all records.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: any `u64` is eight valid bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }

    /// The bytes from `byte` on, to be changed in place (flags, receive times).
    pub fn as_bytes_mut(&mut self, byte: usize) -> &mut [u8] {
        // SAFETY: as in `as_bytes`, and the borrow is exclusive.
        let all = unsafe {
            std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.words.len() * 8)
        };
        &mut all[byte..]
    }

    /// Adds `flags` to those of each record from `byte` on.
    pub fn flag_from(&mut self, byte: usize, flags: u8) {
        let (bytes, mut at) = (self.as_bytes_mut(byte), 0);
        while let Some(&length) = bytes.get(at).filter(|&&length| length > 0) {
            bytes[at + 2] |= flags;
            at += usize::from(length) * 8;
        }
    }

    /// Each record in order.
    pub fn iter(&self) -> RecordIter<'_> {
        iterate(self.as_bytes())
    }
}

/// Records being appended without a look at the room left in between: see [`Records::writer`].
#[derive(Debug)]
pub struct Writer<'a, R> {
    records: &'a mut Records,
    count: usize,
    room: usize,
    kind: PhantomData<R>,
}

impl<R: Record> Writer<'_, R> {
    /// Writes the next record.
    ///
    /// # Panics
    /// More records than the writer was made for: our bug.
    #[inline]
    pub fn push(&mut self, record: &R) {
        assert!(self.count < self.room, "a writer was made for {} records", self.room);
        let at = self.records.words.len() + self.count * (size_of::<R>() / 8);
        // SAFETY: room for it was reserved, and the length of the batch did not change since.
        unsafe { self.records.words.as_mut_ptr().add(at).cast::<R>().write_unaligned(*record) };
        self.count += 1;
    }

    /// Number of records written.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none was written.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends what was written.
    #[inline]
    pub fn commit(self) {
        let words = self.records.words.len() + self.count * (size_of::<R>() / 8);
        // SAFETY: exactly these words were written by `push`.
        unsafe { self.records.words.set_len(words) };
        self.records.count += self.count;
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = RecordRef<'a>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Each record of `bytes` in order. Stops before a record that is not whole.
pub const fn iterate(bytes: &[u8]) -> RecordIter<'_> {
    RecordIter { bytes }
}

/// Which kinds of records are among `bytes`, by their number.
pub fn kinds_of(bytes: &[u8]) -> [bool; 256] {
    let (mut found, mut last) = ([false; 256], None);
    for record in iterate(bytes) {
        // Most records are of the kind of the one before.
        if last != Some(record.kind()) {
            last = Some(record.kind());
            found[record.kind() as usize] = true;
        }
    }
    found
}

/// Counts the records of `bytes`.
///
/// # Errors
/// `Error::Invalid`: a length is 0, not a multiple of 64, or runs past the end.
pub fn count_records(bytes: &[u8]) -> Result<usize> {
    let (mut count, mut rest) = (0, bytes);
    while !rest.is_empty() {
        // Most records have 64 bytes; see `RecordIter`.
        if rest[0] == 8 && rest.len() >= 64 {
            (count, rest) = (count + 1, &rest[64..]);
            continue;
        }
        let length = rest[0] as usize * 8;
        if length == 0 || length % 64 != 0 || length > rest.len() {
            return Err(Error::invalid(format!(
                "expected whole records; the one at byte {} of {} says {length} bytes",
                bytes.len() - rest.len(),
                bytes.len()
            )));
        }
        (count, rest) = (count + 1, &rest[length..]);
    }
    Ok(count)
}

/// Checks that `bytes` are whole records of kinds that this build knows, each of the length of its
/// kind. Returns their number and the receive time of the last one.
///
/// # Errors
/// `Error::Invalid` names the first that is not.
pub fn check_layout(bytes: &[u8]) -> Result<(usize, i64)> {
    let (mut at, mut count, mut ts_recv) = (0, 0, NONE);
    while at < bytes.len() {
        let wrong = |expected: &str, got: String| {
            Err(Error::invalid(format!(
                "item {count} at byte {at}: expected {expected}, got {got}"
            )))
        };
        let Some(header) = Header::read_from(&bytes[at..]) else {
            return wrong("a record", format!("{} bytes", bytes.len() - at));
        };
        let Ok(kind) = Kind::try_from(header.kind) else {
            return wrong("a known kind of record", format!("kind {}", header.kind));
        };
        let length = kind.record_size();
        if header.byte_length() != length || bytes.len() - at < length {
            let got = header.byte_length().min(bytes.len() - at);
            return wrong(&format!("a {} of {length} bytes", kind.name()), format!("{got} bytes"));
        }
        (at, count, ts_recv) = (at + length, count + 1, header.ts_recv);
    }
    Ok((count, ts_recv))
}

/// Iterator over the records of a byte slice.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = RecordRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordRef<'a>> {
        // Most records have 64 bytes: where the next one begins is then known without waiting for
        // what this one says, which is in no near cache.
        if let Some((bytes, rest)) = self.bytes.split_first_chunk::<64>() {
            if bytes[0] == 8 {
                self.bytes = rest;
                return Some(RecordRef { bytes });
            }
        }
        let length = *self.bytes.first()? as usize * 8;
        if length < size_of::<Header>() || length > self.bytes.len() {
            return None;
        }
        let (bytes, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Some(RecordRef { bytes })
    }
}

/// One record, read in place. Kinds that this build does not know can still be skipped.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    bytes: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// Its bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Calls `each` with the record as an `R`: where it lies if it is aligned there, else a copy.
    #[inline]
    pub(crate) fn with<R: Record>(&self, each: impl FnOnce(&R)) {
        let copied;
        let at = self.bytes.as_ptr().cast::<R>();
        if self.bytes.len() < size_of::<R>() {
            return;
        }
        let record = if at.is_aligned() {
            // SAFETY: length and alignment were checked, every bit pattern is valid, and the bytes
            // live longer than the call.
            unsafe { &*at }
        } else {
            // SAFETY: the length was checked, and every bit pattern is valid.
            copied = unsafe { at.read_unaligned() };
            &copied
        };
        each(record);
    }

    /// Its header.
    #[inline]
    pub fn header(&self) -> Header {
        // The iterator gives only slices that hold a whole header.
        Header::read_from(self.bytes).unwrap_or_default()
    }

    /// Its kind as a number: `Kind::Trade as u8` and so on.
    #[inline]
    pub const fn kind(&self) -> u8 {
        self.bytes[1]
    }

    /// The record as an `R`, if it is one.
    #[inline]
    pub fn get<R: Record>(&self) -> Option<R> {
        if self.kind() == R::KIND as u8 {
            R::read_from(self.bytes)
        } else {
            None
        }
    }

    /// The record as an `R` where it lies, if it is one and lies at a multiple of 8 bytes, as those
    /// of [`Records`] do.
    #[inline]
    pub fn in_place<R: Record>(&self) -> Option<&'a R> {
        const { assert!(align_of::<R>() == 8) };
        let fits = self.kind() == R::KIND as u8 && self.bytes.len() >= size_of::<R>();
        let is_aligned = self.bytes.as_ptr() as usize % 8 == 0;
        // SAFETY: the bytes are there and aligned, and every bit pattern of them is valid.
        (fits && is_aligned).then(|| unsafe { &*self.bytes.as_ptr().cast::<R>() })
    }

    /// Its kind, if this build knows it.
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::try_from(self.kind()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_all_lengths_are_walked_and_what_is_no_whole_record_is_refused() {
        let record = |words: u8, kind: u8| {
            let mut bytes = vec![0; words as usize * 8];
            (bytes[0], bytes[1]) = (words, kind);
            bytes
        };
        let whole = [record(8, 1), record(24, 9), record(8, 1), record(16, 5), record(8, 2)];
        let bytes = whole.concat();
        let found: Vec<_> = iterate(&bytes).map(|record| record.bytes().to_vec()).collect();
        assert_eq!(found, whole);
        assert_eq!(count_records(&bytes).unwrap(), 5);
        assert_eq!(Records::from_bytes(&bytes).unwrap().as_bytes(), bytes);
        let kinds = (0..=u8::MAX).zip(kinds_of(&bytes));
        assert!(kinds.filter(|&(_, is_there)| is_there).map(|(kind, _)| kind).eq([1, 2, 5, 9]));

        // A length of nothing, one that is not of whole lines, and records that are cut short.
        for (broken, says) in [
            ([0; 64].to_vec(), "0 bytes"),
            (record(9, 1), "72 bytes"),
            (record(8, 1)[..63].to_vec(), "64 bytes"),
            (record(24, 9)[..128].to_vec(), "192 bytes"),
            (vec![8], "64 bytes"),
        ] {
            let message = count_records(&[&bytes[..], &broken].concat()).unwrap_err().to_string();
            let expected = format!("byte {} of {} says {says}", 512, 512 + broken.len());
            assert!(message.contains(&expected), "{message}");
        }
        // The walk ends before what is not whole.
        let cut = [&bytes[..], &record(8, 1)[..40]].concat();
        assert_eq!(iterate(&cut).count(), 5);
    }
}
