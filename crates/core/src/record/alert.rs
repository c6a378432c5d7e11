//! Alerts: conditions of a market or of a recording that somebody should know of.
//!
//! Each change of an alert is a record of its own with the same id: opened, updated, acknowledged,
//! closed. Each holds the whole evidence as of then, so that one alone can be understood.

use super::{AlertState, Header, Severity};

/// What became of an alert. 320 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Alert {
    /// `ts_event` is the time of what it says, by the venue's clock; `ts_recv` the receipt of the
    /// record that showed it. `sequence` is the offset of that record on the tape that the rules
    /// read. `instrument` is 0 where the whole source is meant.
    pub header: Header,
    /// Number of the alert on its tape, from 1 on: the same in all records of one alert.
    pub id: u64,
    /// Since when the condition holds, in ns.
    pub ts_start: i64,
    /// When it ended, in ns, or [`super::NONE`]: it has not.
    pub ts_end: i64,
    /// Offset of the first record that is evidence.
    pub first_offset: u64,
    /// Offset of the last one.
    pub last_offset: u64,
    /// What was measured, as the bits of a float: the worst so far; not a number for none.
    pub value: u64,
    /// What it was compared with, as the bits of a float.
    pub threshold: u64,
    /// A price, units of 1e-9, or [`super::NONE`].
    pub price: i64,
    /// A size, units of 1e-8, or [`super::NONE`].
    pub size: i64,
    /// How many messages, levels, fills or losses are evidence.
    pub count: u64,
    /// Name of the rule in the settings, UTF-8, zero padded.
    pub rule: [u8; 32],
    /// What the rule looks for, zero padded.
    pub detector: [u8; 24],
    /// The metric, stage or channel that is meant, zero padded; empty: none.
    pub subject: [u8; 40],
    /// Further evidence, as words of the form `name=value`, UTF-8, zero padded.
    pub detail: [u8; 104],
    /// An [`AlertState`].
    pub state: u8,
    /// A [`Severity`].
    pub severity: u8,
    /// A [`super::Side`]; 0 where no side is meant.
    pub side: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

impl Alert {
    /// An alert that is no evidence of anything yet.
    pub const EMPTY: Self = Self {
        header: Header::of::<Self>(),
        id: 0,
        ts_start: super::NONE,
        ts_end: super::NONE,
        first_offset: 0,
        last_offset: 0,
        value: f64::NAN.to_bits(),
        threshold: f64::NAN.to_bits(),
        price: super::NONE,
        size: super::NONE,
        count: 0,
        rule: [0; 32],
        detector: [0; 24],
        subject: [0; 40],
        detail: [0; 104],
        state: AlertState::Opened as u8,
        severity: Severity::Warning as u8,
        side: 0,
        reserved: [0; 5],
    };
}
