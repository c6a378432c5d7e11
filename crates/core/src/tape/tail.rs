//! How far a segment goes: what its shared words say, as far as its frames bear it out.
//!
//! The published word is believed if this boot of the machine stored it and the frame that it
//! names is whole; whole frames behind that one count, as they do for a writer that opens the tape.
//! In any other case the frames alone decide. Below what was promised (published under this boot,
//! or durable) a reader never ends without an error.

use std::sync::atomic::Ordering;

use super::head::{is_of_this_boot, CLOSED, DURABLE, EPOCH, HEAD, PUBLISHED};
use super::segment::{file_length, Segment};
use crate::codec::{Frame, FRAME_HEADER};
use crate::error::{Error, Result};
use crate::record::Plain;

/// What a published word that is not believed really stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Correction {
    epoch: u64,
    word: u64,
    real: u64,
}

impl Segment {
    /// Finds out whether the published word is to be believed, when the segment is opened.
    pub(super) fn check_published(&mut self) -> Result<()> {
        if self.cold.is_some() {
            return Ok(());
        }
        let epoch = self.map.word(EPOCH).load(Ordering::Acquire);
        let word = self.map.word(PUBLISHED).load(Ordering::Acquire);
        let last = (word & !7) as usize;
        let mut named = self.whole(last);
        if last >= HEAD && named.is_none() && self.map_grown()? {
            // The writer made the file longer since its length was taken.
            named = self.whole(last);
        }
        let is_believed = is_of_this_boot(&self.map) && (last == 0 || named.is_some());
        let found = match named.filter(|_| is_believed) {
            Some(frame) => self.follow(last, last + frame.size(), frame.end_offset()),
            None => self.follow(0, HEAD, self.head.first_offset),
        };
        let real = found as u64 | (word & CLOSED);
        if real != word {
            self.correction = Some(Correction { epoch, word, real });
        }
        self.intact()
    }

    /// The position of the last of the whole frames that follow from `at` on, `last` for none.
    fn follow(&self, mut last: usize, mut at: usize, mut offset: u64) -> usize {
        while let Some(frame) = self.whole(at).filter(|frame| frame.first_offset == offset) {
            (last, at, offset) = (at, at + frame.size(), frame.end_offset());
        }
        last
    }

    /// The frame at `at`, if all of it is in the map and its checksum is right.
    fn whole(&self, at: usize) -> Option<Frame> {
        if at < HEAD || at >= self.map.length() {
            return None;
        }
        Frame::read(self.map.bytes(at, self.map.length())).map(|(frame, _)| frame)
    }

    /// The position of the last published frame, 0 for none, and whether a newer segment goes on.
    /// Of a compressed segment it is its last byte: all of it is published.
    #[inline]
    pub(crate) fn tail(&self) -> (usize, bool) {
        if let Some(cold) = &self.cold {
            return (cold.end().saturating_sub(1), true);
        }
        let mut word = self.map.word(PUBLISHED).load(Ordering::Acquire);
        if let Some(correction) = self.correction {
            let epoch = self.map.word(EPOCH).load(Ordering::Acquire);
            if word == correction.word && epoch == correction.epoch {
                word = correction.real;
            }
        }
        ((word & !7) as usize, word & CLOSED != 0)
    }

    /// The byte at which whole frames end although more was published.
    pub(crate) fn torn_at(&self) -> Option<usize> {
        let correction = self.correction?;
        let (word, real) = (correction.word & !7, correction.real & !7);
        (word > real && self.tail().0 as u64 == real).then(|| self.frames_end())
    }

    /// The byte after the last whole frame, of a segment whose word is not believed.
    fn frames_end(&self) -> usize {
        let real = self.tail().0;
        let last = if real >= HEAD { self.whole(real) } else { None };
        last.map_or(HEAD, |frame| real + frame.size())
    }

    /// The last published frame, if there is one.
    ///
    /// # Errors
    /// `Error::Corrupt`: it is damaged.
    pub(crate) fn last_frame(&mut self) -> Result<Option<Frame>> {
        if let Some(cold) = &mut self.cold {
            let last = cold.last_frame(self.map.bytes(0, self.map.length()), &self.path)?;
            return self.map.intact(&self.path).map(|()| last);
        }
        let (last, _) = self.tail();
        if last == 0 {
            return self.intact().map(|()| None);
        }
        if let Some((_, frame)) = self.checked_last.filter(|&(at, _)| at == last) {
            return self.intact().map(|()| Some(frame));
        }
        let damaged = |segment: &Self, reason| {
            Err(segment.wrong(last, format!("expected the last published frame, got {reason}")))
        };
        if last < HEAD || last % 8 != 0 {
            return damaged(self, "a position that no frame can have");
        }
        self.ensure(last, last.saturating_add(FRAME_HEADER))?;
        let Some(frame) =
            Frame::read_from(self.bytes(last, last + FRAME_HEADER)).filter(Frame::is_plausible)
        else {
            return damaged(self, "other bytes");
        };
        let frame = self.checked_frame(last, frame.first_offset)?;
        self.checked_last = Some((last, frame));
        Ok(Some(frame))
    }

    /// Offset after the last published item, and after the last durable one.
    ///
    /// # Errors
    /// `Error::Corrupt`: the frames end below what was promised.
    pub(crate) fn ends(&mut self) -> Result<(u64, u64)> {
        // Durable first: both only rise, and the writer never calls durable what is not published.
        let durable = self.map.word(DURABLE).load(Ordering::Acquire);
        let last = self.last_frame()?;
        let end = last.map_or(self.head.first_offset, |frame| frame.end_offset());
        if is_of_this_boot(&self.map) {
            if let Some(byte) = self.torn_at() {
                return Err(self.wrong(
                    byte,
                    format!("expected the published frame of offset {end}, got other bytes"),
                ));
            }
        }
        if durable > end {
            let byte = if self.cold.is_some() { self.map.length() } else { self.frames_end() };
            return Err(self.wrong(
                byte,
                format!(
                    "expected items up to offset {durable}, which is durable, got them up to {end}"
                ),
            ));
        }
        Ok((end, durable))
    }

    /// Says that a reader that has read all up to byte `at` has come to the end of the segment.
    ///
    /// # Errors
    /// `Error::Corrupt`: it has not, by what was published before or is durable.
    pub(crate) fn check_end(&mut self, at: usize, offset: u64) -> Result<()> {
        let (end, _) = self.ends()?;
        // Something may have been published since the reader looked: then it looks again.
        if end < offset {
            return Err(self.wrong(
                at,
                format!(
                    "expected items up to offset {offset}, as read before, got them up to {end}"
                ),
            ));
        }
        Ok(())
    }

    /// Fails if a page of the file was missing when it was used.
    #[inline]
    pub(crate) fn intact(&self) -> Result<()> {
        self.map.intact(&self.path)
    }

    /// Fails if the file no longer reaches byte `end`, or did not while it was used: what lies
    /// behind its end on the last page reads as zeros without a fault.
    pub(crate) fn check_length(&self, end: usize) -> Result<()> {
        self.intact()?;
        let length = file_length(&self.file, &self.path)?;
        if self.cold.is_none() && length < end {
            return Err(Error::corrupt(
                &self.path,
                length as u64,
                format!("the file was cut while it was open: it has {length} bytes now"),
            ));
        }
        Ok(())
    }

    /// The error that the byte `at` of this segment is wrong, unless the file was cut: then that.
    #[cold]
    pub(crate) fn wrong(&self, at: usize, reason: impl Into<String>) -> Error {
        self.intact().err().unwrap_or_else(|| Error::corrupt(&self.path, at as u64, reason))
    }
}
