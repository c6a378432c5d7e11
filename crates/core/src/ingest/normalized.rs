//! The normalised tape beside the raw one, and what the recorder sees of it.
//!
//! Where it cannot be used, the raw tape goes on without it: what is raw can be normalised again.

use std::path::Path;

use super::{Counts, IngestConfig, NORMALIZER, STEP_ITEMS_MAX};
use crate::error::{Error, Result};
use crate::feeds::Feed;
use crate::processors::normalize::{Normalizer, HOLD_MS};
use crate::processors::sync_tracker::SyncTracker;
use crate::processors::{Stage, StageConfig};
use crate::record::{records, Channel, GapCause, GapState, Marker, MarkerCode, NONE};
use crate::tape::Batch;

/// The normalised tape.
pub(super) struct Normalized {
    pub(super) stage: Stage,
    pub(super) books: SyncTracker,
    /// Those of trades and quotes that ended, until somebody asks for them.
    pub(super) gaps: Vec<Marker>,
}

/// So many gaps are remembered until somebody asks for them; later ones are not.
const GAPS_MAX: usize = 1 << 15;

impl Normalized {
    /// Opens the tape, and brings the normaliser to where it ends.
    pub(super) fn open(
        config: &IngestConfig,
        decoder: Box<dyn Feed>,
        raw: &Path,
        path: &Path,
    ) -> Result<Self> {
        let stage = StageConfig::default();
        let stage = Stage::open(
            raw,
            path,
            &config.data.join("state").join(&config.source).join("normalize"),
            Box::new(Normalizer::with_decoder(config.feed, decoder, HOLD_MS)),
            StageConfig {
                durability: config.durability,
                segment_bytes: config.segment_bytes,
                retention: config.retention,
                reader: Some(NORMALIZER.to_owned()),
                save_bytes: stage.save_bytes.min(config.segment_bytes as u64),
                ..stage
            },
        )?;
        Ok(Self { stage, books: SyncTracker::new(), gaps: Vec::new() })
    }

    /// Takes what was just put on the raw tape, so that it need not be read back from there.
    pub(super) fn take(&mut self, batch: Batch<'_>, counts: &mut Counts) -> Result<()> {
        if self.stage.step_with(batch)? > 0 {
            self.observe(counts);
        }
        Ok(())
    }

    /// Takes all that the raw tape holds up to `end` and that was not taken yet.
    pub(super) fn follow(&mut self, end: u64, counts: &mut Counts) -> Result<()> {
        while self.stage.covered() < end && self.stage.step(STEP_ITEMS_MAX)? > 0 {
            self.observe(counts);
        }
        Ok(())
    }

    /// Looks at what the last step published: the books' continuity, gaps.
    fn observe(&mut self, counts: &mut Counts) {
        let published = self.stage.published();
        self.books.observe(published.as_bytes());
        counts.records += published.len() as u64;
        for record in records::iterate(published.as_bytes()) {
            if let Some(marker) = record.as_marker() {
                counts.dead_letters += u64::from(marker.code == MarkerCode::DeadLetter as u8);
                counts.gaps += u64::from(marker.code == MarkerCode::Gap as u8);
                if is_ended(&marker) && self.gaps.len() < GAPS_MAX {
                    self.gaps.push(marker);
                }
            }
        }
    }
}

/// Whether a marker tells of a gap in trades or quotes whose extent is known.
fn is_ended(marker: &Marker) -> bool {
    const CHANNELS: [u8; 3] = [Channel::Trade as u8, Channel::AggTrade as u8, Channel::Quote as u8];
    const OURS: [u8; 2] = [GapCause::Retention as u8, GapCause::Damage as u8];
    marker.code == MarkerCode::Gap as u8
        && marker.state == GapState::Closed as u8
        && marker.ts_start != NONE
        && CHANNELS.contains(&marker.channel)
        && !OURS.contains(&marker.cause)
}

/// Whether an error is of the disk, or of another process: it is met in the same way on all tapes.
pub(super) const fn is_passing(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. } | Error::Io { .. } | Error::Locked { .. })
}
