//! What the conditions of a trade of stocks say about the bars of its day.
//!
//! Ids are the vendor's own and the same on all tapes. The rules are those of the SIPs, as
//! published.

use crate::feeds::conditions::{BarSpan, Updates};

/// Ids that only add a remark, such as a state of short sale: no bar looks at them.
const fn is_remark(id: u8) -> bool {
    matches!(id, 0 | 41 | 57..=60 | 62..=71)
}

/// What a trade of that condition may change. Those that set open and close only where they are
/// the first of the day are taken as if they did not: the bar of a later trade has them.
pub const fn updates_of(id: u8) -> Updates {
    match id {
        // Average price, cash, extended hours, next day, price variation, seller, odd lot,
        // contingent.
        2 | 7 | 12 | 13 | 20 | 21 | 29 | 37 | 52 | 53 => Updates::new(false, false, true),
        // Bunched sold, derivatively priced, prior reference, sold out of sequence.
        5 | 10 | 22 | 32 => Updates::new(false, true, true),
        // The official prices are no trades.
        15 | 16 => Updates::new(false, false, false),
        // A corrected close is none either, and sets the close.
        38 => Updates::new(true, true, false),
        _ => Updates::new(true, true, true),
    }
}

/// What a trade of that condition may change of bars of `span`.
pub fn updates_within(id: u8, span: BarSpan) -> Updates {
    match (span, id) {
        // Extended hours have bars of minutes, and no part in that of the day.
        (BarSpan::Intraday, 12) => Updates::ALL,
        // What happened earlier says nothing of its minute.
        (BarSpan::Intraday, 5 | 10 | 22 | 32) => Updates::new(false, false, true),
        (BarSpan::Intraday, 38) => Updates::new(false, false, false),
        _ => updates_of(id),
    }
}

/// The same, or nothing of a mere remark.
pub const fn effect_of(id: u8) -> Option<Updates> {
    if is_remark(id) {
        return None;
    }
    Some(updates_of(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeds::conditions::Kept;

    fn kept(ids: &[u8]) -> [u8; 2] {
        let mut kept = Kept::default();
        ids.iter().for_each(|&id| kept.add(id, effect_of(id)));
        kept.ids()
    }

    #[test]
    fn two_conditions_allow_what_all_of_them_do() {
        // Every set of three of all ids: the two that are kept hold back as much.
        for one in 1..=71 {
            for two in 1..=71 {
                for three in 1..=71 {
                    for span in [BarSpan::Intraday, BarSpan::Daily] {
                        let of = |id| updates_within(id, span);
                        let all = of(one).and(of(two)).and(of(three));
                        let [first, second] = kept(&[one, two, three]);
                        assert_eq!(of(first).and(of(second)), all, "{one} {two} {three} {span:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_published_condition_has_its_rule() {
        // The published table: which ids let a trade change open and close, high and low, and the
        // volume, of the bar of a day and of shorter ones. What is only the first of a day or of a
        // minute if it is the first at all is not taken for it.
        let regular = [0, 1, 3, 4, 8, 9, 11, 14, 17, 18, 19, 23, 24, 25, 27, 28, 30, 34, 36];
        let remarks = [41, 57, 58, 59, 60, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71];
        for (ids, daily, intraday) in [
            (&regular[..], "yyy", "yyy"),
            (&remarks, "yyy", "yyy"),
            (&[2, 7, 13, 20, 21, 29, 37, 52, 53], "nny", "nny"),
            (&[12], "nny", "yyy"),
            (&[5, 10, 22, 32], "nyy", "nny"),
            (&[15, 16], "nnn", "nnn"),
            (&[38], "yyn", "nnn"),
        ] {
            for &id in ids {
                let told = |span| {
                    let Updates { open_close, high_low, volume } = updates_within(id, span);
                    [open_close, high_low, volume].map(|may| if may { 'y' } else { 'n' })
                };
                assert_eq!(String::from_iter(told(BarSpan::Daily)), daily, "{id}");
                assert_eq!(String::from_iter(told(BarSpan::Intraday)), intraday, "{id}");
                let is_remark = id == 0 || remarks.contains(&id);
                assert_eq!(effect_of(id).is_none(), is_remark, "{id}");
            }
        }
    }

    #[test]
    fn remarks_give_way() {
        assert_eq!(kept(&[14, 41]), [14, 41]);
        assert_eq!(kept(&[14, 37, 41]), [37, 14]);
        assert_eq!(kept(&[0, 12]), [12, 0]);
        assert_eq!(kept(&[41, 62, 12, 37]), [12, 37]);
    }
}
