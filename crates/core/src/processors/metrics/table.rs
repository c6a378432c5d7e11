//! The table of metrics: what each is called, how it is calculated, and when it has no value.

use super::family::{Set, Terms};
use super::{
    clocks, cost, decayed, dependence, depth, flow, impact, integrated, intensity, l1, latency,
    lifetimes, microprice, mlofi, noise, ofi, ofi_beta, ranges, rates, resilience, signs,
    volatility, vpin,
};
use crate::decimal;
use crate::error::{Error, Result};
use crate::record::SIZE_PLACES;

/// What the name of a metric has as parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Per {
    /// Nothing.
    One,
    /// Each rolling window: `_1s`, `_500ms`.
    Window,
    /// Each distance in basis points: `_25bps`.
    Band,
    /// Each number of levels: `5`.
    Level,
    /// Each size: `_1000`.
    Size,
    /// Each of ten ranks, and each rolling window of each: `_3_10s`.
    RankWindow,
    /// Each lag: `_3`.
    Lag,
    /// Each horizon, and each rolling window of each: `_5s_mean_60s`.
    HorizonWindow,
}

/// One metric, or one for each of its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Its name, without parameters.
    pub name: &'static str,
    pub(super) per: Per,
    /// How it is calculated.
    pub formula: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// When it has no value.
    pub null: &'static str,
}

impl Line {
    /// What its values are made of, in words.
    pub const fn window(&self) -> &'static str {
        match self.per {
            Per::One => "none",
            Per::Window => "rolling",
            Per::HorizonWindow => "rolling, a horizon later",
            Per::Band => "none, of each of `bands_bps`",
            Per::Level => "none, of each of `levels`",
            Per::Size => "none, of each of `sizes`",
            Per::RankWindow => "rolling, of each rank",
            Per::Lag => "none, of each lag",
        }
    }
}

/// All sets, in the order in which their values are written.
pub(super) const SETS: &[Set] = &[
    l1::SET,
    ofi::SET,
    flow::SET,
    signs::SET,
    cost::SET,
    impact::SET,
    vpin::SET,
    volatility::SET,
    latency::SET,
    depth::SET,
    mlofi::SET,
    microprice::SET,
    ofi_beta::SET,
    integrated::SET,
    ranges::SET,
    noise::SET,
    rates::SET,
    intensity::SET,
    dependence::SET,
    clocks::SET,
    lifetimes::SET,
    resilience::SET,
    decayed::SET,
];

/// Names of all sets of metrics, and what they are.
pub fn sets() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETS.iter().map(|set| (set.name, set.doc))
}

/// All metrics, each with the name of its set.
pub fn lines() -> impl Iterator<Item = (&'static str, &'static Line)> {
    SETS.iter().flat_map(|set| set.lines.iter().map(|line| (set.name, line)))
}

/// A name as records hold it, and the length of its window.
pub(super) type Name = ([u8; 40], u64);

/// The sets called `names`, in the order of the table.
///
/// # Errors
/// `Error::Invalid`: there is no such set; the message lists all.
pub(super) fn sets_of(names: &str) -> Result<Vec<&'static Set>> {
    let wanted: Vec<&str> =
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for name in &wanted {
        if !SETS.iter().any(|set| set.name == *name) {
            let known: Vec<_> = SETS.iter().map(|set| set.name).collect();
            return Err(Error::invalid(format!(
                "expected sets of metrics of {}, got {name:?}",
                known.join(", ")
            )));
        }
    }
    Ok(SETS.iter().filter(|set| wanted.contains(&set.name)).collect())
}

/// The names of all metrics of `sets`, in the order of their values.
pub(super) fn names_of(sets: &[&Set], terms: &Terms) -> Vec<Name> {
    let lines = sets.iter().flat_map(|set| set.lines);
    lines.flat_map(|line| names_of_line(line, terms)).collect()
}

fn names_of_line(line: &Line, terms: &Terms) -> Vec<Name> {
    let base = line.name;
    let named = |text: String| name_of(&text, 0);
    let windows = |middle: String| {
        let each = terms.windows.iter();
        each.map(move |&window| name_of(&format!("{base}{middle}_{}", length_text(window)), window))
    };
    match line.per {
        Per::One => vec![named(base.to_owned())],
        Per::Window => windows(String::new()).collect(),
        Per::HorizonWindow => {
            let horizons = terms.horizons.iter().map(|&length| length_text(length));
            horizons.flat_map(|horizon| windows(format!("_{horizon}_mean"))).collect()
        }
        Per::RankWindow => {
            (1..=mlofi::RANKS).flat_map(|rank| windows(format!("_{rank}"))).collect()
        }
        Per::Lag => (1..=dependence::LAGS).map(|lag| named(format!("{base}_{lag}"))).collect(),
        Per::Band => terms.bands.iter().map(|band| named(format!("{base}_{band}bps"))).collect(),
        Per::Level => terms.levels.iter().map(|levels| named(format!("{base}{levels}"))).collect(),
        Per::Size => {
            terms.sizes.iter().map(|&units| named(format!("{base}_{}", size_text(units)))).collect()
        }
    }
}

pub(super) fn name_of(text: &str, length: i64) -> Name {
    let mut name = [0; 40];
    let kept = text.len().min(name.len());
    name[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    (name, length as u64)
}

/// A size as names have it.
fn size_text(units: i64) -> String {
    let mut text = Vec::new();
    decimal::format(units.into(), SIZE_PLACES, 0, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// A length of time as names have it: whole seconds, milliseconds or ns.
pub(super) fn length_text(ns: i64) -> String {
    match ns {
        _ if ns % 1_000_000_000 == 0 => format!("{}s", ns / 1_000_000_000),
        _ if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        _ => format!("{ns}ns"),
    }
}
