//! The gateway: calls the service for each delivery, as a server does for each request, and notes the outcome.

use std::{panic::resume_unwind, time::Duration};

use idempotent_runtime::{Disposition, State, installed, with_disposition};

use crate::{
    bank::{Bank, Crash},
    log::{Delivery, Fault, Kind},
    service::{Payment, PaymentError, Receipt, charge, refund},
};

/// The time that an impatient client waits.
const PATIENCE: Duration = Duration::from_millis(30);

/// The outcome of a delivery.
pub(crate) struct Outcome {
    pub(crate) delivery: String,
    pub(crate) kind: Kind,
    pub(crate) payment: Payment,
    /// The attempt in which the delivery ran the function; `None` if it did not run it.
    pub(crate) ran: Option<u32>,
    pub(crate) ending: Ending,
}

pub(crate) enum Ending {
    /// The client got this answer.
    Answered(Result<Receipt, PaymentError>, Disposition),
    /// The service crashed, and the client lost its connection.
    Crashed,
    /// The client did not wait for the answer.
    GaveUp,
}

/// Delivers a request.
pub(crate) async fn deliver(delivery: Delivery, bank: Bank) -> Outcome {
    let (id, kind, payment) = (delivery.id.clone(), delivery.kind, delivery.payment());
    // A task of its own, as in a server: a panic ends the request and nothing else.
    let call = tokio::spawn(call(delivery, bank.clone()));
    let ending = match call.await {
        Ok(Some((answer, disposition))) => Ending::Answered(answer, disposition),
        Ok(None) => Ending::GaveUp,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) if !panic.is::<Crash>() => resume_unwind(panic),
            _ => Ending::Crashed,
        },
    };
    if !matches!(ending, Ending::Answered(..)) && bank.is_used() {
        settle(kind, &payment.idempotency_key).await;
    }
    Outcome { delivery: id, kind, payment, ran: bank.used_by(), ending }
}

/// Calls the service; `None` if the client gave up.
async fn call(delivery: Delivery, bank: Bank) -> Option<(Result<Receipt, PaymentError>, Disposition)> {
    let payment = delivery.payment();
    let call = async {
        match delivery.kind {
            Kind::Charge => with_disposition(charge(bank, payment)).await,
            Kind::Refund => with_disposition(refund(&bank, &payment)).await,
        }
    };
    if delivery.fault == Some(Fault::GivesUp) {
        tokio::time::timeout(PATIENCE, call).await.ok()
    } else {
        Some(call.await)
    }
}

/// Waits until no run of the key is under way. The program must not exit with a charge half-way, nor before an abandoned run is on
/// record.
async fn settle(kind: Kind, key: &str) {
    let Ok(idempotency) = installed() else { return };
    while let Ok(Some(record)) = idempotency.inspect(kind.operation(), key).await {
        match record.state {
            State::Running { .. } => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => break,
        }
    }
}
