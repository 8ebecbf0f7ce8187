//! Counts the outcomes.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use idempotent_examples::chain;
use idempotent_runtime::{Disposition, Error};
use serde::Serialize;

use crate::{
    audit::{Accepted, Account},
    gateway::{Ending, Outcome},
    ledger::{Failure, Ledger},
    log::Kind,
    service::{Payment, PaymentError, Receipt},
};

/// The summary. The number of deliveries is the sum of executions, which ran a function, and of those that did not: replays,
/// waits, mismatches, refused in flight, gave up waiting, errors.
#[derive(Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) deliveries: u64,
    pub(crate) malformed: u64,
    pub(crate) orders: u64,
    pub(crate) orders_accepted: u64,
    pub(crate) orders_declined: u64,
    /// Deliveries that ran a function. The next four are among them.
    pub(crate) executions: u64,
    pub(crate) takeovers: u64,
    pub(crate) crashes: u64,
    /// Runs that ended because their client gave up.
    pub(crate) dropped: u64,
    pub(crate) bank_unavailable: u64,
    pub(crate) replays: u64,
    pub(crate) waits: u64,
    pub(crate) mismatches: u64,
    pub(crate) refused_in_flight: u64,
    pub(crate) gave_up_waiting: u64,
    pub(crate) errors: u64,
    /// Clients that gave up, whether or not their delivery ran a function.
    pub(crate) gave_up: u64,
    /// Movements of money in the ledger, for the orders of this log.
    pub(crate) debits: u64,
    pub(crate) refunds: u64,
    /// Debits less refunds, by currency.
    pub(crate) total_cents: BTreeMap<String, i128>,
    pub(crate) changed_answers: u64,
    pub(crate) charged_twice: u64,
    pub(crate) lost: u64,
    pub(crate) ok: bool,
}

/// The answers to the clients of an order.
#[derive(Default)]
struct Order {
    declined: bool,
    accepted: Vec<Accepted>,
}

#[derive(Default)]
pub(crate) struct Tally {
    summary: Summary,
    orders: HashMap<String, Order>,
    /// The first answer of each key.
    answers: HashMap<(Kind, String), String>,
    first_error: Option<String>,
}

impl Tally {
    pub(crate) fn malformed(&mut self) {
        self.summary.malformed += 1;
    }

    /// Counts a delivery.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let Outcome { delivery, kind, payment, ran, ending } = outcome;
        let summary = &mut self.summary;
        summary.deliveries += 1;
        if let Some(attempt) = ran {
            summary.executions += 1;
            summary.takeovers += u64::from(attempt > 1);
        }
        self.orders.entry(payment.order_id.clone()).or_default();
        match ending {
            Ending::Crashed => summary.crashes += 1,
            Ending::GaveUp => {
                summary.gave_up += 1;
                match ran {
                    None => summary.gave_up_waiting += 1,
                    Some(_) => summary.dropped += u64::from(kind == Kind::Refund),
                }
            }
            Ending::Answered(answer, disposition) => {
                if ran.is_none() {
                    self.not_run(&answer, disposition);
                }
                self.answered(&delivery, kind, payment, answer);
            }
        }
    }

    /// Counts a call that did not run the function.
    fn not_run(&mut self, answer: &Result<Receipt, PaymentError>, disposition: Disposition) {
        let summary = &mut self.summary;
        match (disposition, answer) {
            (Disposition::Replayed, _) => summary.replays += 1,
            (Disposition::Waited, _) => summary.waits += 1,
            (_, Err(PaymentError::Idempotency(Error::Mismatch { .. }))) => summary.mismatches += 1,
            (_, Err(PaymentError::Idempotency(Error::InFlight { .. }))) => summary.refused_in_flight += 1,
            _ => summary.errors += 1,
        }
    }

    /// Notes the answer to the client.
    fn answered(&mut self, delivery: &str, kind: Kind, payment: Payment, answer: Result<Receipt, PaymentError>) {
        let told = match &answer {
            Ok(receipt) => format!("{} by {}", receipt.transaction, receipt.run),
            Err(PaymentError::Declined) => "declined".to_owned(),
            Err(PaymentError::BankUnavailable) => {
                self.summary.bank_unavailable += 1;
                return;
            }
            Err(PaymentError::Idempotency(Error::Mismatch { .. } | Error::InFlight { .. } | Error::ClaimLost)) => {
                return;
            }
            Err(error) => {
                self.first_error.get_or_insert_with(|| format!("delivery {delivery}: {}", chain(error)));
                return;
            }
        };
        match self.answers.entry((kind, payment.idempotency_key)) {
            Entry::Occupied(first) => self.summary.changed_answers += u64::from(*first.get() != told),
            Entry::Vacant(first) => {
                first.insert(told);
            }
        }
        let order = self.orders.entry(payment.order_id).or_default();
        match answer {
            Ok(Receipt { transaction, .. }) => {
                let Payment { amount_cents, currency, .. } = payment;
                let accepted = Accepted { kind, transaction, amount_cents, currency };
                if !order.accepted.contains(&accepted) {
                    order.accepted.push(accepted);
                }
            }
            Err(_) => order.declined |= kind == Kind::Charge,
        }
    }

    /// The first error.
    pub(crate) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Compares the answers to the clients with the ledger.
    pub(crate) async fn audit(mut self, ledger: &Ledger) -> Result<Summary, Failure> {
        let ids: Vec<&str> = self.orders.keys().map(String::as_str).collect();
        let accounts = ledger.accounts(&ids).await?;
        let summary = &mut self.summary;
        for (order, rows) in self.orders.values().zip(&accounts) {
            let account = Account::read(rows);
            for row in &account.movements {
                let total = summary.total_cents.entry(row.currency.clone()).or_default();
                match row.kind {
                    Kind::Charge => {
                        summary.debits += 1;
                        *total += i128::from(row.amount_cents);
                    }
                    Kind::Refund => {
                        summary.refunds += 1;
                        *total -= i128::from(row.amount_cents);
                    }
                }
            }
            let accepted = order.accepted.iter().any(|accepted| accepted.kind == Kind::Charge);
            summary.orders += 1;
            summary.orders_accepted += u64::from(accepted);
            summary.orders_declined += u64::from(order.declined && !accepted);
            summary.charged_twice += u64::from(account.charged_twice());
            summary.lost += u64::from(!order.accepted.iter().all(|accepted| account.shows(accepted)));
        }
        let failures = summary.charged_twice + summary.lost + summary.changed_answers + summary.errors;
        summary.ok = failures == 0;
        Ok(self.summary)
    }
}
