//! The streams of the simulated Binance, by the names that its clients use.

use crate::feeds::binance::interval_ms;
use crate::feeds::{binance::is_futures, FeedId};
use crate::simulator::streams::StreamKind;

/// Reads what stands behind the symbol in a stream's name: `trade`, `depth@100ms` and so on.
/// `None` where the product has no such stream.
pub fn kind_of(text: &str, product: FeedId) -> Option<StreamKind> {
    let usdm = is_futures(product);
    let (name, speed) = text.split_once('@').unwrap_or((text, ""));
    if let Some(interval) = name.strip_prefix("kline_") {
        // Months differ in length, and futures have no bars of one second.
        let length = interval_ms(interval.as_bytes())??;
        let known = speed.is_empty() && !(usdm && length < 60_000);
        let every_ms = match length {
            _ if usdm => 250,
            1000 => 1000,
            _ => 2000,
        };
        return known.then_some(StreamKind::Kline { interval_ms: length, every_ms });
    }
    if let Some(levels) = name.strip_prefix("depth") {
        let every_ms = depth_speed(speed, usdm)?;
        return match levels {
            "" => Some(StreamKind::Depth { every_ms }),
            "5" | "10" | "20" => {
                Some(StreamKind::PartialDepth { levels: levels.parse().ok()?, every_ms })
            }
            _ => None,
        };
    }
    match (name, speed) {
        ("trade", "") => Some(StreamKind::Trade),
        ("aggTrade", "") => Some(StreamKind::AggTrade),
        ("bookTicker", "") => Some(StreamKind::BookTicker),
        ("ticker", "") => Some(StreamKind::Ticker { every_ms: 1000 }),
        ("markPrice", "") if usdm => Some(StreamKind::Mark { every_ms: 3000 }),
        ("markPrice", "1s") if usdm => Some(StreamKind::Mark { every_ms: 1000 }),
        _ => None,
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
            ("kline_1s", Some(StreamKind::Kline { interval_ms: 1000, every_ms: 1000 }), None),
            ("markPrice@1s", None, Some(StreamKind::Mark { every_ms: 1000 })),
            ("depth7", None, None),
            ("depth@0ms", None, None),
            ("kline_1M", None, None),
            ("nothing", None, None),
        ] {
            assert_eq!(kind_of(name, FeedId::BinanceSpot), spot, "{name}");
            assert_eq!(kind_of(name, FeedId::BinanceUsdm), usdm, "{name}");
        }
    }
}
