//! What is done to closed segments, by a thread of its own: the hash chain, compression, and
//! retention. Everything follows from the files that are there, so that a crash at any point
//! leaves work to be done again and nothing to be mended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::segment::{cold_path, doing, list, segment_path, Segment, SegmentFile};
use super::sync::Shared;
use super::{chain, cold, offsets};
use crate::error::{Error, Result};

/// How far the thread steps back for others.
const NICE: i32 = 10;
/// What stays due, because a reader was behind, is looked at again after so long.
const LOOK: Duration = Duration::from_secs(30);

/// What is kept of a tape, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Oldest segments are removed while the tape takes more bytes on the disk. `None`: never.
    pub bytes_max: Option<u64>,
    /// Segments are removed whose newest item is so much older, in ms, than the newest item of
    /// the tape, and which every reader with a named offset has behind it. `None`: never.
    pub age_ms_max: Option<u64>,
    /// A reader that has not stored its offset for so many ms is gone for good: age does not wait
    /// for it. `None`: age waits for ever.
    pub wait_ms_max: Option<u64>,
    /// So many closed segments stay as they are, older ones are compressed. `None`: none is.
    pub compress_after: Option<usize>,
}

/// The thread, as the writer sees it.
#[derive(Debug)]
pub(crate) struct Keeper {
    wanted: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread; it looks at the tape at once.
    pub(crate) fn start(tape: &Path, retention: Retention, shared: Arc<Shared>) -> Result<Self> {
        let (wanted, looks) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let work = Work {
            tape: tape.to_owned(),
            retention,
            shared,
            stop: Arc::clone(&stop),
            failure: Arc::clone(&failure),
        };
        let thread = std::thread::Builder::new()
            .name("tape-keeper".to_owned())
            .spawn(move || work.run(&looks))
            .map_err(|error| Error::io(error, "starting the thread that keeps closed segments"))?;
        let keeper = Self { wanted: Some(wanted), stop, failure, thread: Some(thread) };
        keeper.look();
        Ok(keeper)
    }

    /// Says that a segment was closed.
    pub(crate) fn look(&self) {
        // The thread listens until this end of the channel is gone.
        let sent = self.wanted.as_ref().map(|wanted| wanted.send(()));
        debug_assert_eq!(sent, Some(Ok(())), "the thread listens");
    }

    /// What went wrong when it last looked, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The chain is finished, compression is left for the next time.
        self.stop.store(true, Ordering::Release);
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened; there is nobody to tell here.
            drop(thread.join());
        }
    }
}

/// So many segments at least must follow one until it is too old.
const STEPS_MIN: i64 = 3;

struct Work {
    tape: PathBuf,
    retention: Retention,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Work {
    fn run(&self, looks: &Receiver<()>) {
        // Nobody waits for this, and hashing wants a whole processor: appending goes first. On
        // Linux the call concerns this thread alone; should it fail, the work is done all the same.
        // SAFETY: a call without pointers.
        unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        }
        self.clear_aside();
        loop {
            match looks.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Disconnected) => return,
                // Only age can have become due meanwhile.
                Err(RecvTimeoutError::Timeout) if self.retention.age_ms_max.is_none() => continue,
                Err(RecvTimeoutError::Timeout) | Ok(()) => {}
            }
            // One look serves all that was asked for until now.
            while looks.try_recv().is_ok() {}
            let kept = self.keep();
            let failure = kept.err().map(|error| error.to_string());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        }
    }

    /// Does all that is due. A failure of one part does not keep the others from being done.
    fn keep(&self) -> Result<()> {
        // However the tape is synced, closed segments reach the disk soon, and are let go of.
        let synced = self.shared.sync_closed();
        // Then retention: it is what makes room where there is none.
        let removed = self.remove();
        let linked = synced.and_then(|()| {
            // What the chain holds is what the disk holds.
            let confirmed = self.shared.linked.load(Ordering::Acquire);
            let linked = chain::link(&self.tape, self.shared.synced(), confirmed)?;
            self.shared.linked.store(linked, Ordering::Release);
            Ok(())
        });
        // What is not linked is damaged, or its chain would break: it is left as it is.
        let compressed = if linked.is_ok() { self.compress() } else { Ok(()) };
        removed.and(linked).and(compressed)
    }

    /// Removes what a compression left that was killed: it is begun anew.
    fn clear_aside(&self) {
        for entry in std::fs::read_dir(&self.tape).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "aside") {
                // Should this fail, the file is overwritten when its segment's turn comes.
                drop(std::fs::remove_file(&path));
            }
        }
    }

    fn compress(&self) -> Result<()> {
        let Some(after) = self.retention.compress_after else { return Ok(()) };
        let files = list(&self.tape)?;
        let stop = || self.stop.load(Ordering::Acquire);
        let durable = self.shared.durable.load(Ordering::Acquire);
        let closed = files.len().saturating_sub(after.saturating_add(1));
        for (file, next) in files.iter().zip(files.iter().skip(1)).take(closed) {
            if stop() || next.first > durable {
                return Ok(());
            }
            if !file.is_cold {
                if let Some(path) = cold::compress(file, &stop)? {
                    self.shared.compressed(file.first, &path, next.first)?;
                }
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        let mut files = list(&self.tape)?;
        let mut sizes: Vec<u64> = files.iter().map(size_on_disk).collect();
        // The limit of bytes saves the disk, whoever is behind: age alone waits for readers, and
        // for all of them where it is not known how far they are.
        let held = match self.retention.age_ms_max {
            Some(_) => offsets::held(&self.tape, self.retention.wait_ms_max),
            None => Ok(0),
        };
        let is_read = |next: u64| held.as_ref().is_ok_and(|held| next <= *held);
        let before = files.len();
        // What is left must have its head on the disk: nothing before it would be there to tell
        // whether a loss of power or damage took that.
        while files.len() > 1 && files[1].first < self.shared.synced() {
            let total: u64 = sizes.iter().sum();
            let is_over = self.retention.bytes_max.is_some_and(|most| total > most);
            let is_due = is_over || (is_read(files[1].first) && self.is_too_old(&files)?);
            if !is_due {
                break;
            }
            let file = files.remove(0);
            sizes.remove(0);
            // Killed in the middle of compressing, a writer leaves both forms.
            for path in [cold_path(&self.tape, file.first), segment_path(&self.tape, file.first)] {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io(error, doing("removing", &path)));
                    }
                    _ => {}
                }
            }
        }
        if files.len() < before {
            self.shared.forget_before(files[0].first);
            // No later removal may reach the disk before these: that would leave a hole.
            let synced = std::fs::File::open(&self.tape).and_then(|folder| folder.sync_all());
            synced.map_err(|error| Error::io(error, doing("syncing", &self.tape)))?;
        }
        held.map(drop)
    }

    /// Whether all of the oldest segment is older than what is kept.
    fn is_too_old(&self, files: &[SegmentFile]) -> Result<bool> {
        let Some(age_ms) = self.retention.age_ms_max else { return Ok(false) };
        let [_, second, ..] = files else { return Ok(false) };
        let Some(newest) = files.last() else { return Ok(false) };
        // The head of a segment says the newest time of all before it.
        let oldest_ts = Segment::open(second)?.head.ts_before;
        let newest_ts = Segment::open(newest)?.head.ts_before;
        let age_ns = i64::try_from(age_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        if newest_ts.saturating_sub(oldest_ts) <= age_ns {
            return Ok(false);
        }
        // A clock that was set shows as one step between two segments, however large. What is young
        // must not go for it: no step counts for more than a part of the age.
        let step_max = age_ns / STEPS_MIN + 1;
        let (mut before, mut passed) = (oldest_ts, 0_i64);
        for file in &files[2..] {
            let ts = Segment::open(file)?.head.ts_before;
            passed = passed.saturating_add(ts.saturating_sub(before).clamp(0, step_max));
            before = ts;
            if passed > age_ns {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn size_on_disk(file: &SegmentFile) -> u64 {
    std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len())
}
