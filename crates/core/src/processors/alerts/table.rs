//! The table of detectors: what each looks for, and by which parameters.

use super::detector::Detector;
use super::rule::Rule;
use super::{
    crossed, fat_finger, flicker, gaps, ignition, lag, layering, marking, measured, noted, rate,
    sla, spike, spread, stale, stuffing, wash,
};
use crate::error::{Error, Result};

/// A bound that nothing reaches is none.
const NO_LIMIT: f64 = 1e15;

/// A parameter that is a number.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its name; the unit is its end.
    pub name: &'static str,
    /// Where the rule does not give it.
    pub default: f64,
    /// It must not be below.
    pub least: f64,
    /// It must not be above.
    pub most: f64,
    /// Whether it must be whole.
    pub is_whole: bool,
    /// What it does.
    pub doc: &'static str,
}

impl Number {
    /// What it may be, in words.
    pub(super) fn range(&self) -> String {
        let what = if self.is_whole { "a whole number" } else { "a number" };
        let from = match self.least {
            least if least == f64::MIN_POSITIVE => " above 0".to_owned(),
            least if least <= -NO_LIMIT => String::new(),
            least => format!(" from {least}"),
        };
        let to = match self.most {
            most if most >= NO_LIMIT => String::new(),
            most if from.is_empty() || self.least == f64::MIN_POSITIVE => format!(" up to {most}"),
            most => format!(" to {most}"),
        };
        format!("{what}{from}{to}")
    }

    /// Whether it may be that.
    pub fn takes(&self, value: f64) -> bool {
        value >= self.least && value <= self.most && (!self.is_whole || value.fract() == 0.0)
    }
}

/// A parameter that is a text.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Its name.
    pub name: &'static str,
    /// Where the rule does not give it.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name in rules and alerts.
    pub name: &'static str,
    /// What it looks for.
    pub doc: &'static str,
    /// What its alerts hold as evidence.
    pub evidence: &'static str,
    /// Unit of the value and the threshold of its alerts; empty: none, or it varies.
    pub unit: &'static str,
    /// Parameters that are numbers.
    pub numbers: &'static [Number],
    /// Parameters that are texts.
    pub texts: &'static [Text],
    /// Whether it looks at the source as a whole, unless its rule says otherwise.
    pub is_of_source: bool,
    /// Whether its rule may have it look at the source as a whole.
    pub may_be_of_source: bool,
    /// Whether it looks at what is said of the source as a whole, beside each instrument.
    pub(super) is_of_both: bool,
    /// Whether it looks at single orders.
    pub has_orders: bool,
    pub(super) check: fn(&Rule) -> Result<()>,
    pub(super) build: fn(&Rule) -> Box<dyn Detector>,
}

impl Entry {
    /// A line of one instrument, without parameters.
    pub(super) const fn new(
        name: &'static str,
        doc: &'static str,
        evidence: &'static str,
        build: fn(&Rule) -> Box<dyn Detector>,
    ) -> Self {
        Self {
            name,
            doc,
            evidence,
            unit: "",
            numbers: &[],
            texts: &[],
            is_of_source: false,
            may_be_of_source: false,
            is_of_both: false,
            has_orders: false,
            check: |_| Ok(()),
            build,
        }
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        let texts = self.texts.iter().map(|text| text.name);
        self.numbers.iter().map(|number| number.name).chain(texts)
    }
}

/// A number above 0.
pub(super) const fn positive(name: &'static str, default: f64, doc: &'static str) -> Number {
    Number { name, default, least: f64::MIN_POSITIVE, most: NO_LIMIT, is_whole: false, doc }
}

/// A number from 0 on.
pub(super) const fn number(name: &'static str, default: f64, doc: &'static str) -> Number {
    Number { name, default, least: 0.0, most: NO_LIMIT, is_whole: false, doc }
}

/// A share, from 0 to 1.
pub(super) const fn share(name: &'static str, default: f64, doc: &'static str) -> Number {
    Number { name, default, least: 0.0, most: 1.0, is_whole: false, doc }
}

/// A whole number from 1 to 100,000.
pub(super) const fn count(name: &'static str, default: f64, doc: &'static str) -> Number {
    Number { name, default, least: 1.0, most: 100_000.0, is_whole: true, doc }
}

pub(super) const HOURS: &[Text] = &[
    Text {
        name: "hours",
        default: "",
        doc: "when the market is open, such as 09:30-16:00; empty: always",
    },
    Text {
        name: "zone",
        default: "utc",
        doc: "the clock of the hours: utc, or new-york, whose weekends are closed",
    },
];

pub(super) const FOR_MS: Number =
    number("for_ms", 0.0, "how long the condition must hold before it is told");

/// All detectors.
pub(super) const DETECTORS: &[Entry] = &[
    stale::ENTRY,
    lag::ENTRY,
    gaps::ENTRY,
    sla::ENTRY,
    rate::ENTRY,
    spread::ENTRY,
    measured::ENTRY,
    measured::VOLATILITY,
    noted::LATENCY,
    noted::DISK,
    crossed::LOCKED,
    crossed::CROSSED,
    stuffing::ENTRY,
    layering::ENTRY,
    wash::ENTRY,
    spike::ENTRY,
    flicker::ENTRY,
    ignition::ENTRY,
    marking::ENTRY,
    fat_finger::ENTRY,
];

/// The detector of that name.
///
/// # Errors
/// `Error::Invalid`: there is none; the message lists all.
pub(super) fn find(name: &str) -> Result<&'static Entry> {
    DETECTORS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<_> = DETECTORS.iter().map(|entry| entry.name).collect();
        Error::invalid(format!("expected a rule of {}, got {name:?}", names.join(", ")))
    })
}
