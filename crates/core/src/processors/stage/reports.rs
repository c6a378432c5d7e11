//! What a stage reports of its opening and its run: notes for a log, and what it lost.

use super::{Loss, Stage};
use crate::error::{Error, Result};

impl Stage {
    /// What opening found, and what happened since: unusable states, input that is gone.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The notes since the last call, to be logged: of the opening, and of the run since.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Whether there are notes or losses that were not taken.
    pub fn has_reports(&self) -> bool {
        !self.notes.is_empty() || !self.losses.is_empty()
    }

    /// Input that was gone before this stage had read it, since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    /// Notes that an offset could not be saved, which does no harm; passes on all other errors.
    pub(super) fn tolerate(&mut self, saved: Result<()>) -> Result<()> {
        match saved {
            Err(error @ (Error::DiskFull { .. } | Error::Io { .. })) => {
                let note = error.to_string();
                if self.notes.last() != Some(&note) {
                    self.notes.push(note);
                }
                Ok(())
            }
            saved => saved,
        }
    }
}
