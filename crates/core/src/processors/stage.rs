//! A processor between two tapes, exactly once.
//!
//! Each frame of the output says which input it covers, in the same atomic write. A restart takes
//! the newest saved state that is not ahead of that, feeds the input in between once more without
//! writing, and goes on: the output is byte for byte what it would have been without the stop.

use std::path::Path;
use std::time::Duration;

use super::state_files::{SavedState, StateFiles};
use super::Processor;
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{blob, records, Blobs, Marker, Records, NONE};
use crate::tape::{save_offset, Batch, Reader, Tape, TapeConfig, TapeKind};

mod config;

pub use self::config::{Loss, StageConfig};

mod cover;
mod lost;
mod reports;
mod restored;
mod timing;

pub use self::timing::StageTimes;
use self::timing::Timing;

/// How many items are read at once while the state is rebuilt.
const REBUILD_ITEMS: usize = 4096;
/// The state is saved when the input is so much later, in ns: retention waits for what the oldest
/// state is made of, and should not wait for days where little comes.
const SAVE_NS: i64 = 3_600_000_000_000;

/// A processor between two tapes.
pub struct Stage {
    input: Reader,
    output: Tape,
    processor: Box<dyn Processor>,
    files: StateFiles,
    config: StageConfig,
    /// The next input item to be read.
    position: u64,
    /// Newest receive time of the input so far.
    ts_recv: i64,
    records: Records,
    blobs: Blobs,
    /// The input offset that the batch in `records` or `blobs` covers, until it is written.
    pending: Option<u64>,
    failed: Option<String>,
    items_since_save: u64,
    bytes_since_save: u64,
    /// Receive time of the input when the state was saved last.
    saved_ts: i64,
    /// The first input item of which a restart is made.
    begun: u64,
    notes: Vec<String>,
    losses: Vec<Loss>,
    timing: Option<Timing>,
}

impl Stage {
    /// Opens the stage and brings the processor to where the output ends.
    ///
    /// # Errors
    /// `Error::Invalid`: the tapes do not suit the processor, or durable output covers input that
    /// is not there. Else as [`Reader::open`], [`Tape::open`] and [`Processor::process`].
    pub fn open(
        input: &Path,
        output: &Path,
        state_folder: &Path,
        processor: Box<dyn Processor>,
        config: StageConfig,
    ) -> Result<Self> {
        let reader = Reader::open(input)?;
        if reader.kind() != processor.input_kind() {
            return Err(Error::invalid(format!(
                "{}: expected a tape of {:?}, got {:?} in {}",
                processor.name(),
                processor.input_kind(),
                reader.kind(),
                input.display()
            )));
        }
        let tape = TapeConfig {
            durability: config.durability,
            segment_bytes: config.segment_bytes,
            retention: config.retention,
            ..TapeConfig::new(processor.output_kind())
        };
        let mut stage = Self {
            input: reader,
            output: Tape::open_from(output, tape, input)?,
            processor,
            files: StateFiles::open(state_folder)?,
            config,
            position: 0,
            ts_recv: i64::MIN,
            records: Records::new(),
            blobs: Blobs::new(),
            pending: None,
            failed: None,
            items_since_save: 0,
            bytes_since_save: 0,
            saved_ts: i64::MIN,
            begun: 0,
            notes: Vec::new(),
            losses: Vec::new(),
            timing: None,
        };
        stage.resume()?;
        Ok(stage)
    }

    /// The next input item to be read: the output covers all before.
    pub const fn covered(&self) -> u64 {
        self.position
    }

    /// How many published input items are still to be read.
    ///
    /// # Errors
    /// As [`Reader::end`].
    pub fn lag(&mut self) -> Result<u64> {
        Ok(self.input.end()?.saturating_sub(self.position))
    }

    /// Begins to measure how long records take from their receipt to the output; with
    /// `has_receipt` from the venue's time to the receipt, too.
    pub fn measure(&mut self, has_receipt: bool) {
        self.timing = Some(Timing::new(has_receipt));
    }

    /// What was measured in all, and since the last call; none unless asked for.
    pub fn take_times(&mut self) -> Option<StageTimes> {
        self.timing.as_mut().map(Timing::take)
    }

    /// The processor's counters.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.processor.counters()
    }

    /// The instruments that the processor knows, if it keeps any.
    pub fn instruments(&self) -> Option<&Instruments> {
        self.processor.instruments()
    }

    /// See [`Processor::is_true`].
    pub fn is_true(&self, marker: &Marker) -> bool {
        self.processor.is_true(marker)
    }

    /// The tape that the stage writes.
    pub const fn output(&self) -> &Tape {
        &self.output
    }

    /// Waits until there is input, at most for `timeout`. Says whether there is.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        self.input.wait(timeout)
    }

    /// Processes at most `max_items` input items and publishes what follows from them. Gives how
    /// many were processed: 0 when all was read.
    ///
    /// # Errors
    /// `Error::DiskFull` and `Error::Io`: nothing is lost; call again, and what was made is written
    /// once the disk takes it. Any other: the stage stops for good, and is to be opened anew once
    /// the cause is dealt with.
    pub fn step(&mut self, max_items: usize) -> Result<usize> {
        if self.pending.is_some() {
            return self.guarded(Self::publish);
        }
        self.guarded(|stage| stage.advance(max_items, true).map(|_| ()))
    }

    /// As [`Stage::step`], with `batch` in place of what the input holds: the caller appended just
    /// that, and it need not be read back. Does nothing and returns 0 unless the batch follows what
    /// is covered: call [`Stage::step`] then.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn step_with(&mut self, batch: Batch<'_>) -> Result<usize> {
        if self.pending.is_some() || batch.first_offset != self.position {
            return Ok(0);
        }
        self.guarded(|stage| {
            let next = batch.first_offset + batch.count as u64;
            stage.ts_recv = stage.ts_recv.max(newest(&batch, stage.processor.input_kind()));
            stage.items_since_save += batch.count as u64;
            stage.bytes_since_save += batch.bytes.len() as u64;
            process(stage.processor.as_mut(), batch, &mut stage.records, &mut stage.blobs)?;
            stage.pending = Some(next);
            stage.publish()
        })
    }

    /// The records that the last step published, where the output holds records. Valid after a step
    /// that processed something.
    pub const fn published(&self) -> &Records {
        &self.records
    }

    /// Runs one step, and says how many input items it covered.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<usize> {
        if let Some(reason) = &self.failed {
            return Err(Error::invalid(reason.clone()));
        }
        let before = self.position;
        // After a failed sync the output is restored first; see `Tape::reopen`.
        match self.output.reopen().and_then(|()| step(self)) {
            Ok(()) => {
                if self.saved_ts == i64::MIN {
                    self.saved_ts = self.ts_recv;
                }
                if self.items_since_save >= self.config.save_items
                    || self.bytes_since_save >= self.config.save_bytes
                    || self.ts_recv.saturating_sub(self.saved_ts) >= SAVE_NS
                {
                    self.save()?;
                }
                Ok((self.position - before) as usize)
            }
            Err(passing @ (Error::DiskFull { .. } | Error::Io { .. })) => Err(passing),
            Err(error) => {
                self.failed = Some(format!(
                    "{} stopped at input offset {} of {}: {error}",
                    self.processor.name(),
                    self.position,
                    self.input.path().display()
                ));
                Err(error)
            }
        }
    }

    /// Steps until all published input was read. Gives how many items were processed.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn run_until_idle(&mut self, max_items: usize) -> Result<u64> {
        let start = self.position;
        while self.step(max_items)? > 0 {}
        Ok(self.position - start)
    }

    /// Saves the processor's state, so that a restart has less to feed once more. The output is
    /// made durable first: a state is never ahead of what the output covers, even after a loss of
    /// power.
    ///
    /// # Errors
    /// As [`Tape::append`], [`Tape::sync`] and [`StateFiles::save`].
    pub fn save(&mut self) -> Result<()> {
        self.output.reopen()?;
        self.cover_by_frame()?;
        self.output.sync()?;
        let mut state = Vec::new();
        self.processor.snapshot(&mut state);
        let saved = SavedState {
            fingerprint: self.config.fingerprint,
            input: self.input.place(self.position)?,
            output: Reader::open(self.output.path())?.place(self.output.end())?,
            state,
        };
        self.files.save(&saved)?;
        self.items_since_save = 0;
        self.bytes_since_save = 0;
        self.saved_ts = self.ts_recv;
        self.register()
    }

    /// Tells the input's retention, and that of the tape it was made from, what a restart needs.
    /// Where that cannot be written they know of more than is needed, which does no harm.
    fn register(&mut self) -> Result<()> {
        let Some(name) = self.config.reader.clone() else { return Ok(()) };
        let needed = self.files.oldest()?.unwrap_or(self.begun);
        let input = self.input.path().to_owned();
        self.tolerate(save_offset(&input, &name, needed))?;
        if let Some(origin) = self.config.origin.clone() {
            let mut place = Reader::open(&input)?;
            place.seek(needed.max(place.first()?))?;
            self.tolerate(save_offset(&origin, &name, place.input_behind().unwrap_or(0)))?;
        }
        Ok(())
    }

    /// Reads one batch. With `write`, its output is published; else it is only counted.
    /// Gives the number of output items.
    fn advance(&mut self, max_items: usize, write: bool) -> Result<usize> {
        // What was given by `step_with` the reader has not passed yet.
        if self.input.position() != self.position {
            match self.input.seek(self.position) {
                Err(Error::OutOfRange { wanted, first, .. }) if wanted < first => {
                    return self.skip_to(first, write);
                }
                sought => sought?,
            }
        }
        let batch = match self.input.read(max_items) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(0),
            Err(Error::OutOfRange { wanted, first, .. }) if wanted < first => {
                return self.skip_to(first, write);
            }
            Err(error) => return Err(error),
        };
        let next = batch.first_offset + batch.count as u64;
        self.ts_recv = self.ts_recv.max(newest(&batch, self.processor.input_kind()));
        self.items_since_save += batch.count as u64;
        self.bytes_since_save += batch.bytes.len() as u64;
        if let Some(timing) = self.timing.as_mut().filter(|_| write) {
            timing.begin(&batch, self.processor.input_kind());
        }
        process(self.processor.as_mut(), batch, &mut self.records, &mut self.blobs)?;
        let made = self.records.len() + self.blobs.len();
        self.input.check_intact()?; // What was made of a file that was cut is not published.
        if write {
            self.pending = Some(next);
            self.publish()?;
            if let Some(timing) = self.timing.as_mut() {
                timing.end();
            }
        }
        self.position = next;
        Ok(made)
    }

    /// Writes the batch that was made and not yet written, if any.
    fn publish(&mut self) -> Result<()> {
        let Some(next) = self.pending else { return Ok(()) };
        let (bytes, count) = match self.processor.output_kind() {
            TapeKind::Records => (self.records.as_bytes(), self.records.len()),
            TapeKind::Blobs => (self.blobs.as_bytes(), self.blobs.len()),
        };
        if count > 0 {
            let count = u32::try_from(count)
                .map_err(|_| Error::invalid("expected a batch of less than 4 G items"))?;
            self.output.append(bytes, count, next, self.ts_recv)?;
        }
        self.pending = None;
        self.position = next;
        Ok(())
    }

    /// Brings the processor to where the output ends.
    fn resume(&mut self) -> Result<()> {
        let covered = self.output.last_input_offset();
        let target = covered.unwrap_or(0);
        let undone = self.output.recovery().undone;
        let made = self.restore(target)?;
        let is_anew = self.position == 0 && covered.is_some();
        if undone > 0 {
            self.notes.push(format!(
                "{undone} items of {} from {} on were undone: the input that they were derived \
                 from was lost with the power",
                self.output.path().display(),
                self.output.end()
            ));
        }
        let is_cut = self.position < self.input.first()?;
        if covered.is_none() {
            // Nothing was written yet: what retention took before is no loss of this output.
            self.position = self.input.first()?;
        }
        self.begun = self.position;
        // Before anything else: what is read from here on must not be taken away.
        self.register()?;
        let notes = self.notes.len();
        self.enter(target)?;
        if is_cut {
            self.define()?;
        }
        let compares = self.processor.reads_output() && covered.is_some() && !is_anew;
        let (mut again, mut rebuilt) = (0, Vec::new());
        while self.position < target {
            let most = REBUILD_ITEMS.min((target - self.position) as usize);
            again += self.advance(most, false)? as u64;
            if compares {
                rebuilt.extend_from_slice(self.records.as_bytes());
            }
            // What is gone may go on behind what the output covers: that part is declared.
            self.enter(target)?;
        }
        let stored = self.output.end() - made.unwrap_or(0);
        if made.is_some() && again != stored && self.notes.len() == notes {
            self.notes.push(format!(
                "{} rebuilt {again} items where {stored} are stored: another version made them",
                self.processor.name(),
            ));
        }
        // Other settings, or another version, may have written since the state was saved.
        let is_other = compares && self.stored_since(made.unwrap_or(0))? != Some(rebuilt);
        if is_other || is_anew && self.processor.reads_output() {
            self.reconcile()?;
        }
        self.items_since_save = 0;
        self.bytes_since_save = 0;
        self.saved_ts = self.ts_recv;
        Ok(())
    }

    /// Puts the reader to the position. Input that is gone is declared unless the output covers
    /// it already.
    fn enter(&mut self, target: u64) -> Result<()> {
        match self.input.seek(self.position) {
            Err(Error::OutOfRange { first, .. }) if self.position < first => {
                let is_lost = first > target;
                if is_lost {
                    self.position = target;
                }
                self.skip_to(first, is_lost).map(|_| ())
            }
            sought => sought,
        }
    }

    /// Takes in the newest usable state that is not ahead of `target`. Gives the output's end at
    /// that time, where output made again can be compared with it.
    fn restore(&mut self, target: u64) -> Result<Option<u64>> {
        for path in self.files.list()? {
            match self.restore_from(&path, target) {
                Ok(made) => return Ok(Some(made)),
                Err(Error::Invalid { reason }) => {
                    self.notes.push(format!("{}: {reason}", path.display()));
                }
                // To go on would make the output of two inputs.
                Err(replaced @ Error::Replaced { .. }) => return Err(replaced),
                Err(error) => self.notes.push(error.to_string()),
            }
        }
        Ok((self.output.end() > 0 && self.notes.is_empty()).then_some(0))
    }
}

/// Processes `batch` into the one of the two that the processor writes; both are emptied before.
fn process(
    processor: &mut dyn Processor,
    batch: Batch<'_>,
    records: &mut Records,
    blobs: &mut Blobs,
) -> Result<()> {
    records.clear();
    blobs.clear();
    if processor.output_kind() == TapeKind::Records {
        processor.process(batch, records)
    } else {
        processor.process_to_blobs(batch, blobs)
    }
}

/// Newest receive time among the items of `batch`.
fn newest(batch: &Batch<'_>, kind: TapeKind) -> i64 {
    let known = |ts: &i64| *ts != NONE;
    let newest = match kind {
        TapeKind::Records => {
            records::iterate(batch.bytes).map(|record| record.header().ts_recv).filter(known).max()
        }
        TapeKind::Blobs => {
            blob::iterate(batch.bytes).map(|blob| blob.header.ts_recv).filter(known).max()
        }
    };
    newest.unwrap_or(i64::MIN)
}
