//! The table of metrics: what each is called, how it is calculated, and when it has no value.

use super::family::{Set, Terms};
use super::{cost, flow, impact, l1, latency, ofi, signs, volatility, vpin};
use crate::error::{Error, Result};

/// What the name of a metric has as parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Per {
    /// Nothing.
    One,
    /// Each rolling window: `_1s`, `_500ms`.
    Window,
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
];

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
    lines
        .flat_map(|line| {
            let (one, none) = (vec![0], vec![0]);
            let (horizons, windows) = match line.per {
                Per::One => (&none, &one),
                Per::Window => (&none, &terms.windows),
                Per::HorizonWindow => (&terms.horizons, &terms.windows),
            };
            let each = |&horizon: &i64| -> Vec<Name> {
                windows.iter().map(|&window| name_of(line, horizon, window)).collect()
            };
            horizons.iter().flat_map(each).collect::<Vec<_>>()
        })
        .collect()
}

fn name_of(line: &Line, horizon: i64, length: i64) -> Name {
    let (name, window) = (line.name, length_text(length));
    let text = match line.per {
        Per::One => name.to_owned(),
        Per::Window => format!("{name}_{window}"),
        Per::HorizonWindow => format!("{name}_{}_mean_{window}", length_text(horizon)),
    };
    let mut name = [0; 40];
    let kept = text.len().min(name.len());
    name[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    (name, length as u64)
}

/// A length of time as names have it: whole seconds, milliseconds or ns.
pub(super) fn length_text(ns: i64) -> String {
    match ns {
        _ if ns % 1_000_000_000 == 0 => format!("{}s", ns / 1_000_000_000),
        _ if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        _ => format!("{ns}ns"),
    }
}
