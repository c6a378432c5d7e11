//! How a stage says that its output lacks nothing, where little comes out of it.

use super::Stage;
use crate::error::Result;

impl Stage {
    /// Publishes up to where the input was read, where the output does not say so: readers of a
    /// tape on which little comes then know that nothing is missing on it.
    ///
    /// # Errors
    /// As [`crate::tape::Tape::append`].
    pub fn cover(&mut self) -> Result<()> {
        self.publish()?;
        if self.position > 0 {
            self.output.cover(self.position, self.ts_recv)?;
        }
        Ok(())
    }

    /// The same by a frame: where the next opening goes on.
    pub(super) fn cover_by_frame(&mut self) -> Result<()> {
        self.publish()?;
        if self.position > 0 {
            self.output.cover_by_frame(self.position, self.ts_recv)?;
        }
        Ok(())
    }
}
