//! What the conditions of a trade of stocks let it change of the bar of its day, by the rules of
//! the SIPs. Which condition says what is the venue's: each numbers or names them its own way.

/// What of a bar a trade may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updates {
    /// Open and close, and with them the last price.
    pub open_close: bool,
    /// High and low.
    pub high_low: bool,
    /// Volume.
    pub volume: bool,
}

/// Which bars are meant: the rules of the SIPs differ for some conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarSpan {
    /// Shorter than a day, extended hours included, and the last price.
    Intraday,
    /// A day or longer: of the regular hours.
    Daily,
}

impl BarSpan {
    /// That of bars of `interval_ms`.
    pub const fn of(interval_ms: u32) -> Self {
        if interval_ms < 86_400_000 {
            Self::Intraday
        } else {
            Self::Daily
        }
    }
}

impl Updates {
    /// All of a bar.
    pub const ALL: Self = Self::new(true, true, true);

    /// Those of one condition.
    pub const fn new(open_close: bool, high_low: bool, volume: bool) -> Self {
        Self { open_close, high_low, volume }
    }

    /// How much it holds back.
    const fn rank(self) -> u8 {
        !self.open_close as u8 + !self.high_low as u8 + 3 * !self.volume as u8
    }

    /// What both of two conditions allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::new(
            self.open_close && other.open_close,
            self.high_low && other.high_low,
            self.volume && other.volume,
        )
    }
}

/// The two conditions that a record has room for: those that hold back most come first, and
/// remarks last, so that what all of them allow is what these two do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    ids: [u8; 2],
    ranks: [u8; 2],
}

impl Kept {
    /// Takes in the next one, and what it lets a trade change; none of a remark, such as a state
    /// of short sale, at which no bar looks. 0 is no condition.
    pub fn add(&mut self, id: u8, updates: Option<Updates>) {
        if id == 0 || self.ids.contains(&id) {
            return;
        }
        let rank = 1 + updates.map_or(0, |updates| 1 + updates.rank());
        if rank > self.ranks[0] {
            self.ids = [id, self.ids[0]];
            self.ranks = [rank, self.ranks[0]];
        } else if rank > self.ranks[1] {
            self.ids[1] = id;
            self.ranks[1] = rank;
        }
    }

    /// Both, 0 = none.
    pub const fn ids(self) -> [u8; 2] {
        self.ids
    }
}
