//! Faults on purpose.

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
use tokio::{sync::Notify, time::sleep};

use idempotent_examples::say;

/// A fault of a charge. The text of each is in `--help`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Fault {
    /// A proxy answers 500: the request does not reach the service.
    FailBefore,
    /// The handler answers 500 before it begins: the key is free again.
    Refuse,
    /// The handler panics before it begins: the client gets a 500, and its next try takes over.
    Crash,
    /// The handler answers 500 after the charge: the response is kept and replayed, as by Stripe, and tells the client not to
    /// retry.
    FailAfter,
    /// The connection breaks before the request arrives.
    DropBefore,
    /// The connection breaks before the response arrives.
    DropAfter,
    /// The connection breaks while the charge is made: the next try gets a 409.
    HangUp,
    /// The response takes 1.5 seconds.
    Slow,
}

impl Fault {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }
}

/// The delay of slow requests.
const DELAY: Duration = Duration::from_millis(1500);

/// Deals faults to requests from a shuffled deck. The deck has each fault once, and as many blank cards; when it is empty, a new
/// one is shuffled.
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

/// The handler of a request has begun: its key is claimed.
#[derive(Clone, Default)]
struct Began(Arc<Notify>);

/// Faults between client and server, outside all layers.
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
            let began = Began::default();
            request.extensions_mut().insert(began.clone());
            tokio::select! {
                // A replay does not come to the handler.
                _ = next.run(request) => {}
                () = began.0.notified() => {}
            }
            drop_connection()
        }
        Fault::Refuse | Fault::Crash | Fault::FailAfter | Fault::Slow => next.run(request).await,
    }
}

/// Faults of the handler, inside the idempotency layer.
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
            if let Some(Began(began)) = request.extensions().get() {
                began.notify_one();
            }
            sleep(DELAY).await;
            next.run(request).await
        }
        Some(Fault::Slow) => {
            let response = next.run(request).await;
            sleep(DELAY).await;
            response
        }
        _ => next.run(request).await,
    }
}

fn failure() -> Response {
    let error = json!({ "error": { "type": "api_error", "message": "Something went wrong on purpose." } });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()
}

/// Breaks the connection: outside all layers, a panic ends its task.
fn drop_connection() -> ! {
    resume_unwind(Box::new("a lost connection on purpose"))
}
