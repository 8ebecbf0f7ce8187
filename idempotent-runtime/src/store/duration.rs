//! Durations as stores write them: whole units, rounded up, never zero, and no longer than [`LONGEST`].

use std::time::Duration;

/// A little more than the hundred years that an operation may ask for, and far from the overflow of any store's clock.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    in_units(duration, 1_000_000)
}

/// A duration in microseconds.
#[cfg(feature = "postgres")]
pub(crate) fn micros(duration: Duration) -> u64 {
    in_units(duration, 1_000)
}

fn in_units(duration: Duration, unit_ns: u128) -> u64 {
    let rounded = duration.min(LONGEST).as_nanos().div_ceil(unit_ns).max(1);
    // A hundred years are 3 × 10¹⁵ µs.
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_and_capped() {
        assert_eq!(millis(Duration::ZERO), 1);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::from_secs(30)), 30_000);
        assert_eq!(millis(Duration::MAX), 100 * 366 * 24 * 60 * 60 * 1000);
        #[cfg(feature = "postgres")]
        assert_eq!((micros(Duration::ZERO), micros(Duration::from_nanos(1_001))), (1, 2));
    }
}
