//! The streams that the market can be heard on.

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StreamKind {
    /// Single fills.
    Trade,
    /// Fills of one taker order at one price.
    AggTrade,
    /// Best bid and offer.
    BookTicker,
    /// Changes of the book, gathered for so long.
    Depth {
        /// How often, in ms.
        every_ms: u32,
    },
    /// The whole top of the book.
    PartialDepth {
        /// Levels a side.
        levels: u32,
        /// How often, in ms.
        every_ms: u32,
    },
    /// The current bar.
    Kline {
        /// Its length in ms.
        interval_ms: u32,
        /// How often, in ms.
        every_ms: u32,
    },
    /// Statistics of the last 24 hours.
    Ticker {
        /// How often, in ms.
        every_ms: u32,
    },
    /// Mark price and funding.
    Mark {
        /// How often, in ms.
        every_ms: u32,
    },
    /// Price bands.
    Bands {
        /// How often, in ms.
        every_ms: u32,
    },
}

impl StreamKind {
    /// How often the stream may speak, in ms; `None` for streams that follow the market.
    pub const fn every_ms(self) -> Option<u32> {
        match self {
            Self::Trade | Self::AggTrade | Self::BookTicker => None,
            Self::Depth { every_ms }
            | Self::PartialDepth { every_ms, .. }
            | Self::Kline { every_ms, .. }
            | Self::Ticker { every_ms }
            | Self::Mark { every_ms }
            | Self::Bands { every_ms } => Some(every_ms),
        }
    }
}
