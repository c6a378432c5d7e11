//! The streams that the market can be heard on.

use crate::feeds::binance::interval_ms;
use crate::feeds::{binance::is_futures, FeedId};

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
    },
    /// Statistics of the last 24 hours.
    Ticker,
    /// Mark price and funding.
    Mark {
        /// How often, in ms.
        every_ms: u32,
    },
}

impl StreamKind {
    /// Reads what stands behind the symbol in a stream's name: `trade`, `depth@100ms` and so on.
    /// `None` where the product has no such stream.
    pub fn parse(text: &str, product: FeedId) -> Option<Self> {
        let usdm = is_futures(product);
        let (name, speed) = text.split_once('@').unwrap_or((text, ""));
        if let Some(interval) = name.strip_prefix("kline_") {
            // Months differ in length, and futures have no bars of one second.
            let length = interval_ms(interval.as_bytes())??;
            let known = speed.is_empty() && !(usdm && length < 60_000);
            return known.then_some(Self::Kline { interval_ms: length });
        }
        if let Some(levels) = name.strip_prefix("depth") {
            let every_ms = depth_speed(speed, usdm)?;
            return match levels {
                "" => Some(Self::Depth { every_ms }),
                "5" | "10" | "20" => {
                    Some(Self::PartialDepth { levels: levels.parse().ok()?, every_ms })
                }
                _ => None,
            };
        }
        match (name, speed) {
            ("trade", "") => Some(Self::Trade),
            ("aggTrade", "") => Some(Self::AggTrade),
            ("bookTicker", "") => Some(Self::BookTicker),
            ("ticker", "") => Some(Self::Ticker),
            ("markPrice", "") if usdm => Some(Self::Mark { every_ms: 3000 }),
            ("markPrice", "1s") if usdm => Some(Self::Mark { every_ms: 1000 }),
            _ => None,
        }
    }

    /// How often the stream may speak, in ms; `None` for streams that follow the market.
    pub fn every_ms(self, product: FeedId) -> Option<u32> {
        match self {
            Self::Trade | Self::AggTrade | Self::BookTicker => None,
            Self::Depth { every_ms }
            | Self::PartialDepth { every_ms, .. }
            | Self::Mark { every_ms } => Some(every_ms),
            Self::Kline { .. } if is_futures(product) => Some(250),
            Self::Kline { interval_ms: 1000 } | Self::Ticker => Some(1000),
            Self::Kline { .. } => Some(2000),
        }
    }
}

fn depth_speed(speed: &str, usdm: bool) -> Option<u32> {
    match (speed, usdm) {
        ("", false) => Some(1000),
        ("", true) => Some(250),
        ("100ms", _) => Some(100),
        ("1000ms", false) => Some(1000),
        ("250ms", true) => Some(250),
        ("500ms", true) => Some(500),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_venue_means_them() {
        // One name of each class, on spot and on futures; `None` is a stream that stays silent.
        for (name, spot, usdm) in [
            ("trade", Some(StreamKind::Trade), Some(StreamKind::Trade)),
            (
                "depth",
                Some(StreamKind::Depth { every_ms: 1000 }),
                Some(StreamKind::Depth { every_ms: 250 }),
            ),
            (
                "depth20@100ms",
                Some(StreamKind::PartialDepth { levels: 20, every_ms: 100 }),
                Some(StreamKind::PartialDepth { levels: 20, every_ms: 100 }),
            ),
            ("kline_1s", Some(StreamKind::Kline { interval_ms: 1000 }), None),
            ("markPrice@1s", None, Some(StreamKind::Mark { every_ms: 1000 })),
            ("depth7", None, None),
            ("depth@0ms", None, None),
            ("kline_1M", None, None),
            ("nothing", None, None),
        ] {
            assert_eq!(StreamKind::parse(name, FeedId::BinanceSpot), spot, "{name}");
            assert_eq!(StreamKind::parse(name, FeedId::BinanceUsdm), usdm, "{name}");
        }
    }
}
