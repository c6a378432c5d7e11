//! What the conditions of a trade say about the bars of its day.
//!
//! Conditions are letters of the SIPs. One of them, `B`, means one thing on the tapes of NYSE and
//! of the regional exchanges and another on that of Nasdaq: there it is stored as `b`.

use crate::feeds::conditions::{BarSpan, Updates};

/// Stands for a condition that is no single letter.
const OTHER_CONDITION: u8 = u8::MAX;
/// Added to the letters of options, of which it is not published what they say about bars.
const OF_OPTIONS: u8 = 128;

/// The number of the condition `text` of a trade of an option; 0 is none.
pub const fn condition_of_option(text: &[u8]) -> u8 {
    match text {
        [] => 0,
        [letter @ ..127] => *letter + OF_OPTIONS,
        _ => OTHER_CONDITION,
    }
}

/// The letter of a condition, whatever it is of.
pub const fn letter_of(id: u8) -> u8 {
    match id {
        b'b' => b'B',
        OTHER_CONDITION => id,
        _ => id % OF_OPTIONS,
    }
}

/// The number of the condition `text` of a trade on `tape`; 0 is none.
pub const fn condition(text: &[u8], tape: &[u8]) -> u8 {
    match (text, tape) {
        ([], _) => 0,
        (b"B", b"C" | b"O") => b'b',
        ([letter], _) => *letter,
        _ => OTHER_CONDITION,
    }
}

/// What a trade of that condition may change; none of a regular one, or one that is not known.
/// Those that set open and close only where they are the first of the day are taken as if they did
/// not: the bar of a later trade has them.
pub const fn effect_of(id: u8) -> Option<Updates> {
    match id {
        b' ' | b'@' | OTHER_CONDITION => None,
        // Average price, cash, price variation, odd lot, next day, seller, extended hours and the
        // same out of sequence, contingent.
        b'B' | b'W' | b'C' | b'H' | b'I' | b'N' | b'R' | b'T' | b'U' | b'V' | b'7' => {
            Some(Updates::new(false, false, true))
        }
        // Bunched sold, prior reference, sold out of sequence, derivatively priced.
        b'G' | b'P' | b'Z' | b'4' => Some(Updates::new(false, true, true)),
        // The official prices are no trades.
        b'M' | b'Q' => Some(Updates::new(false, false, false)),
        // A corrected close is none either, and sets the close.
        b'9' => Some(Updates::new(true, true, false)),
        _ => Some(Updates::new(true, true, true)),
    }
}

/// What a trade of that condition may change of bars of `span`.
pub fn updates_within(id: u8, span: BarSpan) -> Updates {
    match (span, id) {
        // Extended hours have bars of minutes, and no part in that of the day.
        (BarSpan::Intraday, b'T') => Updates::ALL,
        // What happened earlier says nothing of its minute.
        (BarSpan::Intraday, b'G' | b'P' | b'Z' | b'4') => Updates::new(false, false, true),
        (BarSpan::Intraday, b'9') => Updates::new(false, false, false),
        _ => effect_of(id).unwrap_or(Updates::ALL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeds::conditions::Kept;

    #[test]
    fn those_that_hold_back_most_are_kept() {
        for (told, tape, kept) in [
            (&["@", "F", "T", "I"][..], "C", *b"TI"),
            (&[" ", "F"], "A", *b"F "),
            (&["@"], "C", [b'@', 0]),
            (&["B"], "A", [b'B', 0]),
            (&["B"], "C", [b'b', 0]),
            (&["@", "Q", "I"], "C", *b"QI"),
            (&["", "XY"], "C", [255, 0]),
        ] {
            let mut found = Kept::default();
            for text in told {
                let id = condition(text.as_bytes(), tape.as_bytes());
                found.add(id, effect_of(id));
            }
            assert_eq!(found.ids(), kept, "{told:?}");
        }
    }

    #[test]
    fn letters_of_options_hold_nothing_back() {
        assert_eq!(condition_of_option(b""), 0);
        assert_eq!(condition_of_option(b"ab"), OTHER_CONDITION);
        for letter in 1..127 {
            let id = condition_of_option(&[letter]);
            assert_eq!(letter_of(id), letter);
            assert_eq!(updates_within(id, BarSpan::Daily), Updates::ALL);
        }
    }
}
