//! The gap ledger: every gap marker of the normalised tape, and nothing else.

use super::state::{StateReader, StateWriter};
use super::{Batch, Processor, Settings};
use crate::error::Result;
use crate::record::{records, MarkerCode, Records};

const NAME: &str = "gaps";
const VERSION: u32 = 1;

/// The processor `gaps`. It remembers nothing.
#[derive(Debug, Default)]
pub struct Gaps;

/// Builds the processor. No settings.
pub(super) fn build(_settings: &mut Settings) -> Result<Box<dyn Processor>> {
    Ok(Box::new(Gaps))
}

impl Processor for Gaps {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        for record in records::iterate(batch.bytes) {
            if record.as_marker().is_some_and(|marker| marker.code == MarkerCode::Gap as u8) {
                out.push_ref(record);
            }
        }
        Ok(())
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        StateWriter::new(out, NAME, VERSION);
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        StateReader::new(state, NAME, VERSION)?.finish()
    }
}
