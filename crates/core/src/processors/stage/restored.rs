//! What a stage takes in of what was before: a saved state, or what its output holds.

use std::path::Path;

use super::{Stage, REBUILD_ITEMS};
use crate::error::{Error, Result};
use crate::processors::define;
use crate::processors::state_files::StateFiles;
use crate::tape::Reader;

impl Stage {
    /// Takes in the state of one file, if it can be used. Gives the output's end at that time.
    pub(super) fn restore_from(&mut self, path: &Path, target: u64) -> Result<u64> {
        let saved = StateFiles::load(path)?;
        if saved.input.offset > target {
            StateFiles::discard(path)?;
            return Err(Error::invalid(format!(
                "its state at {} is ahead of the output, which covers {target}: removed",
                saved.input.offset
            )));
        }
        self.input.check(&saved.input)?;
        Reader::open(self.output.path())?.check(&saved.output)?;
        if saved.fingerprint != self.config.fingerprint {
            return Err(Error::invalid("its state was made with other settings: not used"));
        }
        self.processor.restore(&saved.state)?;
        self.position = saved.input.offset;
        Ok(saved.output.offset)
    }

    /// Shows the processor the definitions that stood before its input, which retention took.
    pub(super) fn define(&mut self) -> Result<()> {
        if !self.processor.reads_definitions() {
            return Ok(());
        }
        if self.config.definitions.is_empty() {
            self.notes.push(format!(
                "{}: definitions before {} of {} are gone, and no copy of them is kept: \
                 what names symbols does not look at instruments that were defined there",
                self.processor.name(),
                self.position,
                self.input.path().display()
            ));
        }
        define(self.processor.as_mut(), &self.config.definitions, self.position)
    }

    /// The bytes of the output from `offset` on; none where retention took some of them.
    pub(super) fn stored_since(&self, offset: u64) -> Result<Option<Vec<u8>>> {
        let mut output = Reader::open(self.output.path())?;
        match output.seek(offset) {
            Err(Error::OutOfRange { .. }) => return Ok(None),
            sought => sought?,
        }
        let mut bytes = Vec::new();
        while let Some(batch) = output.read(REBUILD_ITEMS)? {
            bytes.extend_from_slice(batch.bytes);
        }
        Ok(Some(bytes))
    }

    /// Shows the processor all that the output holds, where that does not follow from its state,
    /// and publishes what it says to that. It covers no more input than before, so that it is said
    /// once.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        let mut output = Reader::open(self.output.path())?;
        let first = output.first()?;
        output.seek(first)?;
        while let Some(batch) = output.read(REBUILD_ITEMS)? {
            self.processor.take_output(batch);
        }
        self.records.clear();
        self.blobs.clear();
        self.processor.reconcile(&mut self.records);
        self.pending = Some(self.position);
        self.publish()
    }
}
