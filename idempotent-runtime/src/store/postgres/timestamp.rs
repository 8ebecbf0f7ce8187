//! Reads times as they are in rows, so that the server need not compute with them.

use std::time::Duration;

use sqlx::{
    Postgres,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueFormat, PgValueRef, types::Oid},
};

/// A time of the server's, `timestamptz`.
#[derive(Clone, Copy)]
pub(super) struct Timestamp {
    /// Since 2000. <https://www.postgresql.org/docs/current/datatype-datetime.html>
    micros: i64,
}

impl Timestamp {
    /// The time since an earlier one; `None` if that is not earlier.
    pub(super) fn since(self, earlier: Self) -> Option<Duration> {
        let micros = u64::try_from(self.micros.saturating_sub(earlier.micros)).ok()?;
        (micros > 0).then(|| Duration::from_micros(micros))
    }
}

impl sqlx::Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        // `timestamptz` in pg_type.dat.
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl sqlx::Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a time as text".into());
        }
        Ok(Self { micros: i64::from_be_bytes(value.as_bytes()?.try_into()?) })
    }
}
