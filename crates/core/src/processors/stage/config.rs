//! How a stage works, and what it lost.

use std::path::PathBuf;

use crate::record::{topic_number, Channel, GapCause, GapState, Header, Marker, MarkerCode, NONE};
use crate::tape::{Durability, Retention, TapeConfig, TapeKind};

/// How a stage works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageConfig {
    /// When the output becomes durable.
    pub durability: Durability,
    /// A segment of the output is closed before it grows beyond this.
    pub segment_bytes: usize,
    /// What is kept of the output's closed segments, and how.
    pub retention: Retention,
    /// The name under which the input's retention knows this stage; none: it does not wait for it.
    pub reader: Option<String>,
    /// The tape from which the input was made, where the processor reads that as well.
    pub origin: Option<PathBuf>,
    /// The state is saved after so many input items.
    pub save_items: u64,
    /// The state is saved after so many bytes of input.
    pub save_bytes: u64,
    /// Number of the settings: a state made with others is not used.
    pub fingerprint: u32,
    /// Records of definitions, for a processor that begins behind what retention took of the input.
    pub definitions: Vec<u8>,
}

impl Default for StageConfig {
    fn default() -> Self {
        let tape = TapeConfig::new(TapeKind::Records);
        Self {
            durability: tape.durability,
            segment_bytes: tape.segment_bytes,
            retention: tape.retention,
            reader: None,
            origin: None,
            save_items: 2_000_000,
            save_bytes: 256 << 20,
            fingerprint: 0,
            definitions: Vec::new(),
        }
    }
}

/// Input that was gone before a stage had read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Why: retention took it, or a repair gave it up.
    pub cause: GapCause,
    /// First item that is gone.
    pub first: u64,
    /// Last item that is gone.
    pub last: u64,
    /// Newest receive time before them, `i64::MIN` if there is none.
    pub ts_start: i64,
    /// Newest receive time of the item after them.
    pub ts_end: i64,
}

/// The ledger's entry for input of the tape `topic` that is gone.
pub(super) fn gap_of(loss: &Loss, topic: &str) -> Marker {
    let Loss { cause, first, last, ts_start, ts_end } = *loss;
    let known = |ts: i64| if ts == i64::MIN { NONE } else { ts };
    let ts = known(ts_end);
    let sequence = topic_number(topic);
    Marker {
        header: Header { ts_event: ts, ts_recv: ts, sequence, ..Header::of::<Marker>() },
        code: MarkerCode::Gap as u8,
        cause: cause as u8,
        state: GapState::Closed as u8,
        channel: Channel::None as u8,
        count: u32::try_from(last - first + 1).unwrap_or(u32::MAX - 1),
        first,
        last,
        ts_start: known(ts_start),
    }
}
