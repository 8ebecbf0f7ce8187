//! The shape that `#[async_trait]` leaves, alone and with `#[instrument]` on either side.
#![deny(warnings)]

use std::sync::Arc;

use async_trait::async_trait;
use idempotent_runtime::{Error, Idempotency, idempotent};
use serde::{Deserialize, Serialize};
use tracing::instrument;

#[derive(Serialize, Deserialize)]
struct Json<T>(T);

#[async_trait]
trait Charges: Sync {
    async fn charge(&self, order_id: &str, mut amount: u64) -> Result<u64, Error>;
    async fn exclusive(&mut self, id: u64) -> Result<u64, Error>;
    async fn owned(self: Arc<Self>, id: String) -> Result<String, Error>;
    async fn patterns(&self, pair: (u8, u8), json: Json<String>) -> Result<u8, Error>;
    async fn generic<T: Serialize + Send + Sync>(&self, value: T) -> Result<u8, Error>
    where
        Self: Sized;
    async fn traced(&self, id: u64) -> Result<u64, Error>;
    async fn traced_inside(&self, id: u64) -> Result<u64, Error>;

    #[idempotent(name = "charges.provided", key = id)]
    async fn provided(&self, id: u64) -> Result<u64, Error> {
        self.charge("", id).await
    }
}

struct Shop {
    id: u64,
    idempotency: Idempotency,
}

#[async_trait]
impl Charges for Shop {
    #[idempotent(name = "shop.charge", key = (self.id, order_id), store = self.idempotency)]
    async fn charge(&self, order_id: &str, mut amount: u64) -> Result<u64, Error> {
        amount += self.id;
        if order_id.is_empty() {
            return Err(Error::ClaimLost);
        }
        Ok(amount)
    }

    #[idempotent(name = "shop.exclusive", key = (self.id, id))]
    async fn exclusive(&mut self, id: u64) -> Result<u64, Error> {
        self.id += id;
        Ok(self.id)
    }

    #[idempotent(name = "shop.owned", detach)]
    async fn owned(self: Arc<Self>, id: String) -> Result<String, Error> {
        Ok(format!("{}{id}", self.id))
    }

    #[idempotent(name = "shop.patterns", key = "{a}:{text}", skip(b))]
    async fn patterns(&self, (a, b): (u8, u8), Json(text): Json<String>) -> Result<u8, Error> {
        drop(text);
        Ok(a + b)
    }

    #[idempotent(name = "shop.generic")]
    async fn generic<T: Serialize + Send + Sync>(&self, value: T) -> Result<u8, Error> {
        drop(value);
        Ok(1)
    }

    #[instrument(skip(self))]
    #[idempotent(name = "shop.traced", key = (self.id, id))]
    async fn traced(&self, id: u64) -> Result<u64, Error> {
        Ok(self.id + id)
    }

    #[idempotent(name = "shop.traced_inside", key = (self.id, id))]
    #[instrument(skip(self), err)]
    async fn traced_inside(&self, id: u64) -> Result<u64, Error> {
        Ok(self.id + id)
    }
}

#[async_trait(?Send)]
trait Local {
    async fn local(&self, id: u64) -> Result<u64, Error>;
}

#[async_trait(?Send)]
impl Local for Shop {
    #[idempotent(name = "shop.local", key = id)]
    async fn local(&self, id: u64) -> Result<u64, Error> {
        Ok(*std::rc::Rc::new(id))
    }
}

fn main() {
    let _ = |shop: Arc<dyn Charges + Send>| drop((shop.charge("", 1), shop.provided(1)));
    let _ = |mut shop: Shop| {
        drop(shop.exclusive(1));
        drop((shop.patterns((1, 2), Json(String::new())), shop.generic(1), shop.traced(1), shop.traced_inside(1)));
        drop(shop.local(1));
        drop(Arc::new(shop).owned(String::new()));
    };
}
