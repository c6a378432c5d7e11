use std::collections::BTreeMap;

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
        let grid = Grid::new(step, 0);
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
    let (mut ladder, mut pages) = (Ladder::new(false), Pages::<i64>::new());
    ladder.set(&mut pages, 1, 5);
    for round in 0..30 {
        for tick in 0..1000 {
            ladder.set(&mut pages, 6_000_000_000 + tick * 7, 1 + round);
        }
    }
    assert!(ladder.near_at(6_000_000_000 >> 6).is_some());
    assert_eq!(ladder.walk(&pages).next(), Some((1, 5)));
    assert_eq!(ladder.walk(&pages).count(), 1001);
    assert!(ladder.walk(&pages).map(|(price, _)| price).is_sorted());
}

#[test]
fn steady_state_keeps_its_pages() {
    // Levels come and go for long: no more pages than the fullest moment needed.
    let (mut ladder, mut pages) = (Ladder::new(true), Pages::<i64>::new());
    for tick in 0..10_000 {
        ladder.set(&mut pages, tick, 1);
    }
    let count = pages.all.len();
    for round in 0..50 {
        for tick in 0..10_000 {
            ladder.set(&mut pages, tick, (tick + round) % 3 % 2);
        }
    }
    for tick in 0..10_000 {
        ladder.set(&mut pages, tick, 0);
    }
    assert_eq!(pages.all.len(), count);
    assert_eq!((ladder.len(), pages.free.len()), (0, count));
    assert!(ladder.walk(&pages).next().is_none());
}

#[test]
fn few_pages_become_many_wherever_prices_go() {
    // Prices leave the first pages in both directions, by strides within a page, of a page, of all
    // pages there are at first and of more than are ever near; every third goes again.
    for descending in [false, true] {
        for stride in [1, 63, 64, 65, 500, 511, 4_096, 5_000_000] {
            let (mut ladder, mut pages) = (Ladder::new(descending), Pages::<i64>::new());
            let mut expected = BTreeMap::new();
            for step in 0..600 {
                for price in [1_000 + step * stride, 999 - step * stride] {
                    ladder.set(&mut pages, price, 1 + step);
                    expected.insert(price, 1 + step);
                    assert_eq!(ladder.get(&pages, price), 1 + step);
                }
                if step % 3 == 2 {
                    let price = 1_000 + step / 2 * stride;
                    ladder.set(&mut pages, price, 0);
                    expected.remove(&price);
                }
            }
            assert_eq!(ladder.near.len() % NEAR_PAGES_MIN, 0);
            assert_eq!(ladder.len(), expected.len());
            let mut expected: Vec<_> = expected.into_iter().collect();
            if descending {
                expected.reverse();
            }
            assert!(ladder.walk(&pages).eq(expected), "stride {stride}");
        }
    }
}
