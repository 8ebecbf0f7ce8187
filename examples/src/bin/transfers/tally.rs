//! Counts the answers.

use std::collections::{BTreeMap, btree_map::Entry};

use idempotent_examples::chain;
use idempotent_runtime::Error;
use serde::Serialize;

use crate::{
    audit::Books,
    transfer::{Answer, Receipt, Transfer, TransferError},
};

/// One delivery of a request.
pub(crate) struct Delivery {
    pub(crate) transfer: Transfer,
    /// `None` if the client did not wait for it.
    pub(crate) answer: Option<Answer>,
}

/// The counts of the answers, and the sums of the books.
#[derive(Default, Serialize)]
pub(crate) struct Summary {
    /// Requests by id: all, those that clients were told were made, and those refused.
    pub(crate) transfers: u64,
    pub(crate) made: u64,
    pub(crate) refused: u64,
    /// Deliveries. Each is counted in exactly one of the next five.
    pub(crate) deliveries: u64,
    pub(crate) executions: u64,
    pub(crate) replays: u64,
    pub(crate) mismatches: u64,
    pub(crate) gave_up: u64,
    pub(crate) errors: u64,
    /// Transactions that were begun anew.
    pub(crate) retries: u64,
    /// Commits of transfers that failed or were not answered, and those of them that were applied all the same.
    pub(crate) commits_in_doubt: u64,
    pub(crate) commits_applied: u64,
    /// Answers that differ from an earlier one; transfers that a client was told of and the books do not show.
    pub(crate) changed_answers: u64,
    pub(crate) lost: u64,
    /// `None` if they were not checked.
    pub(crate) books: Option<Books>,
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
}

impl Summary {
    /// The mistakes, each with its count.
    pub(crate) fn mistakes(&self) -> Vec<(&'static str, i64)> {
        let told = [("answers changed", self.changed_answers), ("transfers lost", self.lost), ("errors", self.errors)];
        let told = told.into_iter().filter(|(_, count)| *count != 0);
        let told = told.map(|(what, count)| (what, i64::try_from(count).unwrap_or(i64::MAX)));
        told.chain(self.books.iter().flat_map(Books::mistakes)).collect()
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.mistakes().is_empty()
    }
}

/// The summary in the making.
#[derive(Default)]
pub(crate) struct Tally {
    summary: Summary,
    /// The first answer to each request.
    told: BTreeMap<String, (Transfer, Result<Receipt, String>)>,
}

impl Extend<Vec<Delivery>> for Tally {
    fn extend<I: IntoIterator<Item = Vec<Delivery>>>(&mut self, clients: I) {
        for delivery in clients.into_iter().flatten() {
            self.add(delivery);
        }
    }
}

impl Tally {
    fn add(&mut self, Delivery { transfer, answer }: Delivery) {
        let summary = &mut self.summary;
        summary.deliveries += 1;
        let Some(Answer { result, disposition, retries, in_doubt }) = answer else {
            summary.gave_up += 1;
            return;
        };
        summary.retries += retries;
        summary.commits_in_doubt += in_doubt.len() as u64;
        let answer = match result {
            Ok(receipt) => Ok(receipt),
            Err(error) if error.is_final() => Err(error.to_string()),
            Err(TransferError::Idempotency(Error::Mismatch { .. })) => {
                summary.mismatches += 1;
                return;
            }
            Err(error) => {
                summary.errors += 1;
                summary.first_error.get_or_insert_with(|| format!("transfer {}: {}", transfer.id, chain(&error)));
                return;
            }
        };
        summary.executions += u64::from(disposition.ran());
        summary.replays += u64::from(!disposition.ran());
        // An entry's number is unique. The same number as before the failed commit means that this commit was applied.
        summary.commits_applied += in_doubt.iter().filter(|receipt| answer.as_ref() == Ok(receipt)).count() as u64;
        match self.told.entry(transfer.id.clone()) {
            Entry::Occupied(first) => {
                let (first, told) = first.get();
                summary.changed_answers += u64::from(*told != answer || first.cents != transfer.cents);
            }
            Entry::Vacant(first) => {
                summary.transfers += 1;
                summary.made += u64::from(answer.is_ok());
                summary.refused += u64::from(answer.is_err());
                first.insert((transfer, answer));
            }
        }
    }

    /// The transfers that clients were told were made.
    pub(crate) fn made(&self) -> impl Iterator<Item = (&Transfer, &Receipt)> {
        self.told.values().filter_map(|(transfer, answer)| Some((transfer, answer.as_ref().ok()?)))
    }

    /// Notes how many of them the books do not show.
    pub(crate) fn lost(&mut self, count: u64) {
        self.summary.lost = count;
    }

    pub(crate) fn summary(self, books: Option<Books>) -> Summary {
        Summary { books, ..self.summary }
    }
}
