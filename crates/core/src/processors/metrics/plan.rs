//! What is measured, and how: the settings of the processor, checked.

use super::event_windows::{Shape, FIELDS, KEPT_MAX};
use super::family::{Set, Terms};
use super::noise;
use super::table;
use crate::error::{Error, Result};
use crate::processors::ticks::trade_channel;
use crate::processors::Settings;
use crate::record::SIZE_SCALE;

const DEFAULT_SETS: &str = "l1,flow";
const WINDOWS_MS: [i64; 3] = [1_000, 10_000, 60_000];
const HORIZONS_MS: [i64; 2] = [1_000, 5_000];
const INTERVAL_MS: i64 = 1_000;
/// Where there is no interval: so often silence may end a window of trades.
const SILENCE_MS: i64 = 100;
const GRACE_MS: i64 = 2_000;
const STEP_MS: i64 = 1_000;
const BAR_MS: i64 = 60_000;
const SPAN_BARS: i64 = 30;
const SPAN_BARS_MAX: i64 = 1 << 12;
const BANDS_BPS: [i64; 3] = [5, 10, 25];
const LEVELS: [i64; 2] = [5, 10];
const SIZES: [i64; 1] = [SIZE_SCALE];
const OFI_BAR_MS: i64 = 10_000;
const OFI_SPAN_BARS: i64 = 180;
const VPIN_BUCKETS: i64 = 50;
const VPIN_BUCKETS_MAX: i64 = 1 << 12;
const WINDOW_LATENESS_MS: i64 = 10_000;
const MS: i64 = 1_000_000;
/// Samples on the grid within the longest window, at most: each holds memory.
const STEPS_MAX: i64 = 1 << 16;

/// What all instruments have in common.
#[derive(Debug)]
pub(super) struct Plan {
    /// Ns between samples; 0: after each event.
    pub(super) interval: i64,
    /// Ns between the receive times at which silence ends something; 0: it never does.
    pub(super) grid: i64,
    pub(super) grace: i64,
    pub(super) channel: u8,
    pub(super) terms: Terms,
    /// The longest window, in ns.
    pub(super) longest: i64,
    pub(super) sets: Vec<&'static Set>,
    pub(super) names: Vec<table::Name>,
    /// Of each whether a set before has a metric of that name: `depth` has the sizes at the best
    /// prices, as `l1` does, where its levels are of one. It is written once, as the first has it.
    pub(super) is_repeat: Vec<bool>,
    /// How trades are taken together by event time, and the names of the values of each.
    pub(super) shapes: Vec<Shape>,
    pub(super) window_names: Vec<[[u8; 40]; FIELDS.len()]>,
    /// How far trades may be behind an event without being late, and how late they may be, in ns.
    pub(super) window_delay: i64,
    pub(super) window_lateness: i64,
    /// Whether a set needs books.
    pub(super) has_books: bool,
    /// The venue's symbols that are measured; none: all.
    pub(super) symbols: Vec<String>,
}

impl Plan {
    /// Takes the plan out of `settings`: `sets` and `symbols`, names with commas between them;
    /// `windows_ms`, `horizons_ms`, `interval_ms`, `grace_ms`, `step_ms`, `bar_ms`, `span_bars`;
    /// `bands_bps`, `levels`, `sizes`; `vpin_volume`, in units of size, and `vpin_buckets`;
    /// `ofi_bar_ms`, `ofi_span_bars`; `hawkes`, mu, alpha and beta with commas between them;
    /// `trade_windows`, as [`Shape::list`] reads them, `window_delay_ms`, `window_lateness_ms`;
    /// `partial`, 1 to show windows that are not covered yet; `channel`, `trade` or `agg_trade`.
    ///
    /// # Errors
    /// `Error::Invalid`: a setting is wrong.
    pub(super) fn of(settings: &mut Settings) -> Result<Self> {
        let sets = table::sets_of(&settings.text("sets", Some(DEFAULT_SETS))?)?;
        let interval_ms = settings.number("interval_ms", INTERVAL_MS, 0)?;
        let windows = rolling_of(settings, interval_ms)?;
        let mut horizons: Vec<i64> = settings.numbers("horizons_ms", &HORIZONS_MS)?;
        horizons.iter_mut().for_each(|length| *length = length.saturating_mul(MS));
        let mut ns = |name, default: i64| -> Result<i64> {
            Ok(settings.number(name, default, 1)?.saturating_mul(MS))
        };
        let (step, bar) = (ns("step_ms", STEP_MS)?, ns("bar_ms", BAR_MS)?);
        let ofi_bar = ns("ofi_bar_ms", OFI_BAR_MS)?;
        let terms = Terms {
            windows,
            horizons,
            step,
            bar,
            partial: settings.number("partial", 0, 0)? != 0,
            per_event: interval_ms == 0,
            span: up_to(settings, "span_bars", SPAN_BARS, 10, SPAN_BARS_MAX)? as usize,
            bands: small(settings, "bands_bps", &BANDS_BPS, 10_000)?
                .map(|band| band as u32)
                .collect(),
            levels: small(settings, "levels", &LEVELS, 1_000)?
                .map(|count| count as usize)
                .collect(),
            sizes: settings.numbers("sizes", &SIZES)?,
            vpin_volume: settings.number("vpin_volume", 0, 0)?,
            vpin_buckets: up_to(settings, "vpin_buckets", VPIN_BUCKETS, 1, VPIN_BUCKETS_MAX)?,
            ofi_bar,
            ofi_span: up_to(settings, "ofi_span_bars", OFI_SPAN_BARS, 10, SPAN_BARS_MAX)? as usize,
            hawkes: hawkes_of(&settings.text("hawkes", Some(""))?)?,
        };
        if sets.iter().any(|set| set.name == noise::SET.name) {
            noise::check_span(&terms)?;
        }
        let symbols = settings.text("symbols", Some(""))?;
        let names = table::names_of(&sets, &terms);
        let is_before = |(at, name)| names[..at].contains(name);
        let is_repeat = names.iter().enumerate().map(is_before).collect();
        let (shapes, window_delay, window_lateness) = windows_of(settings)?;
        let window_names = shapes.iter().map(names_of_shape).collect();
        let has_books = sets.iter().any(|set| set.has_book);
        let interval = interval_ms.saturating_mul(MS);
        let alone = if shapes.is_empty() { 0 } else { SILENCE_MS * MS };
        Ok(Self {
            interval,
            grid: if interval == 0 { alone } else { interval },
            grace: settings.number("grace_ms", GRACE_MS, 0)?.saturating_mul(MS),
            channel: trade_channel(settings)? as u8,
            longest: terms.windows.iter().copied().max().unwrap_or(0),
            terms,
            sets,
            names,
            is_repeat,
            shapes,
            window_names,
            window_delay,
            window_lateness,
            has_books,
            symbols: symbols
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The venue's time by which silence ends windows where receive times are at `watermark`: one
    /// of the grid, so that it is the same whichever instruments are measured beside.
    pub(super) fn silent_until(&self, watermark: i64) -> i64 {
        let grid = self.grid.max(1);
        watermark.saturating_sub(self.grace).div_euclid(grid).saturating_mul(grid)
    }
}

/// A number from `least` to `most`, or the default.
fn up_to(
    settings: &mut Settings,
    name: &'static str,
    default: i64,
    least: i64,
    most: i64,
) -> Result<i64> {
    match settings.number(name, default, least)? {
        value if value > most => Err(Error::invalid(format!(
            "{name}: expected a number from {least} to {most}, got {value}"
        ))),
        value => Ok(value),
    }
}

/// The lengths of the rolling windows, in ns.
fn rolling_of(settings: &mut Settings, interval_ms: i64) -> Result<Vec<i64>> {
    let mut windows = Vec::new();
    for ms in settings.numbers("windows_ms", &WINDOWS_MS)? {
        let fits = interval_ms == 0 || ms % interval_ms == 0 && ms / interval_ms <= STEPS_MAX;
        let Some(ns) = ms.checked_mul(MS).filter(|_| fits) else {
            return Err(Error::invalid(format!(
                "windows_ms: expected multiples of interval_ms, {interval_ms}, up to \
                 {STEPS_MAX} times that, got {ms}"
            )));
        };
        if !windows.contains(&ns) {
            windows.push(ns);
        }
    }
    Ok(windows)
}

/// The shapes of windows of trades, how long they are held open, and how late a trade may be.
fn windows_of(settings: &mut Settings) -> Result<(Vec<Shape>, i64, i64)> {
    let shapes = Shape::list(&settings.text("trade_windows", Some(""))?)?;
    let mut ms = |name, default| -> Result<i64> {
        Ok(settings.number(name, default, 0)?.saturating_mul(MS))
    };
    let delay = ms("window_delay_ms", 0)?;
    let lateness = ms("window_lateness_ms", WINDOW_LATENESS_MS)?;
    if let Some(shape) = shapes.iter().find(|shape| !shape.fits(delay.saturating_add(lateness))) {
        return Err(Error::invalid(format!(
            "trade_windows: expected windows of which window_delay_ms and window_lateness_ms hold \
             {KEPT_MAX} at most, got {}",
            shape.name()
        )));
    }
    Ok((shapes, delay, lateness))
}

/// The names of the values of a window.
fn names_of_shape(shape: &Shape) -> [[u8; 40]; FIELDS.len()] {
    FIELDS.map(|field| table::name_of(&format!("{}_{field}", shape.name()), 0).0)
}

/// The bits of mu, alpha and beta; none of an empty text.
fn hawkes_of(text: &str) -> Result<Option<[u64; 3]>> {
    if text.is_empty() {
        return Ok(None);
    }
    let numbers: Vec<f64> = text.split(',').filter_map(|one| one.trim().parse().ok()).collect();
    match numbers[..] {
        [mu, alpha, beta]
            if text.split(',').count() == 3
                && [mu, beta].iter().all(|&rate| rate > 0.0 && rate.is_finite())
                && (0.0..1.0).contains(&alpha) =>
        {
            Ok(Some([mu, alpha, beta].map(f64::to_bits)))
        }
        _ => Err(Error::invalid(format!(
            "hawkes: expected mu, alpha, beta, such as \"0.2,0.5,1.0\", with mu and beta above 0 \
             and alpha from 0 to below 1, got {text:?}"
        ))),
    }
}

/// A list of numbers from 1 to `most`.
fn small(
    settings: &mut Settings,
    name: &'static str,
    default: &[i64],
    most: i64,
) -> Result<impl Iterator<Item = i64>> {
    let found = settings.numbers(name, default)?;
    match found.iter().find(|&&value| value > most) {
        Some(value) => {
            Err(Error::invalid(format!("{name}: expected numbers up to {most}, got {value}")))
        }
        None => Ok(found.into_iter()),
    }
}
