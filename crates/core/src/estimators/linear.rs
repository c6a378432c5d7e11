//! Least squares on one variable, linear systems, and the first principal component.

/// A line fitted by least squares, with intercept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Change of y for one of x.
    pub slope: f64,
    /// Value at x = 0.
    pub intercept: f64,
    /// t statistic of the slope.
    pub t: f64,
    /// Share of the variance of y that is explained; NaN where y does not vary.
    pub r2: f64,
}

/// Regresses the second of each point on the first; none where x does not vary, or of fewer than
/// three points.
pub fn regress(points: &[(f64, f64)]) -> Option<Line> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        let (dx, dy) = (x - x_mean, y - y_mean);
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    if points.len() < 3 || xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    let rest = (yy - slope * xy).max(0.0);
    let r2 = if yy > 0.0 { 1.0 - rest / yy } else { f64::NAN };
    let t = slope / (rest / (n - 2.0) / xx).sqrt();
    Some(Line { slope, intercept: y_mean - slope * x_mean, t, r2 })
}

/// Solves `matrix * x = right` for each of `columns` right sides; both are row by row, and
/// `right` becomes the solutions. False where the matrix is singular: `right` is then undefined.
pub fn solve(matrix: &mut [f64], right: &mut [f64], columns: usize) -> bool {
    let n = right.len() / columns.max(1);
    for at in 0..n {
        let size = |row: usize| matrix[row * n + at].abs();
        let pivot = (at..n).fold(at, |best, row| if size(row) > size(best) { row } else { best });
        if size(pivot) < f64::EPSILON * f64::EPSILON {
            return false;
        }
        for column in 0..n {
            matrix.swap(at * n + column, pivot * n + column);
        }
        for column in 0..columns {
            right.swap(at * columns + column, pivot * columns + column);
        }
        for row in 0..n {
            let factor = matrix[row * n + at] / matrix[at * n + at];
            if row == at || factor == 0.0 {
                continue;
            }
            for column in at..n {
                matrix[row * n + column] -= factor * matrix[at * n + column];
            }
            for column in 0..columns {
                right[row * columns + column] -= factor * right[at * columns + column];
            }
        }
    }
    for row in 0..n {
        for column in 0..columns {
            right[row * columns + column] /= matrix[row * n + row];
        }
    }
    true
}

/// Weights of the first principal component, and the share of the variance that it explains.
///
/// `rows` are observations of `n` variables, back to back. The weights' sum is positive, that of
/// their sizes 1. None of fewer than two rows, or where nothing varies.
pub fn principal(rows: &[f64], n: usize) -> Option<(Vec<f64>, f64)> {
    let count = rows.len() / n.max(1);
    if count < 2 {
        return None;
    }
    let mut mean = vec![0.0; n];
    for row in rows.chunks_exact(n) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value / count as f64);
    }
    let mut covariance = vec![0.0; n * n];
    for row in rows.chunks_exact(n) {
        for (i, &a) in row.iter().enumerate() {
            for (j, &b) in row.iter().enumerate() {
                covariance[i * n + j] += (a - mean[i]) * (b - mean[j]) / (count - 1) as f64;
            }
        }
    }
    let total: f64 = (0..n).map(|i| covariance[i * n + i]).sum();
    let vectors = rotate(&mut covariance, n);
    let first =
        (0..n).fold(
            0,
            |best, i| {
                if covariance[i * n + i] > covariance[best * n + best] {
                    i
                } else {
                    best
                }
            },
        );
    let mut weights: Vec<f64> = (0..n).map(|i| vectors[i * n + first]).collect();
    let size: f64 = weights.iter().map(|weight| weight.abs()).sum();
    if size <= 0.0 || total <= 0.0 {
        return None;
    }
    let sign = if weights.iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
    weights.iter_mut().for_each(|weight| *weight *= sign / size);
    Some((weights, covariance[first * n + first] / total))
}

/// Makes a symmetric matrix diagonal by Jacobi's rotations, and gives its eigenvectors as columns.
fn rotate(matrix: &mut [f64], n: usize) -> Vec<f64> {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    // Each sweep squares what is left off the diagonal; ten are far more than ever needed.
    for _ in 0..30 {
        let off: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| matrix[i * n + j].powi(2))
            .sum();
        let on: f64 = (0..n).map(|i| matrix[i * n + i].powi(2)).sum();
        if off <= 1e-32 * on {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                turn(matrix, &mut vectors, n, (p, q));
            }
        }
    }
    vectors
}

/// One rotation, after which the element at `p`, `q` is 0.
fn turn(matrix: &mut [f64], vectors: &mut [f64], n: usize, (p, q): (usize, usize)) {
    let off = matrix[p * n + q];
    if off == 0.0 {
        return;
    }
    let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (t * t + 1.0).sqrt();
    let sine = t * cosine;
    for k in 0..n {
        let (a, b) = (matrix[k * n + p], matrix[k * n + q]);
        matrix[k * n + p] = cosine * a - sine * b;
        matrix[k * n + q] = sine * a + cosine * b;
    }
    for k in 0..n {
        let (a, b) = (matrix[p * n + k], matrix[q * n + k]);
        matrix[p * n + k] = cosine * a - sine * b;
        matrix[q * n + k] = sine * a + cosine * b;
    }
    for k in 0..n {
        let (a, b) = (vectors[k * n + p], vectors[k * n + q]);
        vectors[k * n + p] = cosine * a - sine * b;
        vectors[k * n + q] = sine * a + cosine * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_that_of_the_textbook() {
        // y = 3 x + 1, with a residual of +-1 in turn: R2 and t by hand.
        let points: Vec<_> = (0..10)
            .map(|x| (f64::from(x), f64::from(3 * x + 1 + if x % 2 == 0 { 1 } else { -1 })))
            .collect();
        let line = regress(&points).unwrap();
        let (xx, xy, yy) = (82.5, 3.0 * 82.5 - 5.0, 9.0 * 82.5 + 10.0 - 30.0);
        assert!((line.slope - xy / xx).abs() < 1e-12);
        assert!((line.intercept - (14.5 - line.slope * 4.5)).abs() < 1e-12);
        let rest = yy - xy * xy / xx;
        assert!((line.r2 - (1.0 - rest / yy)).abs() < 1e-12);
        assert!((line.t - line.slope / (rest / 8.0 / xx).sqrt()).abs() < 1e-9);
        assert_eq!(regress(&points[..2]), None);
        assert_eq!(regress(&[(1.0, 2.0); 12]), None);
    }

    #[test]
    fn system_with_a_zero_on_its_diagonal_is_solved_and_a_singular_one_refused() {
        let mut right = [5.0, 1.0, 4.0, 2.0];
        assert!(solve(&mut [0.0, 2.0, 1.0, 1.0], &mut right, 2));
        assert_eq!(right, [1.5, 1.5, 2.5, 0.5]);
        assert!(!solve(&mut [1.0, 2.0, 2.0, 4.0], &mut [1.0, 2.0], 1));
    }

    #[test]
    fn principal_component_lies_where_the_points_do() {
        // Two variables that move as 1 to -3, around any mean: the sign makes the sum positive.
        let rows: Vec<f64> =
            (0..9).flat_map(|i| [5.0 + f64::from(i), 7.0 - 3.0 * f64::from(i)]).collect();
        let (weights, share) = principal(&rows, 2).unwrap();
        assert!((weights[0] + 0.25).abs() < 1e-12 && (weights[1] - 0.75).abs() < 1e-12);
        assert!((share - 1.0).abs() < 1e-12);
        assert_eq!(principal(&rows[..2], 2), None);
        assert_eq!(principal(&[1.0; 8], 2), None);
    }
}
