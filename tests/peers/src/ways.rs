//! The ways to charge an order once.

use std::time::Duration;

use cached::macros::cached;
use idempotent_runtime::{Error, Idempotency, idempotent, store::memory::MemoryStore};
use peer::{ExecutionOutcome, IdempotencyKey, IdempotencyStore, memory::MemoryStore as PeerStore};

use crate::support::{Order, Receipt};

const TTL: Duration = Duration::from_secs(86_400);

/// A way to charge an order once.
pub(crate) trait Way: Clone + Send + Sync + 'static {
    fn charge(&self, order_id: &str, order: &Order) -> impl Future<Output = Receipt> + Send;
}

/// This library.
#[derive(Clone)]
pub(crate) struct Ours(Idempotency);

impl Ours {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::builder().max_records(usize::MAX).max_bytes(usize::MAX).build();
        Self(Idempotency::new(store))
    }
}

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

impl Way for Ours {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        charge(&self.0, order_id, order).await.expect("a receipt")
    }
}

/// The crate `idempotent`.
#[derive(Clone)]
pub(crate) struct Peer(PeerStore);

impl Peer {
    /// Its actor runs on the runtime that this is called in.
    pub(crate) fn new() -> Self {
        Self(PeerStore::builder().try_build().expect("a store"))
    }
}

impl Way for Peer {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        let key = IdempotencyKey::new(order_id).expect("a key");
        let arguments = serde_json::to_vec(order).expect("JSON");
        let outcome = self
            .0
            .claim(&key, Duration::from_secs(30))
            .fingerprint("charge", &arguments)
            .json()
            .execute_or_replay(TTL, |_token| async { Ok(Receipt::of(order_id, order)) })
            .await;
        match outcome {
            Ok(ExecutionOutcome::Executed(receipt) | ExecutionOutcome::Replayed(receipt)) => receipt,
            _ => panic!("neither executed nor replayed"),
        }
    }
}

/// The crate `cached`.
#[derive(Clone)]
pub(crate) struct Cached;

#[cached(ttl_secs = 86_400, key = "String", convert = { order_id.to_owned() })]
async fn charge_cached(order_id: &str, order: &Order) -> Receipt {
    Receipt::of(order_id, order)
}

impl Way for Cached {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        charge_cached(order_id, order).await
    }
}

/// The crate `moka`.
#[derive(Clone)]
pub(crate) struct Moka(moka::future::Cache<String, Receipt>);

impl Moka {
    pub(crate) fn new() -> Self {
        Self(moka::future::Cache::builder().max_capacity(100_000_000).time_to_live(TTL).build())
    }
}

impl Way for Moka {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        self.0.get_with_by_ref(order_id, async { Receipt::of(order_id, order) }).await
    }
}
