//! A place on a tape that is kept elsewhere: in a commit, a state, a named offset.
//!
//! An offset alone says nothing of the tape that it is on. A place names the tape, and what stands
//! right before the offset, so that a tape that was replaced, restored from a copy or rewritten is
//! told from the one that was read.

use super::head::HEAD;
use super::identity::{may_be_same, TapeId};
use super::index;
use super::reader::{is_missing, Reader};
use super::segment::{list, Segment};
use crate::codec::{TapeKind, FRAME_HEADER};
use crate::error::{Error, Result};
use crate::record::GapCause;

const ADVICE: &str = "the tape was replaced, restored from a copy, or rewritten since. Restore \
                      the tape that was read before; or discard what was derived from it, and \
                      derive it again from this one";

/// The item at `index` of the items back to back in `payload`.
fn item_at(payload: &[u8], index: usize, kind: TapeKind) -> Option<&[u8]> {
    let mut rest = payload;
    for _ in 0..index {
        rest = rest.get(kind.item_length(rest)?..)?;
    }
    rest.get(..kind.item_length(rest)?)
}

/// A place on a tape: everything before `offset` was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The tape; `None` if it has no id, or none was kept.
    pub id: Option<TapeId>,
    /// The next offset to be read.
    pub offset: u64,
    /// What stands before the offset, as [`Reader::fingerprint`] gives it; `None` if not known.
    pub fingerprint: Option<u64>,
}

impl Reader {
    /// The id of the tape; `None` while all of it was written by version 1.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn id(&mut self) -> Result<Option<TapeId>> {
        Ok(self.newest()?.identity().id())
    }

    /// The id of the tape that this one is made from; `None` for none, or where it is not known.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn origin(&mut self) -> Result<Option<TapeId>> {
        Ok(self.newest()?.identity().origin())
    }

    /// Where the tape ended when a writer opened it first under this boot of the machine; `None`
    /// where none has.
    pub(crate) fn opened(&mut self) -> Result<Option<u64>> {
        Ok(self.newest()?.opened())
    }

    /// A number for the item right before `offset`: its checksum, and the low half of its offset.
    /// It does not depend on the frames that hold the items, which a tape that is made again may
    /// divide otherwise. `None` at offset 0 and where that item is gone.
    ///
    /// # Errors
    /// `Error::OutOfRange`: the tape ends before `offset`. Else as for [`Reader::read`].
    pub fn fingerprint(&mut self, offset: u64) -> Result<Option<u64>> {
        let mut attempts = 0;
        loop {
            // Retention or compression may take the file away between listing and opening.
            match self.try_fingerprint(offset) {
                Err(error) if is_missing(&error) && attempts < 10 => attempts += 1,
                found => return found,
            }
        }
    }

    fn try_fingerprint(&mut self, offset: u64) -> Result<Option<u64>> {
        let Some(wanted) = offset.checked_sub(1) else { return Ok(None) };
        let files = list(self.path())?;
        let Some(file) = files.iter().rev().find(|file| file.first <= wanted) else {
            return Ok(None);
        };
        let mut segment = Segment::open(file)?;
        let (last, closed) = segment.tail();
        let (mut at, mut next) = (HEAD, segment.head.first_offset);
        let entry = index::find(segment.head_bytes(), last, |entry| entry.first_offset <= wanted);
        if let Some(entry) = entry {
            let position = entry.position();
            if position >= HEAD && segment.checked_frame(position, entry.first_offset).is_ok() {
                (at, next) = (position, entry.first_offset);
            }
        }
        while at <= last {
            let frame = segment.frame(at, next)?;
            if frame.end_offset() > wanted {
                let frame = segment.checked_frame(at, next)?;
                let payload = segment.bytes(at + FRAME_HEADER, at + frame.size());
                let item = item_at(payload, (wanted - next) as usize, segment.head.kind());
                return Ok(item.map(|item| wanted << 32 | u64::from(crc32c::crc32c(item))));
            }
            at += frame.size();
            next = frame.end_offset();
        }
        if closed && files.last().is_some_and(|newest| newest.first > wanted) {
            // A repair gave up the items behind this segment.
            return Ok(None);
        }
        let (first, end) = (self.first()?, self.end()?);
        Err(Error::OutOfRange { wanted: offset, first, end })
    }

    /// The ranges of offsets that a repair gave up: first and last of each.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn lost_ranges(&self) -> Result<Vec<(u64, u64)>> {
        let mut attempts = 0;
        loop {
            match self.try_lost_ranges() {
                // Retention or compression took a file; what it says is not lost by that.
                Err(error) if is_missing(&error) && attempts < 10 => attempts += 1,
                found => return found,
            }
        }
    }

    fn try_lost_ranges(&self) -> Result<Vec<(u64, u64)>> {
        let mut ranges = Vec::new();
        for file in list(self.path())? {
            let from = Segment::open(&file)?.identity().lost_from;
            if from < file.first {
                ranges.push((from, file.first - 1));
            }
        }
        Ok(ranges)
    }

    /// Why the item at `offset`, which is not on the tape, is gone: a repair gave it up, or else
    /// retention took it.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn loss_cause(&self, offset: u64) -> Result<GapCause> {
        let is_given_up = |(first, last): &(u64, u64)| (*first..=*last).contains(&offset);
        let ranges = self.lost_ranges()?;
        let is_damage = ranges.iter().any(is_given_up);
        Ok(if is_damage { GapCause::Damage } else { GapCause::Retention })
    }

    /// The place at `offset`, to be kept.
    ///
    /// # Errors
    /// As for [`Reader::fingerprint`].
    pub fn place(&mut self, offset: u64) -> Result<Place> {
        Ok(Place { id: self.id()?, offset, fingerprint: self.fingerprint(offset)? })
    }

    /// Fails if `kept` is not a place on this tape. What is not known of either is not compared.
    ///
    /// # Errors
    /// `Error::Replaced`: it is another tape, it ends before that place, or something else stands
    /// there. Else as for [`Reader::read`].
    pub fn check(&mut self, kept: &Place) -> Result<()> {
        let id = self.id()?;
        if !may_be_same(id, kept.id) {
            let name = |id: Option<TapeId>| id.map_or(String::new(), |id| format!("the tape {id}"));
            return Err(self.replaced(name(kept.id), name(id)));
        }
        let end = self.end()?;
        if kept.offset > end {
            let expected = format!("a tape that reaches offset {}", kept.offset);
            return Err(self.replaced(expected, format!("one that ends at {end}")));
        }
        let found = self.fingerprint(kept.offset)?;
        match kept.fingerprint.zip(found) {
            Some((kept_print, found)) if kept_print != found => Err(self.replaced(
                format!("fingerprint {kept_print:016x} before offset {}", kept.offset),
                format!("{found:016x}"),
            )),
            _ => Ok(()),
        }
    }

    fn replaced(&self, expected: String, found: String) -> Error {
        Error::Replaced { path: self.path().to_owned(), expected, found, advice: ADVICE }
    }
}
