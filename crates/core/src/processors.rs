//! Records in, records out.
//!
//! A processor sees no clock, no randomness and no environment: time is in the records. The same
//! input gives the same output bytes at any batch size, so that live equals replay.

use crate::error::Result;
use crate::record::Records;
pub use crate::tape::Batch;

pub mod books;
pub mod sync_tracker;

/// One step of the pipeline.
pub trait Processor: Send {
    /// Its name in the table, in file names and in messages.
    fn name(&self) -> &'static str;

    /// Consumes `batch` and appends what follows from it to `out`. What is appended for an item
    /// depends on the items before it alone, never on where batches begin or end.
    ///
    /// # Errors
    /// Only what no later item can mend: the stage stops and says where.
    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()>;

    /// Appends the whole state to `out`, versioned, such that [`Processor::restore`] on a fresh
    /// processor of the same settings continues exactly.
    fn snapshot(&self, out: &mut Vec<u8>);

    /// Takes in what [`Processor::snapshot`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the state is not whole, or of another version or processor.
    fn restore(&mut self, state: &[u8]) -> Result<()>;
}
