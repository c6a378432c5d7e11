//! What the normaliser counts, for status screens. The counts are part of its snapshot, so that
//! they go on after a restart.

use std::sync::LazyLock;

use super::channel_index;
use super::event::Event;
use super::streams::CHANNELS;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Channel;

/// Counters, most of them by channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blobs taken in.
    pub frames: u64,
    /// Blobs that held nothing of the market: answers to commands.
    pub control: u64,
    /// Blobs that could not be decoded.
    pub dead_letters: u64,
    /// Events that had to wait for another line.
    pub held: u64,
    /// Missing trades that came in after all.
    pub repaired: u64,
    records: [u64; CHANNELS],
    duplicates: [u64; CHANNELS],
    late: [u64; CHANNELS],
    gaps: [u64; CHANNELS],
    stale: [u64; CHANNELS],
    quarantined: [u64; CHANNELS],
    conflicts: [u64; CHANNELS],
}

const TABLES: usize = 7;

/// Names of the counters by channel, a list a table.
static NAMES: LazyLock<[Vec<String>; TABLES]> = LazyLock::new(|| {
    ["records", "duplicates", "late", "gaps", "stale", "quarantined", "conflicts"].map(|table| {
        let name = |channel: &&str| {
            format!("{table}.{}", if channel.is_empty() { "other" } else { channel })
        };
        Channel::NAMES.iter().map(name).collect()
    })
});

impl Counts {
    /// An event was passed on.
    #[inline]
    pub fn pass(&mut self, event: &Event) {
        self.records[channel_index(event.channel)] += u64::from(event.count);
    }

    /// A repeat was dropped.
    pub fn duplicate(&mut self, channel: u8) {
        self.duplicates[channel_index(channel)] += 1;
    }

    /// An event came too late to be of use, and was dropped.
    pub fn late(&mut self, channel: u8) {
        self.late[channel_index(channel)] += 1;
    }

    /// An event of a line that is behind was dropped; never seen, and below what was passed on.
    pub fn stale(&mut self, channel: u8) {
        self.stale[channel_index(channel)] += 1;
    }

    /// An event was put into quarantine.
    pub fn quarantine(&mut self, channel: u8) {
        self.quarantined[channel_index(channel)] += 1;
    }

    /// An event contradicted another of the same id.
    pub fn conflict(&mut self, channel: u8) {
        self.conflicts[channel_index(channel)] += 1;
    }

    /// A gap was declared.
    pub fn gap(&mut self, channel: u8) {
        self.gaps[channel_index(channel)] += 1;
    }

    const fn tables(&self) -> [&[u64; CHANNELS]; TABLES] {
        [
            &self.records,
            &self.duplicates,
            &self.late,
            &self.gaps,
            &self.stale,
            &self.quarantined,
            &self.conflicts,
        ]
    }

    /// Names and values: totals first, then by channel.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        let tables = self.tables();
        let total = |at: usize| tables[at].iter().sum::<u64>();
        let mut list = vec![
            ("frames", self.frames),
            ("control", self.control),
            ("dead_letters", self.dead_letters),
            ("records", total(0)),
            ("duplicates", total(1)),
            ("late", total(2)),
            ("gaps", total(3)),
            ("stale", total(4)),
            ("quarantined", total(5)),
            ("conflicts", total(6)),
            ("held", self.held),
            ("repaired", self.repaired),
        ];
        for (names, values) in NAMES.iter().zip(tables) {
            list.extend(names.iter().map(String::as_str).zip(values.iter().copied()));
        }
        list
    }

    /// Writes the counts to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        for value in [self.frames, self.control, self.dead_letters, self.held, self.repaired] {
            state.u64(value);
        }
        for table in self.tables() {
            table.iter().for_each(|&value| state.u64(value));
        }
    }

    /// Reads the counts from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut counts = Self {
            frames: state.u64()?,
            control: state.u64()?,
            dead_letters: state.u64()?,
            held: state.u64()?,
            repaired: state.u64()?,
            ..Self::default()
        };
        for table in [
            &mut counts.records,
            &mut counts.duplicates,
            &mut counts.late,
            &mut counts.gaps,
            &mut counts.stale,
            &mut counts.quarantined,
            &mut counts.conflicts,
        ] {
            for value in &mut table[..state.channels()] {
                *value = state.u64()?;
            }
        }
        Ok(counts)
    }
}
