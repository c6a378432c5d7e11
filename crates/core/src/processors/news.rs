//! News: what venues told of stories, each in the one form of `feeds::headlines`.
//!
//! The marker on the normalised tape names the frame by its offset, and the story by its place in
//! it. The context of a blob is that marker, 64 bytes. A story whose frame retention has taken is
//! counted, and its blob has no body and the kind 0.

use std::path::PathBuf;

use super::raw_frames::RawFrames;
use super::state::{StateReader, StateWriter};
use super::{Batch, Processor, Settings, RAW_TAPE};
use crate::error::{Error, Result};
use crate::feeds::headlines::Headline;
use crate::feeds::FEEDS;
use crate::record::blob::BlobHeader;
use crate::record::{records, Blob, BlobKind, Blobs, Header, Marker, MarkerCode, Plain, Records};
use crate::tape::TapeKind;

const NAME: &str = "news";
const VERSION: u32 = 1;

/// The processor `news`.
#[derive(Debug)]
pub struct News {
    raw: RawFrames,
    /// The stories of the frame that was read last, and its offset: an answer holds many.
    stories: Vec<Headline>,
    offset: Option<u64>,
    told: u64,
    gone: u64,
}

/// Builds the processor. Settings: `raw`, the folder of the raw tape.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let raw = RawFrames::new(PathBuf::from(settings.text(RAW_TAPE, None)?));
    Ok(Box::new(News { raw, stories: Vec::new(), offset: None, told: 0, gone: 0 }))
}

impl News {
    fn copy(&mut self, marker: &Marker, out: &mut Blobs) -> Result<()> {
        if self.offset != Some(marker.first) {
            self.stories.clear();
            let stories = &mut self.stories;
            self.raw
                .with(marker.first, |frame| frame.map_or(Ok(()), |frame| read(&frame, stories)))?;
            self.offset = Some(marker.first);
        }
        let Header { feed, ts_recv, flags, .. } = marker.header;
        let flags = u16::from(flags);
        let header = BlobHeader { feed, ts_recv, flags, ..BlobHeader::default() };
        let place = usize::try_from(marker.last).unwrap_or(usize::MAX);
        let Some(story) = self.stories.get(place) else {
            self.gone += 1;
            return out.push(header, marker.as_bytes(), &[]);
        };
        self.told += 1;
        let header = BlobHeader { kind: BlobKind::News as u8, ..header };
        out.push(header, marker.as_bytes(), &story.text)
    }
}

fn read(frame: &Blob<'_>, stories: &mut Vec<Headline>) -> Result<()> {
    let feed = FEEDS.iter().find(|feed| feed.number() == frame.header.feed);
    if let Some(read) = feed.and_then(|feed| feed.news) {
        // What could not be read is a dead letter already.
        match read(frame, stories) {
            Err(error) if error.of_frame().is_none() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Processor for News {
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
            let story = record.as_marker().filter(|marker| marker.code == MarkerCode::News as u8);
            if let Some(marker) = story {
                self.copy(&marker, out)?;
            }
        }
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("told", self.told), ("gone", self.gone)]
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.u64(self.told);
        state.u64(self.gone);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = StateReader::new(bytes, NAME, VERSION)?;
        let (told, gone) = (state.u64()?, state.u64()?);
        state.finish()?;
        (self.told, self.gone) = (told, gone);
        Ok(())
    }
}
