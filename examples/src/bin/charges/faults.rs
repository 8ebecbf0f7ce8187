//! What goes wrong on purpose.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use clap::ValueEnum;
use http::{Method, StatusCode};
use idempotent_runtime::tower::NotBegun;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::json;
use tokio::time::{sleep, timeout};

use idempotent_examples::say;

/// What can go wrong with a charge, and what a client sees of it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Fault {
    /// A 500 from a server in between: the request does not come this far.
    FailBefore,
    /// A 500 from the handler, which has not begun: the key is free again.
    Refuse,
    /// A panic of the handler before it has begun: a 500, and the next try takes over.
    Crash,
    /// A 500 after the charge was made: kept and replayed, as by Stripe. The client is told not to retry.
    FailAfter,
    /// The connection is lost with the request.
    DropBefore,
    /// The connection is lost with the answer.
    DropAfter,
    /// The connection is lost while the charge is being made: the next try meets a 409.
    HangUp,
    /// It takes a while from the charge to the answer.
    Slow,
}

impl Fault {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }
}

/// How long a while is.
const WHILE: Duration = Duration::from_millis(1500);

/// Which request meets which fault: dealt from a deck, shuffled anew when it is empty, in which each of the faults is
/// once, and as many requests that meet none.
pub(crate) struct Faults {
    faults: Vec<Fault>,
    deck: Mutex<(Vec<Option<Fault>>, StdRng)>,
}

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>, seed: u64) -> Arc<Self> {
        Arc::new(Self { faults, deck: Mutex::new((Vec::new(), StdRng::seed_from_u64(seed))) })
    }

    fn draw(&self) -> Option<Fault> {
        let mut deck = self.deck.lock().unwrap_or_else(PoisonError::into_inner);
        let (cards, rng) = &mut *deck;
        if cards.is_empty() {
            cards.extend(self.faults.iter().copied().map(Some));
            cards.resize(2 * self.faults.len(), None);
            cards.shuffle(rng);
        }
        cards.pop().flatten()
    }
}

/// Between client and server: outside of all layers.
pub(crate) async fn outside(State(faults): State<Arc<Faults>>, mut request: Request, next: Next) -> Response {
    let fault = if request.method() == Method::POST { faults.draw() } else { None };
    let Some(fault) = fault else { return next.run(request).await };
    let name = fault.to_possible_value();
    say(format_args!("fault: {}", name.as_ref().map_or("", |name| name.get_name())));
    request.extensions_mut().insert(fault);
    match fault {
        Fault::FailBefore => failure(),
        Fault::DropBefore => drop_connection(),
        Fault::DropAfter => {
            next.run(request).await;
            drop_connection()
        }
        Fault::HangUp => {
            let _ = timeout(Duration::from_millis(50), next.run(request)).await;
            drop_connection()
        }
        Fault::Refuse | Fault::Crash | Fault::FailAfter | Fault::Slow => next.run(request).await,
    }
}

/// Around the handler: inside of the idempotency layer.
pub(crate) async fn inside(request: Request, next: Next) -> Response {
    match request.extensions().get() {
        Some(Fault::Refuse) => {
            let mut response = failure();
            response.extensions_mut().insert(NotBegun);
            response
        }
        Some(Fault::Crash) => resume_unwind(Box::new("a crash on purpose")),
        Some(Fault::FailAfter) => {
            next.run(request).await;
            failure()
        }
        Some(Fault::HangUp) => {
            sleep(WHILE).await;
            next.run(request).await
        }
        Some(Fault::Slow) => {
            let response = next.run(request).await;
            sleep(WHILE).await;
            response
        }
        _ => next.run(request).await,
    }
}

fn failure() -> Response {
    let error = json!({ "error": { "type": "api_error", "message": "Something went wrong on purpose." } });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()
}

/// Outside of all layers, a panic takes the connection with it.
fn drop_connection() -> ! {
    resume_unwind(Box::new("a lost connection on purpose"))
}
