//! The processors of one instrument.

use std::mem::offset_of;

use super::{Plan, OWN};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::processors::{Batch, Processor};
use crate::record::{Definition, Header, RecordRef, Records};

const NAME: &str = "keyed";
/// Version of the layout of [`Instance::snapshot`].
const VERSION: u32 = 1;
const INSTRUMENT: usize = offset_of!(Header, instrument);

/// One processor, and how many records it has written.
struct Step {
    processor: Box<dyn Processor>,
    written: u64,
}

/// The processors of one instrument, which know it as number [`OWN`].
pub(super) struct Instance {
    pub(super) instrument: u32,
    pub(super) definition: Option<Definition>,
    /// Whether anything came since it was last stored.
    pub(super) is_changed: bool,
    steps: Vec<Step>,
    pending: Records,
}

impl Instance {
    pub(super) fn new(plan: &Plan, instrument: u32) -> Result<Self> {
        let built = plan.build()?.into_iter();
        Ok(Self {
            instrument,
            definition: None,
            is_changed: false,
            steps: built.map(|processor| Step { processor, written: 0 }).collect(),
            pending: Records::new(),
        })
    }

    /// All times at which its processors may have something due.
    pub(super) fn due_grids(&self) -> Vec<(i64, i64)> {
        let mut grids: Vec<_> =
            self.steps.iter().flat_map(|step| step.processor.due_grids()).collect();
        grids.sort_unstable();
        grids.dedup();
        grids
    }

    /// Keeps a record until [`Instance::process`].
    #[inline]
    pub(super) fn push(&mut self, record: RecordRef<'_>) {
        if let Some(definition) = record.as_definition() {
            self.definition = Some(definition);
        }
        let start = self.pending.as_bytes().len();
        self.pending.push_ref(record);
        if record.header().instrument != 0 {
            let bytes = self.pending.as_bytes_mut(start + INSTRUMENT);
            bytes[..4].copy_from_slice(&OWN.to_le_bytes());
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Processes what was kept. `each` gets, of each processor that gives anything, its place in
    /// the plan, the number of records before these, and the records.
    pub(super) fn process(
        &mut self,
        made: &mut Records,
        mut each: impl FnMut(usize, u64, &Records) -> Result<()>,
    ) -> Result<()> {
        self.is_changed = true;
        for (index, step) in self.steps.iter_mut().enumerate() {
            made.clear();
            let (count, bytes) = (self.pending.len(), self.pending.as_bytes());
            step.processor.process(Batch { first_offset: 0, count, bytes }, made)?;
            rename(self.instrument, made);
            if !made.is_empty() {
                each(index, step.written, made)?;
                step.written += made.len() as u64;
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// Processes what was kept, and counts nothing of what it gives.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.has_pending() {
            self.process(&mut Records::new(), |_, _, _| Ok(()))?;
            self.steps.iter_mut().for_each(|step| step.written = 0);
        }
        Ok(())
    }

    /// Appends the whole state to `out`; nothing may be pending.
    pub(super) fn snapshot(&self, plan: &Plan, source: &str, out: &mut Vec<u8>) {
        assert!(self.pending.is_empty(), "a state holds nothing that was not processed");
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.u32(plan.fingerprint());
        state.bytes(source.as_bytes());
        state.u32(self.instrument);
        state.flag(self.definition.is_some());
        if let Some(definition) = &self.definition {
            state.plain(definition);
        }
        state.length(self.steps.len());
        let mut own = Vec::new();
        for step in &self.steps {
            state.u64(step.written);
            own.clear();
            step.processor.snapshot(&mut own);
            state.bytes(&own);
        }
    }

    /// An instance from a state, and the source that it is of.
    ///
    /// # Errors
    /// `Error::Invalid`: the state is not whole, of another version, or of other settings.
    pub(super) fn restore<'a>(plan: &Plan, bytes: &'a [u8]) -> Result<(&'a str, Self)> {
        let mut state = StateReader::new(bytes, NAME, VERSION)?;
        if state.u32()? != plan.fingerprint() {
            return Err(Error::invalid(
                "the state is of other processors or settings than are set now",
            ));
        }
        let source = std::str::from_utf8(state.bytes()?)
            .map_err(|_| Error::invalid("the state names a source that is no text"))?;
        let mut instance = Self::new(plan, state.u32()?)?;
        if state.flag()? {
            instance.definition = Some(state.plain()?);
        }
        let count = state.length(16)?;
        if count != instance.steps.len() {
            return Err(Error::invalid(format!("the state is of {count} processors")));
        }
        for step in &mut instance.steps {
            step.written = state.u64()?;
            step.processor.restore(state.bytes()?)?;
        }
        state.finish()?;
        Ok((source, instance))
    }
}

/// Gives `made` the number of its instrument. What is of no instrument is written where nothing
/// is processed but that: every instance sees it.
fn rename(instrument: u32, made: &mut Records) {
    if instrument == 0 {
        return;
    }
    if made.iter().any(|record| record.header().instrument == 0) {
        let mut kept = Records::new();
        made.iter().filter(|it| it.header().instrument != 0).for_each(|it| kept.push_ref(it));
        *made = kept;
    }
    let (mut at, total) = (0, made.as_bytes().len());
    while at < total {
        let length = made.as_bytes()[at] as usize * 8;
        let bytes = made.as_bytes_mut(at + INSTRUMENT);
        bytes[..4].copy_from_slice(&instrument.to_le_bytes());
        at += length;
    }
}
