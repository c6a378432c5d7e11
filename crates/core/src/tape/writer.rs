//! Writing a tape: append, publish, roll.
//!
//! One process writes. A frame is copied behind the last one, and becomes visible by one release
//! store of its position into the head of the segment. What was published is never touched again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{fence, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::create::{fixed_head, open_file, take_over, NewSegment};
use super::direct;
use super::gate::Gate;
use super::head::{CHAIN_PENDING, CHAIN_START, CLOSED, DURABLE, HEAD, PUBLISHED, WAITING};
use super::identity::{Identity, TapeId};
use super::index::IndexWriter;
use super::keeper::Keeper;
use super::lock::FolderLock;
use super::map::Map;
use super::recovery::{self, Found};
use super::rewrite::{before, rewrite, rewrite_closed};
use super::segment::file_length;
use super::sync::{Live, Shared, SyncThread};
use super::undo::{check_origin, undo};
use super::{chain, space, wait, Durability, Reader, Recovery, TapeConfig};
use crate::codec::{Frame, FRAME_HEADER, FRAME_PAYLOAD_MAX, NO_INPUT};
use crate::error::{Error, Result};
use crate::record::{Plain, NONE};

mod cover;
mod room;

const NS_PER_DAY: i64 = 86_400_000_000_000;
/// Smallest segment: below, the head would outweigh the frames.
const SEGMENT_MIN: usize = 64 << 10;
/// A frame that is durable but for its input is looked at again after so long.
const INPUT_LOOK: Duration = Duration::from_millis(20);
/// A tape, open for writing by this process alone.
#[derive(Debug)]
pub struct Tape {
    path: PathBuf,
    config: TapeConfig,
    live: Arc<Live>,
    /// Where the next frame goes.
    position: usize,
    /// How far the file's pages are in place, ready to be written without a fault each.
    ready: usize,
    /// How far the file has room on the disk.
    allocated: usize,
    /// Pages before this byte were given back.
    forgotten: usize,
    end: u64,
    /// The input that the frames cover.
    input: u64,
    /// The input that is covered although no frame says so; 0 for none.
    covered: u64,
    ts_max: i64,
    day: i64,
    index: IndexWriter,
    /// Whose segments these are; that of the newest one.
    identity: Identity,
    recovery: Recovery,
    /// The end when it was opened first under this boot.
    opened: u64,
    // Dropped in this order: the threads stop before the right to write is given up.
    keeper: Keeper,
    _sync_thread: Option<SyncThread>,
    shared: Arc<Shared>,
}

impl Tape {
    /// Opens the tape in the folder `path` for writing, or makes it. A torn tail is cut; what was
    /// cut is told by [`Tape::recovery`].
    ///
    /// # Errors
    /// `Error::Locked`: another process writes it. `Error::Corrupt`: something before the tail is
    /// wrong; nothing was changed. `Error::FutureVersion`, `Error::DiskFull`, `Error::Io`.
    /// `Error::Invalid`: the tape holds another kind of items.
    pub fn open(path: &Path, config: TapeConfig) -> Result<Self> {
        Self::open_behind(path, config, None)
    }

    /// As [`Tape::open`], for a tape that is made from the one at `input`: its frames say which
    /// input they cover. Frames whose input was lost with the power are taken back, which
    /// [`Tape::recovery`] tells; and no item is called durable before its input is.
    ///
    /// # Errors
    /// As [`Tape::open`] and [`Reader::open`]. `Error::Invalid` also: the input lost more than a
    /// loss of power explains. `Error::Replaced`: the tape was made from another input.
    pub fn open_from(path: &Path, config: TapeConfig, input: &Path) -> Result<Self> {
        Self::open_behind(path, config, Some(Reader::open(input)?))
    }

    fn open_behind(path: &Path, config: TapeConfig, input: Option<Reader>) -> Result<Self> {
        if config.segment_bytes < SEGMENT_MIN {
            return Err(Error::invalid(format!(
                "expected segments of at least {SEGMENT_MIN} bytes, got {}",
                config.segment_bytes
            )));
        }
        let lock = FolderLock::take(path)?;
        let mut input = input;
        let mut found = match recovery::recover(path)? {
            Some(found) => found,
            None => {
                let origin = input.as_mut().map_or(Ok(None), Reader::id)?;
                let first = NewSegment {
                    head: fixed_head(&config, 0, NO_INPUT, i64::MIN, i64::MIN),
                    identity: Identity::new(Some(TapeId::random()?), origin, 0),
                    chain_state: CHAIN_START,
                    durable: 0,
                    opened: 0,
                    needed: HEAD,
                    limit: config.segment_bytes,
                };
                drop(first.create(path)?);
                recovery::recover(path)?.ok_or_else(|| {
                    Error::corrupt(path, 0, "the segment that was just made is gone")
                })?
            }
        };
        if found.head.kind() != config.kind {
            return Err(Error::invalid(format!(
                "{} holds {:?}, expected {:?}",
                path.display(),
                found.head.kind(),
                config.kind
            )));
        }
        if let Some(input) = &mut input {
            check_origin(path, &found.identity, input)?;
            // The input may have grown since its writer found it after a loss of power: what was
            // made of the tail that it lost is not made of what stands there now.
            let input_end = input.end()?;
            let left = if found.opened.is_some() { None } else { input.opened()? };
            found = undo(path, found, left.map_or(input_end, |left| left.min(input_end)))?;
        }
        Self::resume(path, config, lock, &found, input.map(Gate::new))
    }

    /// Goes on where `found` ends.
    fn resume(
        path: &Path,
        config: TapeConfig,
        lock: FolderLock,
        found: &Found,
        gate: Option<Gate>,
    ) -> Result<Self> {
        let (scan, first) = (&found.scan, found.head.first_offset);
        let file = open_file(&found.path)?;
        // Zeros follow the last frame again, whatever a crash left there.
        space::clear(&file, &found.path, scan.end, file_length(&file, &found.path)?)?;
        let length = config.segment_bytes.max(scan.end);
        let map = Map::appended(&file, length, &found.path)?;
        let index = IndexWriter::resume(&map, HEAD, scan.end, found.head.stride as usize);
        let opened = found.opened.unwrap_or(scan.end_offset);
        take_over(&map, scan.last as u64, opened);
        let durable = found.durable;
        map.word(DURABLE).store(durable, Ordering::Release);
        wait::wake_all(map.half_word(PUBLISHED));
        let live = Arc::new(Live { first, file, map, path: found.path.clone() });
        // Whatever an earlier writer left to the system may be in memory alone, also where the disk
        // refused it: a sync of pages that the system calls clean says nothing.
        rewrite_closed(path, first, durable)?;
        if durable < scan.end_offset {
            rewrite(&live, durable)?;
        }
        let covered = if scan.input == NO_INPUT { 0 } else { scan.input };
        let (end, is_made) = (scan.end_offset, gate.is_some());
        let newest = (before(path, first)?, Arc::clone(&live));
        let shared = Shared::new(lock, newest, end, covered, durable, gate);
        // Only makes sure of the links that are there. The keeper tells what is wrong with them.
        let confirmed = found.identity.linked;
        let linked = chain::link(path, 0, confirmed).unwrap_or(confirmed);
        shared.linked.store(linked, Ordering::Release);
        let shared = Arc::new(shared);
        shared.sync()?;
        let sync_thread = match config.durability {
            Durability::IntervalMs(ms) => {
                let interval = Duration::from_millis(u64::from(ms.max(1)));
                Some(SyncThread::start(Arc::clone(&shared), interval)?)
            }
            // What waits for its input is looked at again.
            Durability::EveryFrame if is_made => {
                Some(SyncThread::start(Arc::clone(&shared), INPUT_LOOK)?)
            }
            Durability::EveryFrame | Durability::Never => None,
        };
        let keeper = Keeper::start(path, config.retention, Arc::clone(&shared))?;
        Ok(Self {
            path: path.to_owned(),
            config,
            live,
            position: scan.end,
            ready: scan.end,
            allocated: scan.end,
            forgotten: scan.end,
            end: scan.end_offset,
            input: scan.input,
            covered: 0,
            ts_max: scan.ts_max,
            day: found.head.ts_first.max(scan.ts_max).div_euclid(NS_PER_DAY),
            index,
            identity: found.identity,
            shared,
            recovery: found.recovery,
            opened,
            _sync_thread: sync_thread,
            keeper,
        })
    }

    /// Appends `count` items, back to back in `bytes`, as one frame, publishes them, and returns
    /// the offset of the first. `input_offset` is the input offset that the tape covers with them
    /// ([`NO_INPUT`] for none), `ts_recv` the receive time of the newest item in ns. Without items
    /// the frame only says what input is covered.
    ///
    /// # Errors
    /// `Error::DiskFull`: nothing of this was published; free space and call again. `Error::Io`:
    /// the disk refuses, nothing of this was published; see [`Tape::reopen`]. `Error::Invalid`: the
    /// bytes are no whole items.
    /// `Error::Replaced`: the tape's folder was removed or replaced; noticed at the next sync or
    /// the next segment.
    #[inline]
    pub fn append(
        &mut self,
        bytes: &[u8],
        count: u32,
        input_offset: u64,
        ts_recv: i64,
    ) -> Result<u64> {
        let size = FRAME_HEADER + bytes.len();
        if self.shared.has_failed.load(Ordering::Relaxed) {
            return Err(self.shared.earlier_failure());
        }
        if !Frame::may_hold(bytes.len(), count) {
            return Err(bad_items(bytes.len(), count));
        }
        let ts_recv = if ts_recv == NONE { self.ts_max } else { ts_recv };
        if self.position + size > self.ready || ts_recv.div_euclid(NS_PER_DAY) > self.day {
            self.make_room(size, ts_recv)?;
        }
        let (at, first) = (self.position, self.end);
        let map = &self.live.map;
        let frame = Frame::seal(bytes, count, first, input_offset, ts_recv);
        debug_assert_eq!(
            self.config.kind.items_length(bytes, count as usize),
            Some(bytes.len()),
            "the bytes are {count} whole items"
        );
        if at + size > self.ready {
            direct::write_frame(&self.live, at, &frame, bytes, self.allocated)?;
        } else {
            map.write(at + FRAME_HEADER, bytes);
            map.write(at, frame.as_bytes());
        }
        // Somebody may have cut the file: then this frame is not in it.
        map.intact(&self.live.path)?;
        if self.config.durability == Durability::EveryFrame {
            // Before it is visible: an append that fails published nothing, and may be repeated.
            if let Err(error) = self.shared.sync_unpublished(frame.end_offset()) {
                // Zeros follow the last frame again.
                map.write(at, &vec![0; size]);
                return Err(error);
            }
        }
        if at >= self.index.next {
            self.index.add(map, at, first, self.ts_max);
        }
        self.position = at + size;
        self.ready = self.ready.max(self.position);
        self.end = frame.end_offset();
        self.input = input_offset;
        self.ts_max = self.ts_max.max(ts_recv);
        self.publish(at as u64)?;
        Ok(first)
    }

    /// Makes the frame at `at` visible to all readers, and wakes those who sleep.
    #[inline]
    fn publish(&mut self, at: u64) -> Result<()> {
        let map = &self.live.map;
        map.word(PUBLISHED).store(at, Ordering::Release);
        if self.input != NO_INPUT {
            self.shared.covered.store(self.input, Ordering::Release);
        }
        self.shared.end.store(self.end, Ordering::Release);
        // A reader sets the waiting word, then looks at the published word; here it is the other
        // way round. The fence makes sure that one of the two sees the other. The same holds for
        // the thread that syncs, its word and the end.
        fence(Ordering::SeqCst);
        if map.word(WAITING).load(Ordering::Relaxed) != 0 {
            wake(map);
        }
        map.intact(&self.live.path)?;
        match self.config.durability {
            Durability::IntervalMs(_) => self.shared.mark_dirty(),
            // It is on the disk. Where the input does not say how far it is durable, a later look
            // calls it durable; to fail here would have it written twice.
            Durability::EveryFrame => drop(self.shared.sync()),
            Durability::Never => {}
        }
        Ok(())
    }

    /// Closes the segment and goes on with a new one that has room for `size` bytes.
    fn roll(&mut self, size: usize, ts_recv: i64) -> Result<()> {
        self.shared.lock.check()?;
        self.shared.bound_closed()?;
        // A tape of version 1 gets its id with the first segment that can hold one.
        let id = self.identity.id().map_or_else(TapeId::random, Ok)?;
        let mut identity = Identity::new(Some(id), self.identity.origin(), self.end);
        identity.linked = self.shared.linked.load(Ordering::Acquire);
        let new = NewSegment {
            head: fixed_head(&self.config, self.end, self.input, self.ts_max, ts_recv),
            identity,
            chain_state: CHAIN_PENDING,
            durable: self.shared.durable.load(Ordering::Acquire),
            opened: self.opened,
            needed: HEAD + size,
            limit: self.config.segment_bytes,
        };
        let (live, allocated) = new.create(&self.path)?;
        self.identity = identity;
        let old = std::mem::replace(&mut self.live, Arc::new(live));
        // Before anybody syncs it for the last time: that it is closed belongs on the disk as well.
        old.map.word(PUBLISHED).fetch_or(CLOSED, Ordering::AcqRel);
        self.shared.roll(Arc::clone(&self.live));
        wait::wake_all(old.map.half_word(PUBLISHED));
        // Readers never look beyond the last frame; what was allocated behind it is given back. The
        // new segment is there: were a failure of this one of the call, it would be made twice.
        drop(old.file.set_len(self.position as u64));
        self.position = HEAD;
        (self.ready, self.allocated, self.forgotten) = (HEAD, allocated, HEAD);
        self.day = ts_recv.div_euclid(NS_PER_DAY);
        self.index = IndexWriter::new(HEAD, new.head.stride as usize);
        self.keeper.look();
        Ok(())
    }

    /// Makes all that is published durable, and says up to which offset.
    ///
    /// # Errors
    /// `Error::Io`: the disk refuses; see [`Tape::reopen`].
    pub fn sync(&self) -> Result<u64> {
        self.shared.sync()
    }

    /// Whether a sync failed: until [`Tape::reopen`] succeeds, nothing can be appended or synced.
    pub fn needs_reopen(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }

    /// Goes on after a failed sync: all that is published and not known to be on the disk is
    /// written there again and synced, since what the system calls clean after a failure may be
    /// nowhere. Does nothing where no sync failed. May be called often: it pauses by itself between
    /// two attempts, and gives the error of the last one meanwhile.
    ///
    /// # Errors
    /// `Error::Io`, `Error::DiskFull`: the disk still refuses; what is published stays readable,
    /// and nothing more is called durable. `Error::Corrupt`: what is not on the disk is no longer
    /// in memory either; nothing is changed, and `repair` makes the tape writable again.
    /// `Error::Replaced`.
    pub fn reopen(&mut self) -> Result<()> {
        if self.needs_reopen() {
            self.shared.write_again()?;
        }
        Ok(())
    }

    /// Offset after the last item: what the next one will get.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The input offset that the tape covers: the next one to read. `None` if it covers none.
    pub fn last_input_offset(&self) -> Option<u64> {
        (self.input != NO_INPUT).then_some(self.input.max(self.covered))
    }

    /// Newest receive time on the tape, if there is any.
    pub fn last_ts_recv(&self) -> Option<i64> {
        (self.ts_max != i64::MIN).then_some(self.ts_max)
    }

    /// Offset after the last item that survives a loss of power.
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The tape's id. `None` while all of it was written by version 1: the next segment gets one.
    pub fn id(&self) -> Option<TapeId> {
        self.identity.id()
    }

    /// The id of the tape that this one is made from; `None` for none, or where it is not known.
    pub fn origin(&self) -> Option<TapeId> {
        self.identity.origin()
    }

    /// What opening found, and had to cut.
    pub const fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// What went wrong with closed segments (hashing, compressing, removing) when they were last
    /// looked at. Writing goes on meanwhile.
    pub fn upkeep_failure(&self) -> Option<String> {
        self.keeper.failure()
    }

    /// The tape's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // An error here costs no data that was called durable; the next open tells.
        drop(self.shared.sync());
        // What became durable only now has its place in the chain before the tape is closed.
        self.keeper.look();
        // The file ends at its last frame again. Should this fail, the next open does it.
        drop(self.live.file.set_len(self.position as u64));
    }
}

#[cold]
fn wake(map: &Map) {
    if map.word(WAITING).swap(0, Ordering::SeqCst) != 0 {
        wait::wake_all(map.half_word(PUBLISHED));
    }
}

#[cold]
fn bad_items(bytes: usize, count: u32) -> Error {
    Error::invalid(format!(
        "expected whole items, a multiple of 8 bytes each and at most {FRAME_PAYLOAD_MAX} bytes in \
         all, got {count} items in {bytes} bytes"
    ))
}
