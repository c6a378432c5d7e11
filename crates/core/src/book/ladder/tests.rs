use super::*;

#[test]
fn grid_divides_exactly_or_says_no() {
    // Steps and prices of every shape, against the division of i128.
    let steps = [1, 2, 3, 5, 7, 64, 100, 10_000_000, 12_500_000, 1 << 62, i64::MAX];
    let mut prices = vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX, 1 << 62];
    for step in steps {
        for factor in [-9, -8, -3, -1, 1, 2, 3, 1000] {
            for off in [-1, 0, 1] {
                prices.push(step.wrapping_mul(factor).wrapping_add(off));
            }
        }
    }
    for step in steps {
        let grid = Grid::new(step);
        for &price in &prices {
            let wanted = (price % step == 0).then(|| price / step);
            assert_eq!(grid.index(price), wanted, "step {step} price {price}");
        }
    }
}

#[test]
fn near_pages_follow_the_market() {
    // A stray ask close to 0 comes first and the market stands far away: after a while the
    // market's pages are the near ones, and the stray price is still the best.
    let mut ladder = Ladder::new(false);
    ladder.set(1, 5);
    for round in 0..30 {
        for tick in 0..1000 {
            ladder.set(6_000_000_000 + tick * 7, 1 + round);
        }
    }
    assert!(ladder.near_at(6_000_000_000 >> 6).is_some());
    assert_eq!(ladder.levels().next(), Some(PriceLevel { price: 1, size: 5 }));
    assert_eq!(ladder.levels().count(), 1001);
    assert!(ladder.levels().map(|level| level.price).is_sorted());
}

#[test]
fn steady_state_keeps_its_pages() {
    // Levels come and go for long: no more pages than the fullest moment needed.
    let mut ladder = Ladder::new(true);
    for tick in 0..10_000 {
        ladder.set(tick, 1);
    }
    let pages = ladder.pages.len();
    for round in 0..50 {
        for tick in 0..10_000 {
            ladder.set(tick, (tick + round) % 3 % 2);
        }
    }
    for tick in 0..10_000 {
        ladder.set(tick, 0);
    }
    assert_eq!(ladder.pages.len(), pages);
    assert_eq!((ladder.len(), ladder.free.len()), (0, pages));
    assert!(ladder.levels().next().is_none());
}
