//! Turns durations into the whole numbers that stores write: rounded up, never zero, a thousand years at most.

use std::time::Duration;

/// A thousand years, far from the end of any store's time.
const MAX: Duration = Duration::from_secs(1_000 * 366 * 24 * 60 * 60);

/// The duration as one that can be added to any time.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) const fn bounded(duration: Duration) -> Duration {
    if duration.as_secs() < MAX.as_secs() { duration } else { MAX }
}

/// [`MAX`] in milliseconds.
#[cfg(feature = "redis")]
pub(super) const MAX_MILLIS: u64 = MAX.as_secs() * 1000;

/// The duration in milliseconds.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(super) fn millis(duration: Duration) -> u64 {
    whole(duration, Duration::from_millis(1))
}

/// The duration in microseconds.
#[cfg(feature = "postgres")]
pub(super) fn micros(duration: Duration) -> u64 {
    whole(duration, Duration::from_micros(1))
}

fn whole(duration: Duration, unit: Duration) -> u64 {
    let units = duration.min(MAX).as_nanos().div_ceil(unit.as_nanos()).max(1);
    u64::try_from(units).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_and_capped() {
        let millis = |duration| whole(duration, Duration::from_millis(1));
        assert_eq!(millis(Duration::ZERO), 1);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::from_secs(30)), 30_000);
        assert_eq!(millis(Duration::MAX), 31_622_400_000_000);
        assert_eq!(whole(Duration::MAX, Duration::from_micros(1)), 31_622_400_000_000_000);
    }
}
