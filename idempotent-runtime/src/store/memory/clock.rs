//! The memory store's clock. The store reads time here and nowhere else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(any(test, feature = "testing"))]
use crate::testing::ManualClock;

/// A point on a store's clock, in nanoseconds since the clock started. It ends after 584 years, and stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The moment this long after the clock started.
    pub(crate) const fn since_start(elapsed: Duration) -> Self {
        Self(nanoseconds(elapsed))
    }

    /// The moment this much later.
    pub(crate) const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// The time until `later`; zero if that has passed.
    pub(crate) const fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

/// The duration in nanoseconds; one that does not fit saturates. This is cheaper than `as_nanos`, which multiplies in 128
/// bits.
const fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

/// A clock that never goes back: the system's, or a test's.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    System {
        start: Instant,
    },
    #[cfg(any(test, feature = "testing"))]
    Manual(ManualClock),
}

impl Clock {
    /// The system's monotonic clock, starting now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub(crate) fn system() -> Self {
        Self::System { start: Instant::now() }
    }

    /// The present.
    pub(crate) fn now(&self) -> Moment {
        match self {
            Self::System { start } => Moment::since_start(start.elapsed()),
            #[cfg(any(test, feature = "testing"))]
            Self::Manual(clock) => Moment::since_start(clock.now()),
        }
    }
}

/// Microseconds since 1970: fences start from there, so that they rise across restarts of the process.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub(crate) fn unix_micros() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate() {
        let end = Moment::since_start(Duration::MAX);
        assert_eq!(end, end.plus(Duration::from_nanos(1)));
        assert_eq!(Moment::since_start(Duration::from_secs(1)).plus(Duration::MAX), end);
        assert_eq!(end.until(Moment::since_start(Duration::ZERO)), Duration::ZERO);
    }

    #[test]
    fn moments_are_exact_to_the_nanosecond() {
        let elapsed = Duration::new(7, 999_999_999);
        let moment = Moment::since_start(elapsed);
        assert_eq!(Moment::since_start(Duration::ZERO).until(moment), elapsed);
        assert_eq!(moment.until(moment.plus(Duration::from_nanos(1))), Duration::from_nanos(1));
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = Clock::system();
        let moments = std::array::from_fn::<_, 1000, _>(|_| clock.now());
        assert!(moments.is_sorted());
    }
}
