//! The only reader of time.
//!
//! Decoders, books and processors never call this: for them, time is in the records. Receive times
//! come from [`RecvClock`], which rises whatever is done to the host's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

const MS: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
/// The wall clock is trusted while it is no further from the receive times than this.
const TRUSTED_NS: i64 = 250 * MS;
/// A wall clock that is ahead is followed once it stayed where it is for so many looks.
const LOOKS: u32 = 10;
/// How receive times are brought to a wall clock that is near: by at most one part in this.
const SLEW: i64 = 2_000;
/// How they wait for a wall clock that is behind: they go on slower by one part in this.
const WAIT: i64 = 8;

/// Nanoseconds since the Unix epoch, UTC, by the host's clock.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A second since the Unix epoch as text that names of files may hold, such as `20261128T183228Z`.
pub fn utc_text(seconds: i64) -> String {
    let (mut days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let (mut year, mut month) = (1970, 1);
    while days < 0 {
        year -= 1;
        days += year_days(year);
    }
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    while days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}{month:02}{:02}T{hour:02}{minute:02}{:02}Z", days + 1, second % 60)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn year_days(year: i64) -> i64 {
    if is_leap(year) {
        366
    } else {
        365
    }
}

const fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Nanoseconds that only rise, also while the host sleeps.
fn steady_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` alone. It cannot fail on the systems that are supported;
    // should it, the time stands still, and the wall clock is found ahead.
    unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
    }
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
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

/// What a look at the wall clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// The receive time when it was noticed, in ns.
    pub ts: i64,
    /// The wall clock then, in ns.
    pub wall: i64,
    /// Whether receive times are to be doubted from here on.
    pub suspect: bool,
    /// By how much the receive times were moved ahead, in ns.
    pub moved: i64,
}

/// Receive times: a steady clock that was set by the wall clock at the start.
///
/// They never fall, and follow no step of the wall clock. A wall clock that is near is approached
/// slowly. One that is ahead, and stays there, is taken over in one declared step. One that is
/// behind is waited for. While the two are apart, receive times are suspect.
#[derive(Debug, Clone)]
pub struct RecvClock {
    steady: i64,
    ts: i64,
    /// The rate is one and this many parts in `SLEW` times `WAIT`.
    slew: i64,
    last: i64,
    /// The wall clock less the receive time, at the last look.
    off: i64,
    looks: u32,
    suspect: bool,
}

impl RecvClock {
    /// A clock that goes on from `last`, the newest receive time of the tape, if there is one.
    pub fn start(last: Option<i64>) -> Self {
        Self::start_at(steady_ns(), now_ns(), last)
    }

    fn start_at(steady: i64, wall: i64, last: Option<i64>) -> Self {
        let ts = last.map_or(wall, |last| wall.max(last.saturating_add(1)));
        // Whatever is wrong at the start is told by the first look.
        Self { steady, ts, slew: 0, last: ts, off: 0, looks: 0, suspect: false }
    }

    /// The receive time of this moment, in ns.
    #[inline]
    pub fn now(&mut self) -> i64 {
        self.at(steady_ns())
    }

    #[inline]
    fn at(&mut self, steady: i64) -> i64 {
        let passed = steady.saturating_sub(self.steady).max(0);
        let ts = self.ts.saturating_add(passed + passed / (SLEW * WAIT) * self.slew);
        self.last = self.last.max(ts);
        self.last
    }

    /// Whether the wall clock contradicts the receive times.
    pub const fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Looks at the wall clock, which should be done every second. Gives what is to be noted.
    pub fn look(&mut self) -> Option<ClockStep> {
        self.look_at(steady_ns(), now_ns())
    }

    fn look_at(&mut self, steady: i64, wall: i64) -> Option<ClockStep> {
        let ts = self.at(steady);
        let off = wall.saturating_sub(ts);
        let stays = off.saturating_sub(self.off).saturating_abs() <= TRUSTED_NS;
        (self.steady, self.ts, self.off) = (steady, ts, off);
        self.looks = if stays { self.looks.saturating_add(1) } else { 0 };
        let was_suspect = self.suspect;
        let is_near = off.saturating_abs() <= TRUSTED_NS;
        let mut moved = 0;
        if !is_near && off > 0 && self.looks >= LOOKS {
            (self.ts, self.last, self.off, moved) = (wall, wall, 0, off);
        }
        self.suspect = !is_near && moved == 0;
        self.slew = match off {
            _ if moved > 0 || off.saturating_abs() < MS => 0,
            _ if is_near => off.signum() * WAIT,
            _ if off < 0 => -SLEW,
            _ => 0,
        };
        let is_news = self.suspect != was_suspect || (self.suspect && !stays);
        is_news.then_some(ClockStep { ts: self.last, wall, suspect: self.suspect, moved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const START: i64 = 1_700_000_000 * SECOND;

    /// Looks every second for `seconds`, with the wall clock `off` from the steady one. Gives what
    /// was noted, and checks that time rises.
    fn run(clock: &mut RecvClock, from: i64, seconds: i64, off: i64) -> Vec<ClockStep> {
        let mut noted = Vec::new();
        for second in from..from + seconds {
            let before = clock.last;
            let steady = second * SECOND;
            noted.extend(clock.look_at(steady, START + steady + off));
            let now = clock.at(steady);
            assert!(now >= before && clock.at(steady + SECOND / 2) > now);
        }
        noted
    }

    #[test]
    fn a_second_is_told_as_its_date_and_time() {
        // Leap days, the last second of a year, before 1970; compared with `date -u`.
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (-1, "19691231T235959Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_890_748, "20261128T183228Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc_text(seconds), text);
        }
    }

    #[test]
    fn steps_of_the_wall_clock_are_told_and_not_followed() {
        // Set back by an hour, and then right again: the receive times go on, suspect meanwhile.
        let mut clock = RecvClock::start_at(0, START, None);
        assert!(run(&mut clock, 0, 10, 0).is_empty());
        let noted = run(&mut clock, 10, 10, -3600 * SECOND);
        assert_eq!(noted.len(), 1);
        assert!(noted[0].suspect && noted[0].moved == 0 && clock.is_suspect());
        assert_eq!(noted[0].wall - noted[0].ts, -3600 * SECOND);
        let noted = run(&mut clock, 20, 30, 0);
        assert!(!noted.last().unwrap().suspect && !clock.is_suspect());
        let off = clock.at(50 * SECOND) - (START + 50 * SECOND);
        assert!(off.abs() <= 2 * SECOND, "{off}");
    }

    #[test]
    fn wall_clock_that_stays_ahead_is_taken_over_in_one_step() {
        // An hour ahead for good: after ten looks it is believed. One reading never is.
        let mut clock = RecvClock::start_at(0, START, None);
        run(&mut clock, 0, 5, 0);
        assert_eq!(run(&mut clock, 5, 1, 30 * 86_400 * SECOND).len(), 1);
        assert_eq!(run(&mut clock, 6, 4, 0).len(), 1);
        assert!(clock.at(10 * SECOND) < START + 11 * SECOND);
        let noted = run(&mut clock, 10, 20, 3600 * SECOND);
        let last = noted.last().unwrap();
        assert!(!last.suspect && (last.moved - 3600 * SECOND).abs() < SECOND);
        assert_eq!(clock.at(30 * SECOND), START + 3630 * SECOND);
    }

    #[test]
    fn clock_behind_the_tape_is_waited_for() {
        // The tape ends 40 s ahead of the wall clock: times rise from there, at seven eighths.
        let mut clock = RecvClock::start_at(0, START, Some(START + 40 * SECOND));
        let noted = run(&mut clock, 0, 400, 0);
        assert!(noted[0].suspect && noted[0].ts > START + 40 * SECOND);
        assert_eq!(noted.len(), 2);
        assert!(!clock.is_suspect());
        assert!(noted[1].ts < START + 340 * SECOND);
    }

    #[test]
    fn drift_of_the_wall_clock_is_followed_slowly() {
        // 100 ms off, which is no step: half a millisecond a second brings the two together.
        let mut clock = RecvClock::start_at(0, START, None);
        assert!(run(&mut clock, 0, 300, 100 * MS).is_empty());
        let off = clock.at(300 * SECOND) - (START + 300 * SECOND);
        assert!((off - 100 * MS).abs() < 2 * MS, "{off}");
    }
}
