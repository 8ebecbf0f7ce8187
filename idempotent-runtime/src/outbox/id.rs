//! The ids of messages: the same in each attempt of a run, so that the next inbox knows the message again.

use std::{collections::HashMap, sync::Mutex};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::outgoing::part;
use crate::{engine::claim::Claim, lock::lock};

/// The id of the message of a run under this label.
pub(super) fn labelled(claim: &Claim, label: &str) -> Uuid {
    of_run(claim, |hash| {
        hash.update(b"label");
        part(hash, label.as_bytes());
    })
}

/// The id of a message of a run without a label: by what it says, and which of several that say the same it is.
///
/// Not by the place among all messages of the run: another attempt may take another path, and its first message is not the one that
/// this attempt published first.
pub(super) fn unlabelled(claim: &Claim, digest: &[u8; 32], place: usize) -> Uuid {
    of_run(claim, |hash| {
        hash.update(b"digest");
        hash.update(digest);
        hash.update((place as u64).to_le_bytes());
    })
}

/// The id of a message that belongs to no run.
pub(super) fn alone() -> Uuid {
    Uuid::now_v7()
}

fn of_run(claim: &Claim, name: impl FnOnce(&mut Sha256)) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"idempotent outbox id 1\0");
    part(&mut hash, claim.context().key().as_str().as_bytes());
    hash.update(claim.generation().as_bytes());
    name(&mut hash);
    let hash: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(byte, of_hash)| *byte = of_hash);
    Uuid::new_v8(bytes)
}

/// The messages that a run has published without a label, by what they say.
///
/// Kept with the claim, so that each attempt counts anew: its second "ping" is that of the attempt before. A message that
/// was taken back with its transaction gives its place back. Else an attempt that rolled back once and one that did not
/// would give one message two ids.
#[derive(Default)]
pub(crate) struct Publications(Mutex<HashMap<[u8; 32], Vec<Place>>>);

/// The place of a message among its equals.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It is being published; or that was given up, and nobody knows.
    Taken,
    /// It is in a transaction, which may have been rolled back since.
    Published(Written),
    /// Nothing has it.
    Free,
}

/// The database's word on an insertion: it tells later whether that was rolled back.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Written {
    #[cfg(feature = "postgres")]
    Transaction(String),
    #[cfg(feature = "sqlite")]
    Row(i64),
}

impl Publications {
    /// The places of equal messages.
    pub(super) fn places(&self, digest: &[u8; 32]) -> Vec<Place> {
        self.locked(|places| places.get(digest).cloned().unwrap_or_default())
    }

    /// Takes a place: one that is free, or `taken_back` if it still is as it was, or the next one. `seen` are the places as
    /// they were when the database was asked.
    pub(super) fn take(&self, digest: &[u8; 32], seen: &[Place], taken_back: Option<usize>) -> usize {
        self.locked(|places| {
            let places = places.entry(*digest).or_default();
            let taken_back = taken_back.filter(|&at| places.get(at) == seen.get(at));
            let free = taken_back.or_else(|| places.iter().position(|place| *place == Place::Free));
            let at = free.unwrap_or_else(|| {
                places.push(Place::Taken);
                places.len() - 1
            });
            if let Some(place) = places.get_mut(at) {
                *place = Place::Taken;
            }
            at
        })
    }

    pub(super) fn set(&self, digest: &[u8; 32], at: usize, place: Place) {
        self.locked(|places| {
            if let Some(found) = places.get_mut(digest).and_then(|places| places.get_mut(at)) {
                *found = place;
            }
        });
    }

    fn locked<T>(&self, act: impl FnOnce(&mut HashMap<[u8; 32], Vec<Place>>) -> T) -> T {
        act(&mut lock(&self.0))
    }
}
