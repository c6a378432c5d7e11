//! The microprice of Stoikov 2018: the mid that is expected, given the spread and the imbalance.
//!
//! States are pairs of a spread in ticks and a bucket of the imbalance. Each step from one state to
//! the next counts, and so does its mirror, so that the adjustment of a state is that of its mirror
//! with the other sign. All counts are integers.

use super::linear::solve;

/// Terms that the adjustment is the sum of.
const TERMS: usize = 6;

/// Which states there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The widest spread, in ticks.
    pub spreads: usize,
    /// Buckets of the imbalance.
    pub buckets: usize,
}

impl Default for Grid {
    fn default() -> Self {
        Self { spreads: 4, buckets: 5 }
    }
}

impl Grid {
    /// Number of states.
    pub const fn len(&self) -> usize {
        self.spreads * self.buckets
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state of a spread and of the sizes at both sides; none of those outside of the grid.
    pub fn state(&self, spread: i128, tick: i64, bid_size: i64, ask_size: i64) -> Option<usize> {
        let tick = i128::from(tick);
        let sizes = i128::from(bid_size) + i128::from(ask_size);
        if tick <= 0 || spread <= 0 || spread % tick != 0 || sizes <= 0 {
            return None;
        }
        let width = usize::try_from(spread / tick).ok().filter(|&width| width <= self.spreads)?;
        let bucket = (self.buckets as i128 * i128::from(bid_size) / sizes) as usize;
        Some((width - 1) * self.buckets + bucket.min(self.buckets - 1))
    }

    /// The state with the sizes of both sides swapped.
    const fn mirror(&self, state: usize) -> usize {
        let bucket = state % self.buckets;
        state - bucket + (self.buckets - 1 - bucket)
    }
}

/// Steps between states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    grid: Grid,
    /// From and to, row by row: the mid stood, and it moved.
    pub(crate) still: Vec<u32>,
    pub(crate) moved: Vec<u32>,
    /// Changes of twice the mid, in units of the price, by the state that they begin in.
    pub(crate) changes: Vec<i64>,
}

/// What [`Steps`] say of each state.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What is added to the mid, in ticks; none of states of which no step began.
    pub adjustment: Vec<Option<f64>>,
    /// The first term of it: the change that is expected of the next move.
    pub first: Vec<f64>,
    /// The largest change that each term made: the last says how far the sum is from its limit.
    pub terms: Vec<f64>,
    /// Steps that began in each state, mirrors with them.
    pub counts: Vec<u64>,
}

impl Steps {
    /// None yet.
    pub fn new(grid: Grid) -> Self {
        let n = grid.len();
        Self { grid, still: vec![0; n * n], moved: vec![0; n * n], changes: vec![0; n] }
    }

    /// Counts a step that changed twice the mid by `change`, and its mirror.
    pub fn add(&mut self, from: usize, to: usize, change: i64) {
        let n = self.grid.len();
        let mirrored = (self.grid.mirror(from), self.grid.mirror(to), change.saturating_neg());
        for (from, to, change) in [(from, to, change), mirrored] {
            let counts = if change == 0 { &mut self.still } else { &mut self.moved };
            counts[from * n + to] = counts[from * n + to].saturating_add(1);
            self.changes[from] = self.changes[from].saturating_add(change);
        }
    }

    /// The adjustment of each state; none where no mid moved.
    pub fn fit(&self, tick: i64) -> Option<Table> {
        let n = self.grid.len();
        let row = |counts: &[u32], from: usize| -> u64 {
            counts[from * n..(from + 1) * n].iter().map(|&count| u64::from(count)).sum()
        };
        let counts: Vec<u64> =
            (0..n).map(|from| row(&self.still, from) + row(&self.moved, from)).collect();
        if tick <= 0 || self.moved.iter().all(|&count| count == 0) {
            return None;
        }
        // I - Q on the left; the expected change, then R, on the right.
        let (mut left, columns) = (vec![0.0; n * n], n + 1);
        let mut right = vec![0.0; n * columns];
        for from in 0..n {
            let count = counts[from].max(1) as f64;
            for to in 0..n {
                let at = from * n + to;
                left[at] = f64::from(u8::from(from == to)) - f64::from(self.still[at]) / count;
                right[from * columns + 1 + to] = f64::from(self.moved[at]) / count;
            }
            right[from * columns] = self.changes[from] as f64 / (2.0 * tick as f64) / count;
        }
        if !solve(&mut left, &mut right, columns) {
            return None;
        }
        let first: Vec<f64> = (0..n).map(|from| right[from * columns]).collect();
        let (mut sum, mut term, mut terms) = (first.clone(), first.clone(), Vec::new());
        let largest = |term: &[f64]| term.iter().fold(0.0_f64, |most, one| most.max(one.abs()));
        terms.push(largest(&term));
        for _ in 1..TERMS {
            let next = |from: usize| -> f64 {
                let row = &right[from * columns + 1..(from + 1) * columns];
                row.iter().zip(&term).map(|(share, value)| share * value).sum()
            };
            term = (0..n).map(next).collect();
            terms.push(largest(&term));
            sum.iter_mut().zip(&term).for_each(|(sum, one)| *sum += one);
        }
        let adjustment =
            sum.iter().zip(&counts).map(|(&sum, &count)| (count > 0).then_some(sum)).collect();
        Some(Table { adjustment, first, terms, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_of_a_state_is_adjusted_the_other_way_and_the_middle_not() {
        // Steps by a fixed rule: more at the bid lifts the mid more often.
        let grid = Grid { spreads: 1, buckets: 3 };
        let state = |bid: i64, ask: i64| grid.state(100, 100, bid, ask).unwrap();
        let mut steps = Steps::new(grid);
        assert_eq!(steps.fit(100), None);
        for _ in 0..3 {
            steps.add(state(9, 1), state(1, 9), 200);
            steps.add(state(9, 1), state(5, 5), 0);
            steps.add(state(5, 5), state(9, 1), 0);
        }
        let table = steps.fit(100).unwrap();
        let found: Vec<f64> = table.adjustment.iter().map(|one| one.unwrap()).collect();
        assert!(found[2] > 0.1 && (found[0] + found[2]).abs() < 1e-15 && found[1].abs() < 1e-15);
        assert_eq!(table.counts, [6, 6, 6]);
    }

    #[test]
    fn states_outside_of_the_grid_are_none() {
        let grid = Grid::default();
        assert_eq!(grid.state(100, 100, 0, 7), Some(0));
        assert_eq!(grid.state(400, 100, 7, 0), Some(19));
        for (spread, tick, bid, ask) in [
            (500, 100, 1, 1),
            (150, 100, 1, 1),
            (0, 100, 1, 1),
            (-100, 100, 1, 1),
            (100, 0, 1, 1),
            (100, 100, 0, 0),
        ] {
            assert_eq!(grid.state(spread, tick, bid, ask), None);
        }
    }
}
