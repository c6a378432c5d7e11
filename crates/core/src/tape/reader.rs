//! Reading a tape, in this process or another, from any offset.
//!
//! A reader sees published frames only, in order, each once its checksum is right. It holds one
//! segment mapped. When there is nothing more to read it looks at one word of shared memory;
//! nothing here makes a system call while the tape is busy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::head::{HEAD, IDENTITY};
use super::identity::may_be_same;
use super::segment::{list, Segment, SegmentFile};
use super::{index, Batch};
use crate::clock::moment;
use crate::codec::{Frame, TapeKind, FRAME_HEADER};
use crate::error::{Error, Result};

mod ends;

/// How long a waiting reader spins before it sleeps, unless told otherwise.
const SPIN: Duration = Duration::from_micros(50);
/// Pages this far behind are given back, so that a long scan does not fill the memory.
const FORGET: usize = 8 << 20;

/// A position on a tape, from which items are read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    segment: Segment,
    /// Whether a newer segment was there when this one was opened: then it is closed, whatever its
    /// own word says.
    is_followed: bool,
    /// Where the next frame starts in the segment.
    at: usize,
    /// Offset of the next item.
    next: u64,
    /// Byte of the next item of a frame that was given in part.
    byte: usize,
    /// Items of that frame that are still to be given.
    left: usize,
    /// Bytes of the segment before this one were given back.
    forgotten: usize,
    spin: Duration,
    verify: bool,
    /// The newest segment, where it is not the one being read.
    newest: Option<Box<Segment>>,
    /// The input that the items before the last place that was sought cover, at least.
    behind: u64,
}

impl Reader {
    /// Opens the tape at `path` at its first kept offset.
    ///
    /// # Errors
    /// `Error::Io`: there is no tape, or it may not be read. `Error::Corrupt` and
    /// `Error::FutureVersion`: what is there cannot be read by this build.
    pub fn open(path: &Path) -> Result<Self> {
        // Retention or compression may take the file away between listing and opening.
        let mut attempts = 0;
        let (segment, is_followed) = loop {
            let files = list(path)?;
            let Some(file) = files.first() else { return Err(no_tape(path)) };
            match Segment::open(file) {
                Err(error) if is_missing(&error) && attempts < 10 => attempts += 1,
                opened => break (opened?, files.len() > 1),
            }
        };
        let (next, behind) = (segment.head.first_offset, segment.head.input_before);
        Ok(Self {
            path: path.to_owned(),
            segment,
            is_followed,
            at: HEAD,
            next,
            byte: 0,
            left: 0,
            forgotten: HEAD,
            spin: SPIN,
            verify: true,
            newest: None,
            behind,
        })
    }

    /// How long [`Reader::wait`] spins before it sleeps. Default 50 µs.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    /// Whether each frame's checksum is verified when it is read. Default yes.
    pub fn set_verify(&mut self, verify: bool) {
        self.verify = verify;
    }

    /// What the items of the tape are.
    pub fn kind(&self) -> TapeKind {
        self.segment.head.kind()
    }

    /// The tape's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of the next item to be read.
    pub const fn position(&self) -> u64 {
        self.next
    }

    /// Reads at most `max_items` items, in place. `None` when all that is published was read.
    ///
    /// A batch never reaches beyond one frame, and ends at an item.
    ///
    /// # Errors
    /// `Error::Corrupt`: a checksum or a length is wrong, at the named byte. `Error::OutOfRange`:
    /// retention took what comes next.
    #[inline]
    pub fn read(&mut self, max_items: usize) -> Result<Option<Batch<'_>>> {
        if max_items == 0 {
            return Ok(None);
        }
        if self.left > 0 {
            // The checksum was verified when the frame was entered, which may be long ago.
            self.check_intact()?;
        } else if !self.next_frame()? {
            return Ok(None);
        }
        let (from, first_offset, mut count) = (self.byte, self.next, self.left);
        // The frame's end is where the next frame starts.
        let mut to = self.at;
        if count > max_items {
            count = max_items;
            to = from + self.items_length(from, to, count)?;
        }
        self.byte = to;
        self.left -= count;
        self.next += count as u64;
        Ok(Some(Batch { first_offset, count, bytes: self.segment.bytes(from, to) }))
    }

    /// Bytes that the `count` items from byte `from` on take.
    fn items_length(&self, from: usize, to: usize, count: usize) -> Result<usize> {
        self.kind()
            .items_length(self.segment.bytes(from, to), count)
            .ok_or_else(|| self.segment.wrong(from, "items and frame disagree on lengths"))
    }

    /// Goes to the next frame that holds items. Says whether there is one.
    #[inline]
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            let (last, closed) = self.tail();
            if self.at <= last {
                let frame = if self.verify {
                    self.segment.checked_frame(self.at, self.next)?
                } else {
                    self.segment.frame(self.at, self.next)?
                };
                self.enter(&frame);
                if self.left > 0 {
                    return Ok(true);
                }
            } else if !closed || !self.next_segment()? {
                self.segment.check_end(self.at, self.next)?;
                return Ok(false);
            }
        }
    }

    /// Fails if a batch that [`Reader::read`] gave may hold bytes that the file did not: somebody
    /// cut it meanwhile. Who makes something of a batch asks before it is published.
    ///
    /// # Errors
    /// `Error::Corrupt`: that is so.
    pub fn check_intact(&self) -> Result<()> {
        self.segment.check_length(self.at)
    }

    /// The tail of the segment; it is closed as well if a newer one was there.
    #[inline]
    fn tail(&self) -> (usize, bool) {
        let (last, closed) = self.segment.tail();
        (last, closed || self.is_followed)
    }

    /// Takes the frame at `at` as the one whose items come next.
    #[inline]
    fn enter(&mut self, frame: &Frame) {
        self.byte = self.at + FRAME_HEADER;
        self.left = frame.count as usize;
        if self.at > self.forgotten + 2 * FORGET {
            self.segment.forget(self.forgotten, self.at - FORGET);
            self.forgotten = self.at - FORGET;
        }
        self.at += frame.size();
    }

    /// Goes to the segment behind this one. `false` if a loss of power took it.
    #[cold]
    fn next_segment(&mut self) -> Result<bool> {
        let mut attempts = 0;
        loop {
            match self.try_next_segment() {
                // Compressed or removed between listing and opening. To say that nothing follows
                // would end an answer early.
                Err(error) if is_missing(&error) && attempts < 10 => attempts += 1,
                gone => return gone,
            }
        }
    }

    fn try_next_segment(&mut self) -> Result<bool> {
        let files = list(&self.path)?;
        // A closed segment holds items, so that the next one starts further on.
        let here = self.segment.head.first_offset;
        let follows = |file: &SegmentFile| file.first == self.next && file.first > here;
        if let Some(index) = files.iter().position(follows) {
            let segment = Segment::open(&files[index])?;
            let (id, found) = (self.segment.identity().id(), segment.identity().id());
            if !may_be_same(id, found) {
                return Err(Error::corrupt(
                    &segment.path,
                    IDENTITY as u64,
                    "the segment belongs to another tape than the one before",
                ));
            }
            self.use_segment(segment, index + 1 < files.len());
            return Ok(true);
        }
        let first = files.first().map_or(0, |file| file.first);
        if first > self.next {
            return Err(self.out_of_range(self.next, first));
        }
        let after = files.iter().find(|file| file.first > here);
        if let Some(first) = self.given_up(after)? {
            return Err(self.out_of_range(self.next, first));
        }
        if after.is_none() && !self.segment.is_of_this_boot() {
            return Ok(false);
        }
        let found = after.map_or_else(
            || "no newer segment".to_owned(),
            |file| format!("that of offset {}", file.first),
        );
        let reason = format!("expected the segment of offset {} to follow, got {found}", self.next);
        Err(self.segment.wrong(self.at, reason))
    }

    /// Where items go on after this segment, if a repair gave up those between.
    fn given_up(&self, after: Option<&SegmentFile>) -> Result<Option<u64>> {
        let Some(after) = after.filter(|after| after.first > self.next) else { return Ok(None) };
        let is_given_up = Segment::open(after)?.identity().lost_from == self.next;
        Ok(is_given_up.then_some(after.first))
    }

    fn use_segment(&mut self, segment: Segment, is_followed: bool) {
        self.segment = segment;
        self.is_followed = is_followed;
        self.behind = self.segment.head.input_before;
        self.at = HEAD;
        self.next = self.segment.head.first_offset;
        self.left = 0;
        self.forgotten = HEAD;
        self.newest = None;
    }

    fn out_of_range(&mut self, wanted: u64, first: u64) -> Error {
        match self.end() {
            Ok(end) => Error::OutOfRange { wanted, first, end },
            Err(error) => error,
        }
    }

    /// Goes to `offset`, which may be the end.
    ///
    /// # Errors
    /// `Error::OutOfRange`: the offset is no longer, or not yet, on the tape. `Error::Corrupt`:
    /// as for [`Reader::read`].
    pub fn seek(&mut self, offset: u64) -> Result<()> {
        let mut attempts = 0;
        loop {
            let files = list(&self.path)?;
            let first = files.first().map_or(0, |file| file.first);
            let Some(index) = files.iter().rposition(|file| file.first <= offset) else {
                return Err(self.out_of_range(offset, first));
            };
            match self.go_to(&files[index], index + 1 < files.len()) {
                Err(error) if is_missing(&error) && attempts < 10 => attempts += 1,
                gone => {
                    gone?;
                    break;
                }
            }
        }
        if self.seek_in_segment(offset)? {
            return Ok(());
        }
        let files = list(&self.path)?;
        let after = files.iter().find(|file| file.first > self.segment.head.first_offset);
        if let Some(first) = self.given_up(after)? {
            return Err(self.out_of_range(offset, first));
        }
        if self.is_followed {
            // Not beyond the end of the tape: what should be between two segments is not there.
            let next = self.next;
            let reason = format!("expected items up to offset {offset}, got them up to {next}");
            return Err(self.segment.wrong(self.at, reason));
        }
        let first = self.first()?;
        Err(self.out_of_range(offset, first))
    }

    fn go_to(&mut self, file: &SegmentFile, is_followed: bool) -> Result<()> {
        if self.segment.head.first_offset != file.first {
            let segment = Segment::open(file)?;
            self.use_segment(segment, is_followed);
        }
        self.is_followed |= is_followed;
        Ok(())
    }

    /// Goes to `offset` in the segment at hand. `false` if it ends before.
    fn seek_in_segment(&mut self, offset: u64) -> Result<bool> {
        self.start_from_index(|entry| entry.first_offset <= offset)?;
        loop {
            let (last, _) = self.segment.tail();
            if self.at > last {
                return Ok(self.next == offset);
            }
            // Checked, for its neighbours are found and its input is told by what it says.
            let frame = self.segment.checked_frame(self.at, self.next)?;
            if frame.end_offset() > offset {
                break;
            }
            self.at += frame.size();
            self.next = frame.end_offset();
            self.behind = frame.input_offset;
        }
        if self.next < offset {
            let frame = self.segment.frame(self.at, self.next)?;
            self.enter(&frame);
            let skipped = (offset - self.next) as usize;
            self.byte += self.items_length(self.byte, self.at, skipped)?;
            self.left -= skipped;
            self.next = offset;
        }
        Ok(true)
    }

    /// Goes to the frame of the last index entry for which `wanted` holds, or to the first frame.
    /// Returns the newest receive time before that frame.
    fn start_from_index(&mut self, wanted: impl Fn(&index::Entry) -> bool) -> Result<i64> {
        (self.at, self.next, self.left) = (HEAD, self.segment.head.first_offset, 0);
        (self.forgotten, self.behind) = (HEAD, self.segment.head.input_before);
        let (last, _) = self.segment.tail();
        if let Some(entry) = index::find(self.segment.head_bytes(), last, wanted) {
            let at = entry.position();
            // An entry that does not lead to a whole frame is not worth an error: the frames do.
            if at >= HEAD && self.segment.checked_frame(at, entry.first_offset).is_ok() {
                (self.at, self.next) = (at, entry.first_offset);
                return Ok(entry.ts_before);
            }
        }
        Ok(self.segment.head.ts_before)
    }

    /// Goes to the first frame whose receive time is `ts_recv` or later; to the end if there is
    /// none. A frame's time is that of its newest item, so that no item of that time or later
    /// lies before.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub fn seek_time(&mut self, ts_recv: i64) -> Result<()> {
        let mut attempts = 0;
        'again: loop {
            let files = list(&self.path)?;
            let mut chosen: Option<(Segment, bool)> = None;
            for (index, file) in files.iter().enumerate().rev() {
                let is_followed = index + 1 < files.len();
                match Segment::open(file) {
                    Err(error) if is_missing(&error) && attempts < 10 => {
                        attempts += 1;
                        continue 'again;
                    }
                    opened => chosen = Some((opened?, is_followed)),
                }
                if chosen.as_ref().is_some_and(|(segment, _)| segment.head.ts_before < ts_recv) {
                    break;
                }
            }
            let Some((segment, is_followed)) = chosen else { return Err(no_tape(&self.path)) };
            self.use_segment(segment, is_followed);
            break;
        }
        self.start_from_index(|entry| entry.is_sealed() && entry.ts_before < ts_recv)?;
        loop {
            let (last, closed) = self.tail();
            if self.at <= last {
                let frame = self.segment.checked_frame(self.at, self.next)?;
                if frame.ts_recv >= ts_recv && frame.count > 0 {
                    return Ok(());
                }
                self.at += frame.size();
                self.next = frame.end_offset();
            } else if !closed {
                return self.segment.check_end(self.at, self.next);
            } else {
                match self.next_segment() {
                    Ok(true) => {}
                    Ok(false) => return self.segment.check_end(self.at, self.next),
                    // A repair gave up what is between.
                    Err(Error::OutOfRange { first, .. }) if first > self.next => {
                        self.seek(first)?
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Whether [`Reader::read`] has something to look at, an error too.
    #[inline]
    fn is_ready(&self) -> bool {
        let (last, closed) = self.tail();
        self.left > 0 || self.at <= last || closed || self.segment.intact().is_err()
    }

    /// Waits until there is something to read, at most for `timeout`. Spins briefly, then sleeps
    /// until the writer publishes. Says whether there is something.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        if self.is_ready() {
            return true;
        }
        let start = moment();
        let spin = self.spin.min(timeout);
        loop {
            for _ in 0..64 {
                if self.is_ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= spin {
                break;
            }
        }
        loop {
            let tail = self.segment.tail();
            if self.is_ready() {
                return true;
            }
            let Some(rest) = timeout.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero())
            else {
                return false;
            };
            self.segment.sleep(tail, rest);
        }
    }
}

fn no_tape(path: &Path) -> Error {
    Error::io(
        std::io::Error::from(std::io::ErrorKind::NotFound),
        format!("looking for a tape in {}", path.display()),
    )
}

pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}
