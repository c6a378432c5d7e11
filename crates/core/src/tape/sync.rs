//! The durable watermark: which items are on the disk, and the thread that moves it.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::head::DURABLE;
use super::lock::FolderLock;
use super::map::Map;
use super::segment::doing;
use super::Reader;
use crate::error::{Error, Result};

/// A segment file that is being written.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) file: File,
    pub(crate) map: Map,
    pub(crate) path: PathBuf,
}

/// So many ends wait for their input at most; then the newest stands for those before.
const WAITING_MAX: usize = 1024;

/// What holds back the durable mark of a tape that is made from another one.
///
/// Both tapes reach the disk apart. Were an item called durable while its input is not, a loss of
/// power could leave it without the input that proves it, and it would have to be taken back.
#[derive(Debug)]
pub(crate) struct Gate {
    input: Reader,
    /// Ends that are on the disk, and the input that each covers, oldest first.
    waiting: VecDeque<(u64, u64)>,
}

impl Gate {
    pub(crate) fn new(input: Reader) -> Self {
        Self { input, waiting: VecDeque::new() }
    }

    /// Takes in that the tape is on the disk up to `end`, which covers the input before `covered`.
    /// Gives the newest end whose input is durable, if there is one that was not given yet.
    fn pass(&mut self, end: u64, covered: u64) -> Result<Option<u64>> {
        if self.waiting.back().is_none_or(|&(last, _)| last < end) {
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_back();
            }
            self.waiting.push_back((end, covered));
        }
        let durable = self.input.durable()?;
        let ready = self.waiting.partition_point(|&(_, covered)| covered <= durable);
        Ok(self.waiting.drain(..ready).next_back().map(|(end, _)| end))
    }
}

/// What the writer and its thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The right to write the tape's folder.
    pub(crate) lock: FolderLock,
    state: Mutex<State>,
    /// Held during a sync: the writer and its thread take turns.
    turn: Mutex<Option<Gate>>,
    changed: Condvar,
    /// Offset after the last published item.
    pub(crate) end: AtomicU64,
    /// The input offset that the published tape covers.
    pub(crate) covered: AtomicU64,
    /// Offset after the last item that is on the disk.
    synced: AtomicU64,
    /// Offset after the last durable item: it is on the disk, and so is its input.
    pub(crate) durable: AtomicU64,
    /// Whether something was published since the thread last looked.
    dirty: AtomicBool,
    /// Whether the disk refused to sync.
    pub(crate) has_failed: AtomicBool,
}

#[derive(Debug)]
struct State {
    live: Arc<Live>,
    /// Closed segments that are not on the disk yet, oldest first.
    closed: Vec<Arc<Live>>,
    /// Whether files were made or removed since the folder was last synced.
    is_folder_dirty: bool,
    stop: bool,
    /// Set once the disk refused: what it holds is not known any more, so that nothing that comes
    /// later can be called durable.
    failure: Option<i32>,
}

impl Shared {
    pub(crate) fn new(
        lock: FolderLock,
        live: Arc<Live>,
        end: u64,
        covered: u64,
        durable: u64,
        gate: Option<Gate>,
    ) -> Self {
        let state =
            State { live, closed: Vec::new(), is_folder_dirty: true, stop: false, failure: None };
        Self {
            lock,
            state: Mutex::new(state),
            turn: Mutex::new(gate),
            changed: Condvar::new(),
            end: AtomicU64::new(end),
            covered: AtomicU64::new(covered),
            synced: AtomicU64::new(durable),
            durable: AtomicU64::new(durable),
            dirty: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the state half changed: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something was published. Costs one load while the thread knows already.
    #[inline]
    pub(crate) fn mark_dirty(&self) {
        if !self.dirty.load(Ordering::Relaxed) {
            self.wake_thread();
        }
    }

    #[cold]
    fn wake_thread(&self) {
        let _state = self.state();
        self.dirty.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Goes on with a new segment. The old one must become durable first.
    pub(crate) fn roll(&self, live: Arc<Live>) {
        let mut state = self.state();
        let old = std::mem::replace(&mut state.live, live);
        state.closed.push(old);
        state.is_folder_dirty = true;
    }

    /// Goes on with the same segment, mapped anew.
    pub(crate) fn replace(&self, live: Arc<Live>) {
        self.state().live = live;
    }

    /// Puts all that is published on the disk, and says up to where the tape is durable: with an
    /// input, no further than that is.
    ///
    /// # Errors
    /// `Error::Io`: the disk refused, now or earlier. The tape must be opened anew.
    pub(crate) fn sync(&self) -> Result<u64> {
        let synced = self.try_sync();
        if let Err(error) = &synced {
            if let Error::Io { source, .. } = error {
                self.state().failure = Some(source.raw_os_error().unwrap_or(libc::EIO));
            }
            self.has_failed.store(true, Ordering::Release);
        }
        synced
    }

    fn try_sync(&self) -> Result<u64> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // What is written into a folder that is no longer there would be on no disk.
        self.lock.check()?;
        let (files, end, covered, tape) = {
            let mut state = self.state();
            if let Some(code) = state.failure {
                let source = std::io::Error::from_raw_os_error(code);
                return Err(Error::io(source, doing("syncing", self.lock.path())));
            }
            // Read under the lock: no segment can be added between the two, so that the files
            // hold everything before this offset.
            let end = self.end.load(Ordering::Acquire);
            // Stored before the end: it covers that end's input, or more.
            let covered = self.covered.load(Ordering::Acquire);
            let mut files = state.closed.clone();
            files.push(Arc::clone(&state.live));
            let tape = state.is_folder_dirty.then(|| self.lock.path());
            state.is_folder_dirty = false;
            (files, end, covered, tape)
        };
        let is_synced = self.synced.load(Ordering::Acquire) >= end;
        if is_synced && self.durable.load(Ordering::Acquire) >= end {
            if files.len() == 1 && tape.is_none() {
                return Ok(end);
            }
        } else if is_synced && files.len() == 1 && tape.is_none() {
            return self.declare(&mut turn, end, covered);
        }
        for live in &files {
            sync_file(&live.file).map_err(|e| Error::io(e, doing("syncing", &live.path)))?;
        }
        if let Some(tape) = tape {
            let synced = File::open(tape).and_then(|folder| folder.sync_all());
            synced.map_err(|error| Error::io(error, doing("syncing", tape)))?;
        }
        let mut state = self.state();
        // Another thread may have synced the same segments, and the writer closed more, meanwhile.
        state.closed.retain(|closed| !files.iter().any(|file| Arc::ptr_eq(file, closed)));
        self.synced.fetch_max(end, Ordering::AcqRel);
        drop(state);
        self.declare(&mut turn, end, covered)
    }

    /// Calls durable what is on the disk up to `end`, as far as its input is durable.
    fn declare(&self, gate: &mut Option<Gate>, end: u64, covered: u64) -> Result<u64> {
        let ready = match gate {
            None => Some(end),
            Some(gate) => {
                let ready = gate.pass(end, covered)?;
                if !gate.waiting.is_empty() {
                    self.mark_dirty();
                }
                ready
            }
        };
        let state = self.state();
        let durable = self.durable.fetch_max(ready.unwrap_or(0), Ordering::AcqRel);
        let durable = durable.max(ready.unwrap_or(0));
        state.live.map.word(DURABLE).fetch_max(durable, Ordering::AcqRel);
        Ok(durable)
    }

    /// Makes `sync` every `interval` while something is published. Returns when told to stop.
    fn run(&self, interval: Duration) {
        loop {
            let mut state = self.state();
            while !state.stop && !self.dirty.load(Ordering::Relaxed) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // More will follow within the interval; one sync serves it all.
            if !state.stop {
                let waited = self.changed.wait_timeout_while(state, interval, |s| !s.stop);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.stop {
                return;
            }
            self.dirty.store(false, Ordering::Relaxed);
            // The writer stores the end, then looks at `dirty`; one of the two sees the other.
            fence(Ordering::SeqCst);
            drop(state);
            // The next append gives the error to the caller.
            drop(self.sync());
        }
    }

    fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }
}

/// The thread that makes a tape durable every so often.
#[derive(Debug)]
pub(crate) struct SyncThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl SyncThread {
    pub(crate) fn start(shared: Arc<Shared>, interval: Duration) -> Result<Self> {
        let inner = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tape-sync".to_owned())
            .spawn(move || inner.run(interval))
            .map_err(|error| Error::io(error, "starting the thread that syncs a tape"))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened; there is nobody to tell here.
            drop(thread.join());
        }
    }
}

fn sync_file(file: &File) -> std::io::Result<()> {
    // SAFETY: a call on a descriptor that `file` owns.
    if unsafe { libc::fdatasync(file.as_raw_fd()) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
