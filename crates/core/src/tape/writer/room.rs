//! Room for the next frames: in the file, in the map, and pages that need no fault each.

use std::sync::Arc;

use super::{Live, Map, Tape, NS_PER_DAY};
use crate::error::{Error, Result};
use crate::tape::direct::{self, DIRECT_MIN};
use crate::tape::map::PAGE;
use crate::tape::segment::doing;
use crate::tape::space;

/// So many more frames of the same size get their pages together, within these limits in bytes:
/// a busy tape makes few calls, and a quiet one does not write pages that it does not need.
const AHEAD_FRAMES: usize = 16;
const AHEAD_MIN: usize = 256 << 10;
const AHEAD_MAX: usize = 4 << 20;
/// Written pages stay mapped for so many bytes, then they are given back.
const BEHIND: usize = 8 << 20;

impl Tape {
    /// Makes room for `size` more bytes: rolls to a new segment if this one is full or its day is
    /// over, else grows the file.
    #[cold]
    pub(super) fn make_room(&mut self, size: usize, ts_recv: i64) -> Result<()> {
        let day = ts_recv.div_euclid(NS_PER_DAY);
        // One that only covers its input holds no item: the next would have its name.
        let is_empty = self.end == self.live.first;
        let is_full = self.position + size > self.config.segment_bytes;
        if !is_empty && (is_full || day > self.day) {
            self.roll(size, ts_recv)?;
        }
        if self.end == self.live.first {
            self.day = self.day.max(day);
        }
        let needed = self.position + size;
        if needed > self.live.map.length() {
            let file = self.live.file.try_clone();
            let file = file.map_err(|e| Error::io(e, doing("opening", &self.live.path)))?;
            // By whole segments: one that only covers its input grows by many small frames.
            let length = needed.next_multiple_of(self.config.segment_bytes);
            let map = Map::appended(&file, length, &self.live.path)?;
            // What lies before is not written any more: it needs no pages in this map.
            self.ready = self.position;
            self.live =
                Arc::new(Live { first: self.live.first, file, map, path: self.live.path.clone() });
            self.shared.replace(Arc::clone(&self.live));
        }
        if needed > self.allocated {
            let live = &self.live;
            direct::check_length(live, self.allocated)?;
            let limit = live.map.length();
            self.allocated = space::grow(&live.file, &live.path, self.allocated, needed, limit)?;
        }
        // A large frame needs no pages of the map.
        if needed > self.ready && size < DIRECT_MIN {
            self.put_pages_in_place(size);
        }
        Ok(())
    }

    /// Puts pages for the next frames in place, many in one call, and gives back those that were
    /// written long ago. One fault per page would cost more than all else that an append does.
    fn put_pages_in_place(&mut self, size: usize) {
        let map = &self.live.map;
        let ahead = (AHEAD_FRAMES * size).clamp(AHEAD_MIN, AHEAD_MAX);
        let ready = (self.position + size + ahead).next_multiple_of(PAGE).min(self.allocated);
        // The kernel makes them sooner for a call that fills them than for a fault on each.
        let fresh = self.ready.max(self.position).next_multiple_of(PAGE);
        space::fill(&self.live.file, fresh, ready, self.allocated);
        map.advise(self.ready / PAGE * PAGE, ready, libc::MADV_POPULATE_WRITE);
        self.ready = ready;
        if self.position > self.forgotten + 2 * BEHIND {
            let to = self.position - BEHIND;
            map.advise(self.forgotten, to, libc::MADV_DONTNEED);
            self.forgotten = to;
        }
    }
}
