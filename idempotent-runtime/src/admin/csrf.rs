//! Seals of forms. A form has two: what the operator saw of the record, and a token that says to whom the page gave the form,
//! about which record in which state, and until when.
//!
//! The token is an HMAC under a secret that only the page has, and is bound to the operator's name. Another site does not know it,
//! nor does another operator have one for this name, so no cookie is needed. The nonce of the claim, which would let anybody end
//! it, is in neither.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::store::{Record, RecordKey};

/// The seals that a form carries beside what the operator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) seen: String,
    pub(super) token: String,
}

/// The reason why a form is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsealed {
    /// The page did not give it to this operator for this record.
    Forged,
    /// It has been open for too long.
    Expired,
}

/// Makes seals, and checks them.
pub(super) struct Seals {
    key: Hmac<Sha256>,
    lifetime: Duration,
}

impl Seals {
    pub(super) fn new(secret: &[u8; 32], lifetime: Duration) -> Self {
        // As HMAC has it: a key is filled up with zeros to the length of a block.
        let mut block = [0; 64];
        if let Some(start) = block.first_chunk_mut() {
            *start = *secret;
        }
        Self { key: Hmac::new(&block.into()), lifetime }
    }

    /// Seals the form that an operator gets about a record. Times are since the epoch.
    pub(super) fn seal(&self, operator: &str, record: &Record, now: Duration) -> Sealed {
        let seen = URL_SAFE_NO_PAD.encode(self.seen(record).finalize().into_bytes());
        let expires = now.saturating_add(self.lifetime).as_millis();
        let expires = u64::try_from(expires).unwrap_or(u64::MAX).to_be_bytes();
        let mut token = expires.to_vec();
        token.extend_from_slice(&self.token(operator, &record.key, &seen, expires).finalize().into_bytes());
        Sealed { seen, token: URL_SAFE_NO_PAD.encode(token) }
    }

    /// Checks that this operator was given the form about this record, and not too long ago.
    pub(super) fn check(&self, operator: &str, key: &RecordKey, form: &Sealed, now: Duration) -> Result<(), Unsealed> {
        let token = URL_SAFE_NO_PAD.decode(&form.token).map_err(|_| Unsealed::Forged)?;
        let (expires, mac) = token.split_first_chunk::<8>().ok_or(Unsealed::Forged)?;
        // `verify_slice` takes the same time whichever byte differs.
        self.token(operator, key, &form.seen, *expires).verify_slice(mac).map_err(|_| Unsealed::Forged)?;
        let is_over = Duration::from_millis(u64::from_be_bytes(*expires)) <= now;
        if is_over { Err(Unsealed::Expired) } else { Ok(()) }
    }

    /// True if the record is the one that the form is about.
    pub(super) fn is_seen(&self, record: &Record, form: &Sealed) -> bool {
        let seen = URL_SAFE_NO_PAD.decode(&form.seen).unwrap_or_default();
        self.seen(record).verify_slice(&seen).is_ok()
    }

    fn seen(&self, record: &Record) -> Hmac<Sha256> {
        let seen = record.seen();
        self.mac(&[b"seen", record.key.as_str().as_bytes(), seen.owner().as_bytes(), seen.state().as_bytes()])
    }

    fn token(&self, operator: &str, key: &RecordKey, seen: &str, expires: [u8; 8]) -> Hmac<Sha256> {
        self.mac(&[b"token", operator.as_bytes(), key.as_str().as_bytes(), seen.as_bytes(), &expires])
    }

    /// Each part with its length before it, so that no two lists of parts are the same bytes.
    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        request::fingerprint::Fingerprint,
        store::{Nonce, State},
    };

    const NOW: Duration = Duration::from_secs(1_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn record(key: &str, owner: u8, state: State) -> Record {
        let (key, owner) = (key.parse().expect("a key"), Nonce::from_bytes([owner; 16]));
        Record::new(key, Fingerprint::from_bytes([0; Fingerprint::LEN]), owner.into(), owner, 1, state, HOUR)
    }

    #[test]
    fn a_form_is_for_one_operator_one_record_and_one_hour() {
        let seals = Seals::new(&[7; 32], HOUR);
        let (mine, other) = (record("charge|a", 1, State::Abandoned), record("charge|b", 1, State::Abandoned));
        let form = seals.seal("alice", &mine, NOW);
        assert_eq!(seals.check("alice", &mine.key, &form, NOW), Ok(()));
        assert_eq!(seals.check("alice", &mine.key, &form, NOW + Duration::from_millis(3_599_999)), Ok(()));
        assert_eq!(seals.check("alice", &mine.key, &form, NOW + HOUR), Err(Unsealed::Expired));
        assert_eq!(seals.check("bob", &mine.key, &form, NOW), Err(Unsealed::Forged));
        assert_eq!(seals.check("alice", &other.key, &form, NOW), Err(Unsealed::Forged));
        assert_eq!(Seals::new(&[8; 32], HOUR).check("alice", &mine.key, &form, NOW), Err(Unsealed::Forged));
    }

    #[test]
    fn nothing_of_a_form_can_be_changed() {
        let seals = Seals::new(&[7; 32], HOUR);
        let mine = record("charge|a", 1, State::Abandoned);
        let form = seals.seal("alice", &mine, NOW);
        let bytes = URL_SAFE_NO_PAD.decode(&form.token).expect("base64");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let form = Sealed { token: URL_SAFE_NO_PAD.encode(changed), ..form.clone() };
            assert_eq!(seals.check("alice", &mine.key, &form, NOW), Err(Unsealed::Forged), "byte {at}");
        }
        let later = seals.seal("alice", &record("charge|a", 2, State::Abandoned), NOW);
        for token in ["", "AAAA", "not base64!", &later.token, &form.token[1..]] {
            let form = Sealed { token: token.to_owned(), ..form.clone() };
            assert_eq!(seals.check("alice", &mine.key, &form, NOW), Err(Unsealed::Forged), "{token}");
        }
    }

    #[test]
    fn what_was_seen_is_the_claim_and_the_state() {
        let seals = Seals::new(&[7; 32], HOUR);
        let form = seals.seal("alice", &record("charge|a", 1, State::Abandoned), NOW);
        assert!(seals.is_seen(&record("charge|a", 1, State::Abandoned), &form));
        assert!(!seals.is_seen(&record("charge|a", 2, State::Abandoned), &form));
        assert!(!seals.is_seen(&record("charge|a", 1, State::Failed), &form));
        assert!(!seals.is_seen(&record("charge|b", 1, State::Abandoned), &form));
        let lapsed = seals.seal("alice", &record("charge|a", 1, State::Lapsed), NOW);
        assert!(seals.is_seen(&record("charge|a", 1, State::running(HOUR)), &lapsed), "a renewed lease is no change");
        assert!(!seals.is_seen(&record("charge|a", 1, State::Abandoned), &Sealed { seen: String::new(), ..form }));
    }
}
