//! Where a tape starts and ends, as its reader sees it.

use super::{is_missing, list, no_tape, Reader, Segment};
use crate::codec::NO_INPUT;
use crate::error::Result;
use crate::tape::head::PUBLISHED;

impl Reader {
    /// First offset that is kept.
    ///
    /// # Errors
    /// `Error::Io`: the folder cannot be listed.
    pub fn first(&self) -> Result<u64> {
        list(&self.path)?.first().map(|file| file.first).ok_or_else(|| no_tape(&self.path))
    }

    /// Offset after the last published item.
    ///
    /// # Errors
    /// As for [`Reader::open`]. `Error::Corrupt` also: that would be less than is durable.
    pub fn end(&mut self) -> Result<u64> {
        Ok(self.newest()?.ends()?.0)
    }

    /// Offset after the last item that survives a loss of power.
    ///
    /// # Errors
    /// As for [`Reader::end`].
    pub fn durable(&mut self) -> Result<u64> {
        Ok(self.newest()?.ends()?.1)
    }

    /// The input offset that the published tape covers: the next one to read. `None` on a tape
    /// that has no input, or nothing yet.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn covered(&mut self) -> Result<Option<u64>> {
        let newest = self.newest()?;
        newest.ends()?;
        let input = newest.last_frame()?.map_or(newest.head.input_before, |f| f.input_offset);
        if input == NO_INPUT {
            return Ok(None);
        }
        Ok(Some(input.max(newest.covered_beyond())))
    }

    /// An input offset that all items before the place of the last [`Reader::seek`] cover: what
    /// comes from there on was made of input from it on. `None` as for [`Reader::covered`].
    pub fn input_behind(&self) -> Option<u64> {
        (self.behind != NO_INPUT).then_some(self.behind)
    }

    /// Whether a writer opened the tape since this machine started. Before that, a tape that lost
    /// its tail with the power may still become shorter than it looks.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn is_settled(&mut self) -> Result<bool> {
        Ok(self.newest()?.is_of_this_boot())
    }

    /// The newest segment.
    pub(crate) fn newest(&mut self) -> Result<&mut Segment> {
        if !self.tail().1 {
            self.newest = None;
            return Ok(&mut self.segment);
        }
        let mut attempts = 0;
        while self.newest.as_ref().is_none_or(|newest| newest.tail().1) {
            let Some(file) = list(&self.path)?.pop() else {
                return Err(no_tape(&self.path));
            };
            let here = self.newest.as_ref().map_or(&self.segment, |newest| newest);
            let is_here = file.first == here.head.first_offset;
            if is_here && here.tail().1 && here.is_of_this_boot() {
                // The next segment gets its name before this one is closed.
                let reason = "expected a newer segment, as this one is closed, got none";
                return Err(here.wrong(PUBLISHED, reason));
            }
            if file.first == self.segment.head.first_offset {
                self.newest = None;
                return Ok(&mut self.segment);
            }
            if is_here {
                break;
            }
            attempts += 1;
            match Segment::open(&file) {
                Err(error) if is_missing(&error) && attempts < 10 => {}
                opened => self.newest = Some(Box::new(opened?)),
            }
        }
        Ok(self.newest.as_mut().map_or(&mut self.segment, |newest| newest))
    }
}
