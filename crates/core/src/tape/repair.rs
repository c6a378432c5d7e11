//! Making a damaged tape writable again, without deleting anything.
//!
//! Files that are damaged, or that follow a loss, are moved into a folder of their own; whole
//! frames of them are put together in new segments. Items that are gone keep their offsets, which
//! are given to nobody else: the segment behind them says where the loss begins, and a reader
//! that comes to it is told of the range as of one that retention took.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::take;
use std::path::{Path, PathBuf};

use super::create::NewSegment;
use super::head::{Chain, Head, CHAIN, CHAIN_START, CLOSED, DURABLE, HEAD, IDENTITY, PUBLISHED};
use super::identity::{Identity, REPAIRED};
use super::recovery::{recover, scan_from, Scan};
use super::segment::{doing, list, Segment, SegmentFile};
use super::verify::verify;
use super::{FolderLock, TapeConfig};
use crate::clock::{now_ns, utc_text};
use crate::codec::{Frame, NO_INPUT};
use crate::error::{Error, Result};
use crate::record::Plain;

mod finish;

pub(crate) use finish::UNFINISHED;
use finish::{finish, write_list, READY};

/// Items that are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostItems {
    /// First offset that is lost.
    pub first: u64,
    /// Last offset that is lost.
    pub last: u64,
    /// Newest receive time before them, `i64::MIN` if there is none.
    pub ts_start: i64,
    /// Receive time of the first frame after them, `i64::MIN` if there is none.
    pub ts_end: i64,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The folder to which files were moved; `None`: the tape was whole, nothing was done.
    pub moved_to: Option<PathBuf>,
    /// Names of the files that were moved.
    pub moved: Vec<String>,
    /// What is lost for good; to be declared in the gap ledger.
    pub lost: Vec<LostItems>,
    /// Of a tape that is made from another one: items from this offset on are made again, at the
    /// same offsets, when it is opened. `None`: none are.
    pub remade_from: Option<u64>,
    /// Offset after the last item: the next one to be written.
    pub end: u64,
}

/// Whole frames back to back, found in a file.
struct Run {
    scan: Scan,
    first: u64,
    bytes: Vec<u8>,
    ts_first: i64,
}

/// What is known of the tape while its files are gone through.
struct Plan {
    tape: PathBuf,
    folder: PathBuf,
    head: Option<(Head, Identity)>,
    /// Where the next item belongs, the input that is covered, and the newest receive time.
    next: u64,
    input: u64,
    ts_max: i64,
    lost: Vec<LostItems>,
    moved: Vec<String>,
    ready: Vec<PathBuf>,
    /// Offset after the last item that any head calls durable, or a damaged frame names.
    promised: u64,
}

/// Makes the tape at `path` writable again: see [`Repair`]. Does nothing to a tape that is whole.
/// When it is interrupted, calling it again finishes it.
///
/// # Errors
/// `Error::Locked`: somebody writes the tape. `Error::Io`, `Error::DiskFull`: the tape is as it
/// was, or the repair is to be called again. `Error::Corrupt`: no segment has a head that can be
/// read, or the hash chain alone is broken, which cannot be repaired.
pub fn repair(path: &Path) -> Result<Repair> {
    // A lock makes the folder that it locks; a tape that is not there is to stay so.
    list(path)?;
    let _lock = FolderLock::take(path)?;
    finish(path)?;
    match verify(path)?.fault {
        None => {
            if let Ok(found) = recover(path) {
                let end = found.map_or(0, |found| found.scan.end_offset);
                let (moved_to, moved, lost) = (None, Vec::new(), Vec::new());
                return Ok(Repair { moved_to, moved, lost, remade_from: None, end });
            }
        }
        Some(fault) if fault.byte == CHAIN as u64 => {
            return Err(Error::corrupt(
                &fault.path,
                fault.byte,
                format!(
                    "{}: all frames are whole, and it cannot be known which of them were changed. \
                     Restore the tape from a copy, or keep using it as it is",
                    fault.reason
                ),
            ));
        }
        Some(_) => {}
    }
    let mut plan = Plan::new(path)?;
    plan.run().inspect_err(|_| plan.discard_prepared())
}

/// Empties the tape at `path`, which is made from another one, so that its stage makes all of it
/// again from offset 0. It keeps its id; all its segments are moved aside. When it is interrupted,
/// [`repair()`] finishes it.
///
/// # Errors
/// As [`repair()`].
pub fn remake(path: &Path) -> Result<Repair> {
    list(path)?;
    let _lock = FolderLock::take(path)?;
    finish(path)?;
    let mut plan = Plan::new(path)?;
    plan.empty().inspect_err(|_| plan.discard_prepared())?;
    finish(path)?;
    let (moved_to, moved) = (Some(plan.folder), plan.moved);
    Ok(Repair { moved_to, moved, lost: Vec::new(), remade_from: Some(0), end: 0 })
}

impl Plan {
    fn new(tape: &Path) -> Result<Self> {
        let now = utc_text(now_ns() / 1_000_000_000);
        let mut folder = tape.join(format!("damaged-{now}"));
        for number in 2.. {
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    folder = tape.join(format!("damaged-{now}-{number}"));
                }
                Err(error) => return Err(Error::io(error, doing("making", &folder))),
                Ok(()) => break,
            }
        }
        for entry in std::fs::read_dir(tape).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == READY) {
                // Of a repair that was interrupted before it had put all together.
                drop(std::fs::remove_file(entry.path()));
            }
        }
        Ok(Self {
            tape: tape.to_owned(),
            folder,
            head: None,
            next: 0,
            input: NO_INPUT,
            ts_max: i64::MIN,
            lost: Vec::new(),
            moved: Vec::new(),
            ready: Vec::new(),
            promised: 0,
        })
    }

    /// Removes what was prepared, unless the list is there: then it has to be finished.
    fn discard_prepared(&self) {
        if !self.tape.join(UNFINISHED).exists() {
            self.ready.iter().for_each(|path| drop(std::fs::remove_file(path)));
            drop(std::fs::remove_dir(&self.folder));
        }
    }

    fn run(&mut self) -> Result<Repair> {
        let files = list(&self.tape)?;
        self.next = files.first().map_or(0, |file| file.first);
        for (index, file) in files.iter().enumerate() {
            self.take(file, index + 1 == files.len())?;
        }
        let Some((head, identity)) = self.head else {
            return Err(self.no_head());
        };
        let kept = self.next;
        let is_made = self.input != NO_INPUT;
        let mut end = kept;
        if self.promised > kept && !is_made {
            end = self.promised;
            self.lose(end, i64::MIN);
        }
        // Always a newest segment of its own, without items: right in every case.
        self.add_newest(&head, &identity, end, kept)?;
        self.commit()?;
        finish(&self.tape)?;
        let remade_from = (is_made && self.promised > kept).then_some(kept);
        let moved_to = Some(self.folder.clone());
        let (moved, lost) = (take(&mut self.moved), take(&mut self.lost));
        Ok(Repair { moved_to, moved, lost, remade_from, end })
    }

    /// Plans that all segments are moved aside, and a first one without items takes their place.
    fn empty(&mut self) -> Result<()> {
        let files = list(&self.tape)?;
        let (head, identity) = self.newest_head(&files)?;
        let names = files.iter().filter_map(|file| file.path.file_name());
        self.moved.extend(names.map(|name| name.to_string_lossy().into_owned()));
        (self.input, self.ts_max) = (NO_INPUT, i64::MIN);
        self.add_newest(&head, &identity, 0, 0)?;
        self.commit()
    }

    /// The newest head of `files` that can be read. No more of them is looked at.
    fn newest_head(&self, files: &[SegmentFile]) -> Result<(Head, Identity)> {
        let mut refused = None;
        for file in files.iter().rev() {
            let mut front = Vec::new();
            let read = File::open(&file.path)
                .and_then(|opened| opened.take(HEAD as u64).read_to_end(&mut front));
            match read {
                Ok(_) => {
                    if let Some(found) = head_of(file, &front) {
                        return Ok(found);
                    }
                }
                Err(error) => refused = Some(unread(error, &file.path)),
            }
        }
        Err(refused.unwrap_or_else(|| self.no_head()))
    }

    fn no_head(&self) -> Error {
        let reason = "no segment has a head that can be read: move the folder away, and begin anew";
        Error::corrupt(&self.tape, 0, reason)
    }

    /// Notes that the items up to `first` are lost.
    fn lose(&mut self, first: u64, ts_end: i64) {
        let (from, ts_start) = (self.next, self.ts_max);
        self.lost.push(LostItems { first: from, last: first - 1, ts_start, ts_end });
    }

    /// Goes through one file: what is whole stays, else its whole frames are put together anew.
    fn take(&mut self, file: &SegmentFile, is_newest: bool) -> Result<()> {
        let (runs, is_whole) = self.runs(file)?;
        if is_whole && !is_newest && file.first == self.next {
            for run in &runs {
                self.pass(run);
            }
            return Ok(());
        }
        let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.moved.extend(name);
        for run in runs {
            if run.first < self.next {
                continue;
            }
            let lost_from = self.next;
            if run.first > self.next {
                self.lose(run.first, run.ts_first);
            }
            self.put_together(&run, lost_from)?;
            self.pass(&run);
        }
        Ok(())
    }

    fn pass(&mut self, run: &Run) {
        self.next = run.scan.end_offset;
        self.input = run.scan.input;
        self.ts_max = self.ts_max.max(run.scan.ts_max);
    }

    /// The whole frames of `file`, and whether there is nothing else in it.
    ///
    /// # Errors
    /// `Error::Io`: it cannot be read now, which says nothing about what is in it.
    fn runs(&mut self, file: &SegmentFile) -> Result<(Vec<Run>, bool)> {
        let raw = std::fs::read(&file.path).map_err(|error| unread(error, &file.path))?;
        let Some((head, identity)) = head_of(file, &raw) else { return Ok((Vec::new(), false)) };
        self.head = Some((head, identity));
        if self.input == NO_INPUT && self.ts_max == i64::MIN {
            (self.input, self.ts_max) = (head.input_before, head.ts_before);
        }
        let word = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap_or_default());
        self.promised = self.promised.max(word(DURABLE));
        let (bytes, is_unpacked) = if file.is_cold { unpacked(file)? } else { (raw, true) };
        let (runs, is_whole) = self.find_runs(&bytes, &head, identity.lost_from);
        Ok((runs, is_whole && is_unpacked))
    }

    fn find_runs(&mut self, bytes: &[u8], head: &Head, lost_from: u64) -> (Vec<Run>, bool) {
        let (mut runs, mut at, mut next) = (Vec::new(), HEAD, head.first_offset);
        let (mut input, mut ts_max) = (head.input_before, head.ts_before);
        let mut is_whole = lost_from <= self.next;
        while at < bytes.len() {
            let scan = scan_from(bytes, at, next, input, ts_max);
            if scan.frames > 0 {
                let ts_first = Frame::read_from(&bytes[at..]).map_or(i64::MIN, |f| f.ts_recv);
                let bytes = bytes[at..scan.end].to_vec();
                runs.push(Run { scan, first: next, bytes, ts_first });
            }
            (input, ts_max, next) = (scan.input, scan.ts_max, scan.end_offset);
            let Some((found, frame)) = next_frame(bytes, scan.end, next) else {
                if bytes[scan.end.min(bytes.len())..].iter().any(|&byte| byte != 0) {
                    is_whole = false;
                    self.note_named_items(&bytes[scan.end..], next);
                }
                break;
            };
            is_whole = false;
            (at, next) = (found, frame.first_offset);
        }
        (runs, is_whole)
    }

    /// A frame that is damaged may still say how many items it held: their offsets are taken.
    fn note_named_items(&mut self, bytes: &[u8], next: u64) {
        let frame = Frame::read_from(bytes).filter(Frame::is_plausible);
        if let Some(frame) = frame.filter(|frame| frame.first_offset == next) {
            self.promised = self.promised.max(frame.end_offset());
        }
    }

    /// Writes the frames of `run` as a closed segment that gets its name later.
    fn put_together(&mut self, run: &Run, lost_from: u64) -> Result<()> {
        let Some((of, who)) = self.head else { return Ok(()) };
        let head = Head {
            version: crate::codec::VERSION,
            first_offset: run.first,
            input_before: self.input,
            ts_before: self.ts_max,
            ts_first: run.ts_first,
            ..of
        };
        let mut identity = Identity::new(who.id(), who.origin(), run.first);
        (identity.lost_from, identity.flags) = (lost_from, REPAIRED);
        let mut bytes = vec![0; HEAD];
        bytes[..size_of::<Head>()].copy_from_slice(head.sealed().as_bytes());
        let block = identity.sealed();
        bytes[IDENTITY..IDENTITY + block.as_bytes().len()].copy_from_slice(block.as_bytes());
        let chain = Chain::sealed([0; 32], CHAIN_START);
        bytes[CHAIN..CHAIN + chain.as_bytes().len()].copy_from_slice(chain.as_bytes());
        let last = (run.scan.last - (run.scan.end - run.bytes.len()) + HEAD) as u64 | CLOSED;
        bytes[PUBLISHED..PUBLISHED + 8].copy_from_slice(&last.to_le_bytes());
        let durable = run.scan.end_offset.to_le_bytes();
        bytes[DURABLE..DURABLE + 8].copy_from_slice(&durable);
        bytes.extend_from_slice(&run.bytes);
        let path = self.tape.join(format!("{:020}.seg.{READY}", run.first));
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(|error| Error::io(error, doing("writing", &path)))?;
        self.ready.push(path);
        Ok(())
    }

    /// Adds the segment that is written on, without items so far.
    fn add_newest(&mut self, of: &Head, who: &Identity, end: u64, kept: u64) -> Result<()> {
        let mut identity = Identity::new(who.id(), who.origin(), end);
        (identity.lost_from, identity.flags) = (kept, REPAIRED);
        let new = NewSegment {
            head: Head {
                version: crate::codec::VERSION,
                first_offset: end,
                input_before: self.input,
                ts_before: self.ts_max,
                ts_first: self.ts_max,
                ..*of
            }
            .sealed(),
            identity,
            opened: end,
            chain_state: CHAIN_START,
            durable: end,
            needed: HEAD,
            limit: TapeConfig::new(of.kind()).segment_bytes,
        };
        let (live, _) = new.create(&self.folder)?;
        live.file.sync_all().map_err(|error| Error::io(error, doing("syncing", &live.path)))?;
        let ready = self.tape.join(format!("{end:020}.seg.{READY}"));
        std::fs::rename(&live.path, &ready)
            .map_err(|error| Error::io(error, doing("naming", &ready)))?;
        self.ready.push(ready);
        Ok(())
    }

    /// From here on the repair is finished whatever happens.
    fn commit(&self) -> Result<()> {
        let folder = self.folder.file_name().unwrap_or_default().to_string_lossy();
        write_list(&self.tape, &folder, &self.moved)
    }
}

/// The head of `file`, at the front of `bytes`; `None` if it is damaged, or that of another file.
fn head_of(file: &SegmentFile, bytes: &[u8]) -> Option<(Head, Identity)> {
    let head = Head::read(bytes, &file.path).ok().filter(|head| head.first_offset == file.first)?;
    Some((head, Identity::read(bytes, &head, &file.path).ok()?))
}

/// That the system refused to read `path`. What a disk does not give may never come, and what to do
/// then is not what one would guess: without its file a repair would give up all that is in it.
fn unread(error: std::io::Error, path: &Path) -> Error {
    let mut what = doing("reading", path);
    if error.raw_os_error() == Some(libc::EIO) {
        what.push_str(
            ", nothing was changed. Run `tape repair` again; if the disk still refuses, copy this \
             file with a tool that goes on behind what cannot be read, such as ddrescue, put the \
             copy in its place and repair that",
        );
    }
    Error::io(error, what)
}

/// The next whole frame at or after `from` that holds items from `next` on, and where it starts.
fn next_frame(bytes: &[u8], from: usize, next: u64) -> Option<(usize, Frame)> {
    let fits = |at: &usize| {
        let frame = Frame::read_from(&bytes[*at..])?;
        (frame.count > 0 && frame.first_offset >= next && frame.is_plausible())
            .then(|| Frame::read(&bytes[*at..]))
            .flatten()
            .map(|(frame, _)| (*at, frame))
    };
    (from.next_multiple_of(8)..bytes.len().saturating_sub(39)).step_by(8).find_map(|at| fits(&at))
}

/// The segment that a compressed file stands for, as far as its blocks can be unpacked, and whether
/// that is all of it.
///
/// # Errors
/// `Error::Io`: it cannot be read now.
fn unpacked(file: &SegmentFile) -> Result<(Vec<u8>, bool)> {
    let mut segment = match Segment::open(file) {
        Err(Error::Corrupt { .. }) => return Ok((vec![0; HEAD], false)),
        opened => opened?,
    };
    let mut bytes = segment.head_bytes().to_vec();
    let read = super::chain::for_each_frame(&mut segment, |segment, at, frame| {
        bytes.extend_from_slice(segment.bytes(at, at + frame.size()));
        Ok(())
    });
    match read {
        // What comes before the damage is there.
        Err(Error::Corrupt { .. }) => Ok((bytes, false)),
        read => read.map(|_| (bytes, true)),
    }
}
