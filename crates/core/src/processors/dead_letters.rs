//! Dead letters: the frames that could not be decoded, copied whole from the raw tape.
//!
//! The marker on the normalised tape names the frame by its offset. The raw tape is read in place,
//! at those offsets alone. The context of a letter is that marker, 64 bytes, and then the context
//! of the frame; so a letter says by itself why, where and when. A frame that retention has taken
//! is counted, and its letter has no body and the kind 0.

use std::path::PathBuf;

use super::raw_frames::RawFrames;
use super::state::{StateReader, StateWriter};
use super::{Batch, Processor, Settings, RAW_TAPE};
use crate::error::{Error, Result};
use crate::record::blob::BlobHeader;
use crate::record::{records, Blobs, Header, Marker, MarkerCode, Plain, Records};
use crate::tape::TapeKind;

const NAME: &str = "dead_letters";
const VERSION: u32 = 1;
/// Bytes of a blob's context at most.
const CONTEXT_MAX: usize = u16::MAX as usize;

/// The processor `dead_letters`.
#[derive(Debug)]
pub struct DeadLetters {
    raw: RawFrames,
    letters: u64,
    gone: u64,
}

/// Builds the processor. Settings: `raw`, the folder of the raw tape.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let raw = RawFrames::new(PathBuf::from(settings.text(RAW_TAPE, None)?));
    Ok(Box::new(DeadLetters { raw, letters: 0, gone: 0 }))
}

impl DeadLetters {
    fn copy(&mut self, marker: &Marker, out: &mut Blobs) -> Result<()> {
        let (letters, gone) = (&mut self.letters, &mut self.gone);
        self.raw.with(marker.first, |frame| {
            let Some(letter) = frame else {
                *gone += 1;
                let Header { feed, ts_recv, .. } = marker.header;
                let header = BlobHeader { feed, ts_recv, ..BlobHeader::default() };
                return out.push(header, marker.as_bytes(), &[]);
            };
            *letters += 1;
            let mut context = marker.as_bytes().to_vec();
            context.extend_from_slice(letter.context);
            // No venue's path is near this; were one, its end is worth less than the letter.
            context.truncate(CONTEXT_MAX);
            out.push(letter.header, &context, letter.body)
        })
    }
}

impl Processor for DeadLetters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output_kind(&self) -> TapeKind {
        TapeKind::Blobs
    }

    fn process(&mut self, _batch: Batch<'_>, _out: &mut Records) -> Result<()> {
        Err(Error::invalid(format!("{NAME} gives blobs, not records")))
    }

    fn process_to_blobs(&mut self, batch: Batch<'_>, out: &mut Blobs) -> Result<()> {
        for record in records::iterate(batch.bytes) {
            let letter = record.as_marker().filter(|marker| marker.code == DEAD_LETTER);
            if let Some(marker) = letter {
                self.copy(&marker, out)?;
            }
        }
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("letters", self.letters), ("gone", self.gone)]
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.u64(self.letters);
        state.u64(self.gone);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = StateReader::new(bytes, NAME, VERSION)?;
        let (letters, gone) = (state.u64()?, state.u64()?);
        state.finish()?;
        (self.letters, self.gone) = (letters, gone);
        Ok(())
    }
}

const DEAD_LETTER: u8 = MarkerCode::DeadLetter as u8;
