//! The bank: slow, sometimes unavailable, and idempotent for the keys that it gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::Execution;

use crate::{
    ledger::{Answer, Ledger, Row, settled},
    log::{Fault, Kind},
    service::{Payment, PaymentError, Receipt},
};

/// The time that the bank takes.
const LATENCY: Duration = Duration::from_millis(2);
/// The additional time when a client is to lose its patience.
const SLOW: Duration = Duration::from_millis(120);

/// The payload of the panic that stands for a crash of the service.
pub(crate) struct Crash;

/// One delivery's connection to the bank. It fails as the log says.
#[derive(Clone)]
pub(crate) struct Bank {
    ledger: Arc<Ledger>,
    fault: Option<Fault>,
    /// The name of the run, if this delivery runs the function.
    run: String,
    /// The attempt that used this connection, 0 while none has.
    attempt: Arc<AtomicU32>,
}

impl Bank {
    pub(crate) fn new(ledger: &Arc<Ledger>, run: String, fault: Option<Fault>) -> Self {
        Self { ledger: Arc::clone(ledger), fault, run, attempt: Arc::default() }
    }

    /// Takes the money. A repeated key gets the first answer again.
    pub(crate) async fn debit(&self, key: &str, payment: &Payment) -> Result<Receipt, PaymentError> {
        self.request(Kind::Charge, key, payment).await
    }

    /// Gives the money back.
    pub(crate) async fn credit(&self, key: &str, payment: &Payment) -> Result<Receipt, PaymentError> {
        self.request(Kind::Refund, key, payment).await
    }

    /// The attempt that used this connection: `None` if the delivery did not run the function.
    pub(crate) fn used_by(&self) -> Option<u32> {
        Some(self.attempt.load(Ordering::Relaxed)).filter(|attempt| *attempt > 0)
    }

    /// True if the function ran, or still runs, for the delivery. Asked after the client has gone.
    pub(crate) fn is_used(&self) -> bool {
        self.used_by().is_some() || Arc::strong_count(&self.attempt) > 1
    }

    async fn request(&self, kind: Kind, key: &str, payment: &Payment) -> Result<Receipt, PaymentError> {
        let run = Execution::current();
        let attempt = run.as_ref().map_or(1, Execution::attempt);
        self.attempt.store(attempt, Ordering::Relaxed);
        // A run that was paused while another one took over gets an error here, and does not call the bank.
        let fence = if let Some(run) = run { run.fence().await? } else { 0 };
        tokio::time::sleep(LATENCY).await;
        self.crash_if(Fault::CrashBeforeDebit, attempt);

        let row = Row {
            kind,
            run: self.run.clone(),
            bank_key: key.to_owned(),
            attempt,
            fence,
            amount_cents: payment.amount_cents,
            currency: payment.currency.clone(),
            answer: if self.fault == Some(Fault::BankUnavailable) {
                Answer::Unavailable
            } else if payment.card == "tok_declined" {
                Answer::Declined
            } else {
                Answer::Approved
            },
        };
        let unavailable = row.answer == Answer::Unavailable;
        let rows = self.ledger.append(&payment.order_id, row).await.map_err(|_| PaymentError::BankUnavailable)?;
        self.crash_if(Fault::CrashAfterDebit, attempt);
        if self.fault == Some(Fault::GivesUp) {
            tokio::time::sleep(SLOW).await;
        }
        match settled(&rows, key) {
            Some(row) if !unavailable && row.answer == Answer::Approved => {
                Ok(Receipt { transaction: row.transaction(), run: self.run.clone() })
            }
            Some(_) if !unavailable => Err(PaymentError::Declined),
            _ => Err(PaymentError::BankUnavailable),
        }
    }

    fn crash_if(&self, fault: Fault, attempt: u32) {
        if self.fault == Some(fault) && attempt == 1 {
            // `resume_unwind` panics without a message on standard error.
            std::panic::resume_unwind(Box::new(Crash));
        }
    }
}
