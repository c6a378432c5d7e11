//! The durable watermark: which items are on the disk, and the thread that moves it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::create::open_file;
use super::gate::Gate;
use super::head::{DURABLE, HEAD};
use super::lock::FolderLock;
use super::map::Map;
use super::rewrite::{rewrite, sync_file};
use super::segment::doing;
use crate::clock::moment;
use crate::error::{Error, Result};

/// A segment file that is being written.
#[derive(Debug)]
pub(crate) struct Live {
    /// Offset of its first item.
    pub(crate) first: u64,
    pub(crate) file: File,
    pub(crate) map: Map,
    pub(crate) path: PathBuf,
}

/// So many closed segments wait for the disk at most; each takes a descriptor and a map.
const CLOSED_MAX: usize = 16;
/// After a failed sync writing again is tried at once, then after a pause that doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

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
    /// All segments before this offset have their place in the hash chain.
    pub(crate) linked: AtomicU64,
    /// Whether the disk refused to sync.
    pub(crate) has_failed: AtomicBool,
}

#[derive(Debug)]
struct State {
    live: Arc<Live>,
    /// Closed segments that are not on the disk yet, oldest first.
    closed: Vec<Arc<Live>>,
    /// The newest closed segment, until its head says that something behind it is durable.
    before: Option<Arc<Live>>,
    /// The input that all segments before the newest one cover.
    covered_before: u64,
    /// Files were made or removed so many times, and the folder is on the disk as of that number.
    folder_changes: (u64, u64),
    stop: bool,
    /// Set once the disk refused: what it holds past `synced` is not known any more, so that
    /// nothing is called durable before all of that is written again.
    failure: Option<Failure>,
}

/// A sync that failed.
#[derive(Debug)]
struct Failure {
    /// What the operating system said.
    code: i32,
    path: PathBuf,
    /// When writing again may be tried, and how long to wait after that.
    next: Instant,
    pause: Duration,
}

/// What one sync has to put on the disk.
struct Due {
    /// The closed segments, then the newest one where it is due.
    files: Vec<Arc<Live>>,
    /// So many of them are closed.
    closed: usize,
    before: Option<Arc<Live>>,
    folder_changes: (u64, u64),
}

impl Shared {
    pub(crate) fn new(
        lock: FolderLock,
        (before, live): (Option<Live>, Arc<Live>),
        end: u64,
        covered: u64,
        durable: u64,
        gate: Option<Gate>,
    ) -> Self {
        let state = State {
            live,
            closed: Vec::new(),
            before: before.map(Arc::new),
            covered_before: covered,
            folder_changes: (1, 0),
            stop: false,
            failure: None,
        };
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
            linked: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the state half changed: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Option<Gate>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Waits for the disk where too many closed segments wait for it.
    ///
    /// # Errors
    /// As [`Shared::sync`].
    pub(crate) fn bound_closed(&self) -> Result<()> {
        if self.state().closed.len() >= CLOSED_MAX {
            self.sync_closed()
        } else {
            Ok(())
        }
    }

    /// Goes on with a new segment. The old one, which is closed, must become durable first.
    pub(crate) fn roll(&self, live: Arc<Live>) {
        let covered = self.covered.load(Ordering::Acquire);
        let mut state = self.state();
        let old = std::mem::replace(&mut state.live, live);
        state.closed.push(Arc::clone(&old));
        state.before = Some(old);
        state.covered_before = covered;
        state.folder_changes.0 += 1;
    }

    /// Goes on with the same segment, mapped anew.
    pub(crate) fn replace(&self, live: Arc<Live>) {
        self.state().live = live;
    }

    /// Forgets closed segments before offset `first`: retention took them.
    pub(crate) fn forget_before(&self, first: u64) {
        let mut state = self.state();
        state.closed.retain(|live| live.first >= first);
        if state.before.as_ref().is_some_and(|live| live.first < first) {
            state.before = None;
        }
    }

    /// The segment of offset `first` was replaced by its compressed form at `path`; the next one
    /// starts at `next`. That something there is durable may have been told to the old file alone.
    ///
    /// # Errors
    /// `Error::Io`: the file cannot be changed.
    pub(crate) fn compressed(&self, first: u64, path: &Path, next: u64) -> Result<()> {
        let _turn = self.turn();
        let file = open_file(path)?;
        let live = Live { first, map: Map::writable(&file, HEAD, path)?, file, path: path.into() };
        let durable = self.durable.load(Ordering::Acquire);
        if durable > next {
            live.map.word(DURABLE).fetch_max(durable, Ordering::AcqRel);
            return sync_file(&live.file).map_err(|error| Error::io(error, doing("syncing", path)));
        }
        let mut state = self.state();
        if state.before.as_ref().is_some_and(|before| before.first == first) {
            state.before = Some(Arc::new(live));
        }
        Ok(())
    }

    /// Offset after the last item that is on the disk, whether its input is or not.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Puts all that is published on the disk, and says up to where the tape is durable: with an
    /// input, no further than that is.
    ///
    /// # Errors
    /// `Error::Io`: the disk refused, now or earlier; see [`Shared::write_again`].
    pub(crate) fn sync(&self) -> Result<u64> {
        let mut turn = self.turn();
        // What was published before this is in the files that are looked at after it.
        let end = self.end.load(Ordering::Acquire);
        // Stored before the end: it covers that end's input, or more.
        let covered = self.covered.load(Ordering::Acquire);
        let mark = self.mark(&turn, end);
        self.put_on_disk(end, mark, true)?;
        self.declare(&mut turn, end, covered)
    }

    /// What may be called durable once the tape is on the disk up to `end`.
    fn mark(&self, gate: &Option<Gate>, end: u64) -> u64 {
        if gate.is_some() {
            self.durable.load(Ordering::Acquire)
        } else {
            end
        }
    }

    /// Puts the closed segments on the disk, and nothing of the newest one.
    ///
    /// # Errors
    /// As [`Shared::sync`].
    pub(crate) fn sync_closed(&self) -> Result<()> {
        let mut turn = self.turn();
        let (first, covered) = {
            let state = self.state();
            if state.closed.is_empty() {
                return Ok(());
            }
            (state.live.first, state.covered_before)
        };
        self.put_on_disk(first, 0, false)?;
        self.declare(&mut turn, first, covered).map(drop)
    }

    /// Puts what is written of the segments on the disk, up to `end` at least, before it is
    /// published.
    ///
    /// # Errors
    /// As [`Shared::sync`].
    pub(crate) fn sync_unpublished(&self, end: u64) -> Result<()> {
        let turn = self.turn();
        let mark = self.mark(&turn, end);
        self.put_on_disk(end, mark, true)
    }

    /// Syncs all files that hold items before `end`, and the folder. Where the newest segment holds
    /// something before `mark`, the one before it is told. Called in turn.
    fn put_on_disk(&self, end: u64, mark: u64, with_live: bool) -> Result<()> {
        let due = {
            let state = self.state();
            if let Some(failure) = &state.failure {
                return Err(failure.error(self.synced()));
            }
            let mut files = state.closed.clone();
            let closed = files.len();
            if with_live && self.synced() < end {
                files.push(Arc::clone(&state.live));
            }
            let before = state.before.clone().filter(|_| state.live.first < mark);
            Due { files, closed, before, folder_changes: state.folder_changes }
        };
        let is_folder_synced = due.folder_changes.0 == due.folder_changes.1;
        if due.files.is_empty() && is_folder_synced {
            return Ok(());
        }
        // What is written into a folder that is no longer there would be on no disk.
        if let Err(error) = self.lock.check() {
            self.has_failed.store(true, Ordering::Release);
            return Err(error);
        }
        for live in &due.files {
            sync_file(&live.file).map_err(|error| self.fail(error, &live.path))?;
            // What was written to pages that are no longer in the file is on no disk.
            live.map.intact(&live.path)?;
        }
        if !is_folder_synced {
            self.sync_folder()?;
        }
        if let Some(before) = &due.before {
            self.tell(before, mark)?;
        }
        self.finish(&due, end);
        Ok(())
    }

    /// Tells the segment before the newest one that something behind it is durable: should the
    /// newest be gone one day, this one knows that it was there. Called in turn.
    fn tell(&self, before: &Arc<Live>, durable: u64) -> Result<()> {
        before.map.word(DURABLE).fetch_max(durable, Ordering::AcqRel);
        sync_file(&before.file).map_err(|error| self.fail(error, &before.path))?;
        let mut state = self.state();
        if state.before.as_ref().is_some_and(|now| Arc::ptr_eq(now, before)) {
            state.before = None;
        }
        Ok(())
    }

    fn sync_folder(&self) -> Result<()> {
        let folder = self.lock.path();
        let synced = File::open(folder).and_then(|opened| opened.sync_all());
        synced.map_err(|error| self.fail(error, folder))
    }

    /// Notes that `due` is on the disk.
    fn finish(&self, due: &Due, end: u64) {
        let mut state = self.state();
        // The writer may have closed more meanwhile, also what was the newest segment: then this
        // sync came before its last frames.
        let done = &due.files[..due.closed];
        state.closed.retain(|closed| !done.iter().any(|file| Arc::ptr_eq(file, closed)));
        state.folder_changes.1 = state.folder_changes.1.max(due.folder_changes.0);
        self.synced.fetch_max(end, Ordering::AcqRel);
    }

    /// Notes that the disk refused.
    fn fail(&self, error: std::io::Error, path: &Path) -> Error {
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        let mut state = self.state();
        let pause = PAUSE_MIN;
        let failure = Failure { code, path: path.to_owned(), next: moment(), pause };
        state.failure = Some(failure);
        self.has_failed.store(true, Ordering::Release);
        Error::io(error, doing("syncing", path))
    }

    /// What an earlier failure means for whoever wants to write now; an error in any case.
    #[cold]
    pub(crate) fn earlier_failure(&self) -> Error {
        if let Err(error) = self.lock.check() {
            return error;
        }
        match &self.state().failure {
            Some(failure) => failure.error(self.synced()),
            None => Error::invalid("the tape's folder was not there for a moment: open it anew"),
        }
    }

    /// After a failure: writes again all that is not known to be on the disk, and syncs it. Then
    /// the tape is as if nothing had happened. Tried with growing pauses between.
    ///
    /// # Errors
    /// `Error::Io`, `Error::DiskFull`: the disk still refuses, or a pause is not over; call again.
    /// `Error::Corrupt`: memory no longer holds what is not on the disk. `Error::Replaced`.
    pub(crate) fn write_again(&self) -> Result<()> {
        let mut turn = self.turn();
        self.lock.check()?;
        let files = {
            let mut state = self.state();
            let mut files = state.closed.clone();
            files.push(Arc::clone(&state.live));
            let synced = self.synced();
            if let Some(failure) = &mut state.failure {
                let now = moment();
                if now < failure.next {
                    return Err(failure.error(synced));
                }
                failure.next = now + failure.pause;
                failure.pause = (failure.pause * 2).min(PAUSE_MAX);
            }
            files
        };
        let end = self.end.load(Ordering::Acquire);
        let covered = self.covered.load(Ordering::Acquire);
        for live in &files {
            rewrite(live, self.synced())?;
        }
        {
            let mut state = self.state();
            state.failure = None;
            // Its words may be among what was not written.
            state.folder_changes.0 += 1;
        }
        let mark = self.mark(&turn, end);
        self.put_on_disk(end, mark, true)?;
        self.has_failed.store(false, Ordering::Release);
        self.declare(&mut turn, end, covered).map(drop)
    }

    /// Calls durable what is on the disk up to `end`, as far as its input is durable.
    fn declare(&self, gate: &mut Option<Gate>, end: u64, covered: u64) -> Result<u64> {
        let ready = match gate {
            None => Some(end),
            Some(gate) => {
                let ready = gate.pass(end, covered)?;
                if gate.is_waiting() {
                    self.mark_dirty();
                }
                ready
            }
        };
        let ready = ready.unwrap_or(0);
        // Behind an input this may be more than what was durable when the segments were synced.
        let before = self.state().before.clone();
        if let Some(before) = before.filter(|_| self.state().live.first < ready) {
            self.tell(&before, ready)?;
        }
        let state = self.state();
        let durable = self.durable.fetch_max(ready, Ordering::AcqRel).max(ready);
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

impl Failure {
    fn error(&self, synced: u64) -> Error {
        let source = std::io::Error::from_raw_os_error(self.code);
        let path = self.path.display();
        let known = format!("only what is before {synced} is known to be on the disk");
        Error::io(source, format!("syncing {path} failed before, {known}"))
    }
}
