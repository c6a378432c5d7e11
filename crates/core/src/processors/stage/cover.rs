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
        if self.output.last_input_offset().unwrap_or(0) < self.position {
            self.output.append(&[], 0, self.position, self.ts_recv)?;
        }
        Ok(())
    }
}
