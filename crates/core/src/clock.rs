//! The only reader of time.
//!
//! Decoders, books and processors never call this: for them, time is in the records.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, UTC, by the host's clock.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How long `then` is past by the host's clock, in ms; 0 if it lies ahead.
pub fn age_ms(then: SystemTime) -> u64 {
    let age = SystemTime::now().duration_since(then).unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// A moment from which to measure how long something takes. It is never stored.
pub fn moment() -> Instant {
    Instant::now()
}
