//! The audit: compares the answers that clients got with the bank's books.

use std::collections::{BTreeMap, HashSet};

use crate::{
    ledger::{Answer, Row, settled},
    log::Kind,
};

/// An answer to a client that says that money moved.
#[derive(PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) kind: Kind,
    pub(crate) transaction: String,
    pub(crate) amount_cents: u64,
    pub(crate) currency: String,
}

/// The movements on an order's account.
pub(crate) struct Account<'a> {
    /// The movements of money, each once.
    pub(crate) movements: Vec<&'a Row>,
    /// A function ran without a reason.
    ran_twice: bool,
}

impl<'a> Account<'a> {
    /// Reads an account.
    pub(crate) fn read(rows: &'a [Row]) -> Self {
        let mut runs = HashSet::new();
        let mut by_key: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        // The same run twice is one request that was sent twice, because its reply was lost.
        for row in rows.iter().filter(|row| runs.insert(row.run.as_str())) {
            by_key.entry(&row.bank_key).or_default().push(row);
        }
        let settled = by_key.keys().filter_map(|key| settled(rows, key));
        let movements = settled.filter(|row| row.answer == Answer::Approved).collect();
        Self { movements, ran_twice: by_key.into_values().any(ran_twice) }
    }

    /// True if the order was charged more than once, or a function ran without a reason and only the bank's own check kept it
    /// from charging again.
    pub(crate) fn charged_twice(&self) -> bool {
        self.ran_twice || self.movements.iter().filter(|row| row.kind == Kind::Charge).count() > 1
    }

    /// True if the account shows what the client was told.
    pub(crate) fn shows(&self, accepted: &Accepted) -> bool {
        self.movements.iter().any(|row| {
            row.kind == accepted.kind
                && row.transaction() == accepted.transaction
                && row.amount_cents == accepted.amount_cents
                && row.currency == accepted.currency
        })
    }
}

/// True if one of a key's runs has no reason.
///
/// In the order of their fences, attempts rise from run to run, until a run frees the key, which here only an unavailable bank
/// makes it do. So a second run with the same attempt is one too many.
fn ran_twice(mut runs: Vec<&Row>) -> bool {
    runs.sort_by_key(|row| row.fence);
    let mut attempts = HashSet::new();
    runs.into_iter().any(|row| {
        let again = !attempts.insert(row.attempt);
        if row.answer == Answer::Unavailable {
            attempts.clear();
        }
        again
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: &str, bank_key: &str, attempt: u32, answer: Answer) -> Row {
        Row {
            kind: Kind::Charge,
            run: run.to_owned(),
            bank_key: bank_key.to_owned(),
            attempt,
            fence: 0,
            amount_cents: 100,
            currency: "EUR".to_owned(),
            answer,
        }
    }

    fn approved(run: &str, bank_key: &str, attempt: u32) -> Row {
        row(run, bank_key, attempt, Answer::Approved)
    }

    #[test]
    fn one_debit_is_one_charge() {
        let rows = [approved("a", "k", 1)];
        let account = Account::read(&rows);
        assert_eq!(account.movements.len(), 1);
        assert!(!account.charged_twice());
    }

    #[test]
    fn two_bank_keys_are_two_charges() {
        assert!(Account::read(&[approved("a", "k", 1), approved("b", "l", 1)]).charged_twice());
    }

    #[test]
    fn the_same_attempt_again_is_a_run_too_many() {
        let rows = [approved("a", "k", 1), approved("b", "k", 1)];
        let account = Account::read(&rows);
        assert_eq!(account.movements.len(), 1, "the bank recognised its key");
        assert!(account.charged_twice(), "and yet the function ran again");
        let unavailable = [approved("a", "k", 1), row("b", "k", 1, Answer::Unavailable)];
        assert!(Account::read(&unavailable).charged_twice());
        let declined = [row("a", "k", 1, Answer::Declined), row("b", "k", 1, Answer::Declined)];
        assert!(Account::read(&declined).charged_twice());
    }

    #[test]
    fn takeovers_outages_and_lost_replies_are_no_runs_too_many() {
        let crash = [approved("a", "k", 1), approved("b", "k", 2)];
        assert!(!Account::read(&crash).charged_twice());
        let outages = [
            row("a", "k", 1, Answer::Unavailable),
            row("b", "k", 1, Answer::Unavailable),
            approved("c", "k", 1),
            row("d", "k", 2, Answer::Unavailable),
            approved("e", "k", 1),
        ];
        let account = Account::read(&outages);
        assert!(!account.charged_twice());
        assert_eq!(account.movements[0].run, "c");
        let sent_twice = [approved("a", "k", 1), approved("a", "k", 1)];
        assert!(!Account::read(&sent_twice).charged_twice());
    }

    #[test]
    fn a_paused_run_that_is_late_is_no_run_too_many() {
        let with_fence = |fence, row| Row { fence, ..row };
        let paused = with_fence(1, approved("a", "k", 1));
        let taken_over = with_fence(2, row("b", "k", 2, Answer::Unavailable));
        let freed = with_fence(3, approved("c", "k", 1));
        assert!(!Account::read(&[taken_over.clone(), freed.clone(), paused]).charged_twice());
        let again = with_fence(4, approved("d", "k", 1));
        assert!(Account::read(&[taken_over, freed, again]).charged_twice());
    }

    #[test]
    fn what_a_client_was_told_must_be_there_to_the_cent() {
        let rows = [approved("a", "k", 1)];
        let account = Account::read(&rows);
        let told = |change: fn(&mut Accepted)| {
            let mut accepted = Accepted {
                kind: Kind::Charge,
                transaction: "tx-a".to_owned(),
                amount_cents: 100,
                currency: "EUR".to_owned(),
            };
            change(&mut accepted);
            account.shows(&accepted)
        };
        assert!(told(|_| ()));
        assert!(!told(|accepted| accepted.kind = Kind::Refund));
        assert!(!told(|accepted| accepted.transaction.push('x')));
        assert!(!told(|accepted| accepted.amount_cents = 99));
        assert!(!told(|accepted| accepted.currency = "USD".to_owned()));
        let declined = [row("a", "k", 1, Answer::Declined)];
        assert!(Account::read(&declined).movements.is_empty());
    }
}
