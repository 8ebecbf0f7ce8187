//! Times in statements: the clock, and what ends by it.

/// The database's clock, in ms since 1970. It stands still within a statement; a Julian day is exact to 0.04 ms.
const NOW: &str = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";

/// The time by the clock that a record was last written with, or now, whichever is later: where the machine's clock has
/// gone back, what the record was written with does not end sooner than it would have.
const CLOCK: &str = "max({now}, coalesce(completed_at, 0))";

/// The time until which nobody may take a record over, by the clock as it is now: NULL where there is none.
///
/// While the clock is behind the time at which the record was written, that is the end that a look has set by this
/// clock, and before such a look none that comes.
const HELD_UNTIL: &str = "iif(completed_at > {now}, behind_until, coalesce(lease_until, not_before))";

/// True if the clock is behind, and the record has no end by this clock yet, or one by a clock that was less far behind;
/// or if the clock is right again.
const FALLEN: &str = "coalesce(lease_until, not_before) IS NOT NULL AND iif(completed_at > {now},
  behind_until IS NULL OR behind_until - {now} > coalesce(lease_until, not_before) - completed_at,
  behind_until IS NOT NULL)";

/// The time by which a renewal with a lease of ?4 ends later than the last one did, by a clock that is behind.
const MOVED: &str = "iif(behind_until BETWEEN {now} AND {now} + ?4, {now} + ?4 - behind_until, 0)";

/// Fills the times into a statement.
pub(super) fn fill(template: &str) -> String {
    template
        .replace("{clock}", CLOCK)
        .replace("{held_until}", HELD_UNTIL)
        .replace("{moved}", MOVED)
        .replace("{fallen}", FALLEN)
        .replace("{now}", NOW)
}
