//! The audit: what the bank's books say about the answers that the clients got.

use std::collections::{HashMap, HashSet};

use crate::{
    ledger::{Answer, Row},
    log::Kind,
};

/// What a client was told: its money moved.
#[derive(PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) kind: Kind,
    pub(crate) transaction: String,
    pub(crate) amount_cents: u64,
    pub(crate) currency: String,
}

/// An order's account, read.
pub(crate) struct Account<'a> {
    /// Money that moved, each once.
    pub(crate) movements: Vec<&'a Row>,
    /// A function ran that had no reason to.
    ran_twice: bool,
}

impl<'a> Account<'a> {
    /// Reads an account in the order in which it was written.
    ///
    /// A key's attempts rise from run to run, whatever ends a run, until a run frees the key, which here only an
    /// unavailable bank makes it do. So the same attempt again is a run that nothing justifies.
    pub(crate) fn read(rows: &'a [Row]) -> Self {
        let mut runs = HashSet::new();
        let mut settled = HashSet::new();
        let mut attempts: HashMap<&str, HashSet<u32>> = HashMap::new();
        let mut account = Self { movements: Vec::new(), ran_twice: false };
        // The same run again is one request that was sent twice, since its reply was lost.
        for row in rows.iter().filter(|row| runs.insert(row.run.as_str())) {
            let attempts = attempts.entry(&row.bank_key).or_default();
            account.ran_twice |= !attempts.insert(row.attempt);
            if row.answer == Answer::Unavailable {
                attempts.clear();
            } else if settled.insert(row.bank_key.as_str()) && row.answer == Answer::Approved {
                account.movements.push(row);
            }
        }
        account
    }

    /// Whether the order was charged more than once, or only the bank's memory kept it from being.
    pub(crate) fn charged_twice(&self) -> bool {
        self.ran_twice || self.movements.iter().filter(|row| row.kind == Kind::Charge).count() > 1
    }

    /// Whether the account shows what the client was told.
    pub(crate) fn shows(&self, accepted: &Accepted) -> bool {
        self.movements.iter().any(|row| {
            row.kind == accepted.kind
                && row.transaction() == accepted.transaction
                && row.amount_cents == accepted.amount_cents
                && row.currency == accepted.currency
        })
    }
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
