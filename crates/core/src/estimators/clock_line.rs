//! How far two clocks are apart, and how fast they drift, by one-way delays alone.
//!
//! Among all lines under the points (time sent, delay) the one with the least total distance to
//! them is an edge of their lower hull: that above the mean of the times (Moon, Skelly & Towsley
//! 1999; Zhang, Liu & Xia 2002). Its slope is the drift; its height the offset and the smallest
//! delay together, which one-way delays cannot tell apart.

/// The lower hull of points whose first coordinate never falls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hull {
    points: Vec<(i64, i64)>,
    count: u64,
    sum: i128,
}

/// A line below all points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockLine {
    /// Drift: ns of delay for one ns of time.
    pub slope: f64,
    /// A point that it goes through.
    pub through: (i64, i64),
}

impl ClockLine {
    /// The height of the line at `x`.
    pub fn at(&self, x: i64) -> f64 {
        self.slope * (i128::from(x) - i128::from(self.through.0)) as f64 + self.through.1 as f64
    }
}

impl Hull {
    /// Adds a point. One whose `x` is below that of the point before counts at that one's.
    pub fn add(&mut self, x: i64, y: i64) {
        let x = self.points.last().map_or(x, |last| x.max(last.0));
        self.count += 1;
        self.sum += i128::from(x);
        if let Some(last) = self.points.last_mut().filter(|last| last.0 == x) {
            if y >= last.1 {
                return;
            }
            self.points.pop();
        }
        while let [.., a, b] = self.points[..] {
            if turns_left(a, b, (x, y)) {
                break;
            }
            self.points.pop();
        }
        self.points.push((x, y));
    }

    /// Points that were added.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The hull of the points of several hulls, which follow each other.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut whole = Self::default();
        let (mut count, mut sum) = (0, 0);
        for part in parts {
            part.points.iter().for_each(|&(x, y)| whole.add(x, y));
            (count, sum) = (count + part.count, sum + part.sum);
        }
        Self { count, sum, ..whole }
    }

    /// The corners of the hull, in their order.
    pub fn corners(&self) -> &[(i64, i64)] {
        &self.points
    }

    /// The state, to be continued by [`Hull::from_parts`].
    pub const fn parts(&self) -> (u64, i128) {
        (self.count, self.sum)
    }

    /// A hull of `corners`, and of what [`Hull::parts`] told.
    pub const fn from_parts(corners: Vec<(i64, i64)>, (count, sum): (u64, i128)) -> Self {
        Self { points: corners, count, sum }
    }

    /// The line; none of fewer than two corners.
    pub fn line(&self) -> Option<ClockLine> {
        let n = i128::from(self.count.max(1));
        // The edge whose end lies at or behind the mean.
        let end = self.points.partition_point(|point| i128::from(point.0) * n < self.sum);
        let end = end.clamp(1, self.points.len().checked_sub(1).filter(|&last| last > 0)?);
        let (a, b) = (self.points[end - 1], self.points[end]);
        let rise = (i128::from(b.1) - i128::from(a.1)) as f64;
        let slope = rise / (i128::from(b.0) - i128::from(a.0)) as f64;
        Some(ClockLine { slope, through: a })
    }
}

/// Whether the way from `a` over `b` to `c` turns to the left.
fn turns_left(a: (i64, i64), b: (i64, i64), c: (i64, i64)) -> bool {
    let step = |to: i64, from: i64| i128::from(to) - i128::from(from);
    // Steps of 65 bits: their products fit where times and delays are ns of some decades.
    let one = step(b.0, a.0).checked_mul(step(c.1, a.1));
    let other = step(b.1, a.1).checked_mul(step(c.0, a.0));
    matches!((one, other), (Some(one), Some(other)) if one > other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_lies_below_all_points_and_has_their_drift() {
        // Delays of 100 and more, over a clock that gains 1 in 1,000.
        let mut hull = Hull::default();
        let points: Vec<(i64, i64)> =
            (0..1_000).map(|i| (i * 1_000, 100 + i + (i * 7_919) % 50)).collect();
        for &(x, y) in &points {
            hull.add(x, y);
        }
        let line = hull.line().unwrap();
        assert!((line.slope - 1e-3).abs() < 1e-6);
        assert!(points.iter().all(|&(x, y)| y as f64 >= line.at(x) - 1e-6));
        assert!((line.at(0) - 100.0).abs() < 2.0);
    }

    #[test]
    fn points_of_one_time_are_one_corner() {
        let mut hull = Hull::default();
        [(5, 9), (5, 3), (5, 7), (4, 1)].iter().for_each(|&(x, y)| hull.add(x, y));
        assert_eq!((hull.corners(), hull.line()), (&[(5, 1)][..], None));
        hull.add(10, 6);
        assert_eq!(hull.line(), Some(ClockLine { slope: 1.0, through: (5, 1) }));
    }
}
