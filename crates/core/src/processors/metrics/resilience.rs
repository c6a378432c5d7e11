//! Set `resilience`: how long the spread takes to come back after it widened.
//!
//! An episode begins when the spread widens by a tick or more, and ends when it is no wider than
//! before; what widens it further is of the same episode. One that lasts longer than a window is
//! given up there: it counts as censored. A side that empties, or a crossed quote, ends an episode
//! that counts nowhere.

use super::family::{Best, Change, Family, Moment, Set, Terms, Values};
use super::table::{Line, Per};
use super::window::Rolling;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

const UNCOVERED: &str = "the window is not covered";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::Window, formula, unit, null: UNCOVERED }
}

pub(super) const SET: Set = Set {
    name: "resilience",
    doc: "how long the spread takes to come back after it widened",
    lines: &[
        Line {
            null: "the window is not covered, or no spread came back in it",
            ..line(
                "resilience",
                "mean time from a widening of the spread by a tick or more until it is back, of \
                 those that are back within the window and no later than its length",
                "ns",
            )
        },
        line("spread_recoveries", "how many those are", "1"),
        line("spread_censored", "widenings that were not back after the length", "1"),
    ],
    build: |terms| Box::new(Resilience::new(terms)),
    has_book: false,
};

/// Time of the recoveries, how many, and how many were given up.
const TERMS: usize = 3;

/// A spread that widened.
#[derive(Debug, Clone, Copy)]
struct Episode {
    start: i64,
    /// What it is to come back to.
    spread: i64,
}

#[derive(Debug)]
struct Resilience {
    lengths: Vec<i64>,
    /// One for each length: what one gives up another may still see come back.
    windows: Vec<Rolling<TERMS>>,
    /// By window, whether it gave up the episode.
    given_up: Vec<bool>,
    episode: Option<Episode>,
    partial: bool,
}

/// The spread of a quote whose sides are not crossed.
fn spread(best: &Best) -> Option<i64> {
    best.is_sound().then(|| best.ask_price.saturating_sub(best.bid_price))
}

impl Resilience {
    fn new(terms: &Terms) -> Self {
        Self {
            lengths: terms.windows.clone(),
            windows: terms.windows.iter().map(|&length| Rolling::new(&[length])).collect(),
            given_up: vec![false; terms.windows.len()],
            episode: None,
            partial: terms.partial,
        }
    }

    /// Gives up the episode in the windows that it has outlasted by `ts`.
    fn give_up(&mut self, ts: i64) {
        let Some(episode) = self.episode else { return };
        for (index, &length) in self.lengths.iter().enumerate() {
            if !self.given_up[index] && ts.saturating_sub(episode.start) > length {
                self.given_up[index] = true;
                self.windows[index].add([0, 0, 1]);
            }
        }
    }

    fn recover(&mut self, episode: Episode, ts: i64) {
        let time = i128::from(ts.saturating_sub(episode.start));
        for (window, given_up) in self.windows.iter_mut().zip(&self.given_up) {
            if !given_up {
                window.add([time, 1, 0]);
            }
        }
        self.episode = None;
    }
}

impl Family for Resilience {
    fn change(&mut self, change: &Change) {
        self.windows.iter_mut().for_each(|window| window.begin(change.ts));
        self.give_up(change.ts);
        let Some(now) = spread(&change.after) else {
            self.episode = None;
            return;
        };
        match self.episode {
            Some(episode) if now <= episode.spread => self.recover(episode, change.ts),
            Some(_) => {}
            None => {
                let Some(before) = change.before.as_ref().and_then(spread) else { return };
                let least = if change.tick == NONE { 1 } else { change.tick.max(1) };
                if now.saturating_sub(before) >= least {
                    self.episode = Some(Episode { start: change.ts, spread: before });
                    self.given_up.fill(false);
                }
            }
        }
    }

    fn reset(&mut self) {
        self.windows.iter_mut().for_each(Rolling::reset);
        self.episode = None;
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        self.give_up(moment.ts);
        self.windows.iter_mut().for_each(|window| window.close(moment.ts));
        let partial = self.partial;
        for term in 0..TERMS {
            for window in &self.windows {
                let [time, count, censored] = *window.sums(0);
                let value = match term {
                    0 if count == 0 => None,
                    0 => Some(time as f64 / count as f64),
                    1 => Some(count as f64),
                    _ => Some(censored as f64),
                };
                let is_shown = window.is_shown(0, moment.ts, partial);
                out.push(value.filter(|_| is_shown), (count + censored) as u64);
            }
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.windows.iter().for_each(|window| window.write(state));
        self.given_up.iter().for_each(|&given_up| state.flag(given_up));
        state.flag(self.episode.is_some());
        let Episode { start, spread } = self.episode.unwrap_or(Episode { start: 0, spread: 0 });
        state.i64(start);
        state.i64(spread);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.windows.iter_mut().try_for_each(|window| window.read(state))?;
        for given_up in &mut self.given_up {
            *given_up = state.flag()?;
        }
        let is_open = state.flag()?;
        let episode = Episode { start: state.i64()?, spread: state.i64()? };
        self.episode = Some(episode).filter(|_| is_open);
        Ok(())
    }
}
