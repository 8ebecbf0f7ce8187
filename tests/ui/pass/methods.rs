//! Every receiver, in inherent and trait implementations.
#![deny(warnings)]

use std::{pin::Pin, rc::Rc, sync::Arc};

use idempotent_runtime::{Error, Idempotency, idempotent};

#[derive(Clone)]
struct Shop {
    id: u64,
    count: u64,
}

impl Shop {
    #[idempotent(name = "shop.shared", key = self.id)]
    async fn shared(&self) -> Result<u64, Error> {
        Ok(self.count)
    }

    #[idempotent(name = "shop.exclusive", key = (self.id, step))]
    pub async fn exclusive(&mut self, step: u64) -> Result<u64, Error> {
        self.count += step;
        Ok(self.count)
    }

    #[idempotent(name = "shop.owned")]
    pub(crate) async fn owned(self, step: u64) -> Result<u64, Error> {
        Ok(self.count + step)
    }

    #[idempotent(name = "shop.owned_mut")]
    async fn owned_mut(mut self, step: u64) -> Result<u64, Error> {
        self.count += step;
        Ok(self.count)
    }

    #[idempotent(name = "shop.boxed", key = self.id)]
    async fn boxed(self: Box<Self>) -> Result<u64, Error> {
        Ok(self.count)
    }

    #[idempotent(name = "shop.rc", key = self.id)]
    async fn rc(self: Rc<Self>) -> Result<u64, Error> {
        Ok(self.count)
    }

    #[idempotent(name = "shop.arc", key = self.id, detach)]
    async fn arc(self: Arc<Self>) -> Result<u64, Error> {
        Ok(self.count)
    }

    #[idempotent(name = "shop.pinned", key = self.id)]
    async fn pinned(self: Pin<&mut Self>) -> Result<u64, Error> {
        Ok(self.count)
    }

    #[idempotent(name = "shop.typed", key = self.id)]
    async fn typed(self: &Self) -> Result<u64, Error> {
        Ok(self.count)
    }

    #[idempotent(name = "shop.create")]
    async fn create(id: u64) -> Result<u64, Error> {
        Ok(Self { id, count: 0 }.count)
    }
}

struct Service {
    idempotency: Idempotency,
}

impl Service {
    #[idempotent(name = "service.charge", store = self.idempotency)]
    async fn charge(&self, order_id: &str) -> Result<String, Error> {
        Ok(order_id.to_owned())
    }
}

trait Charges {
    type Failure: From<Error>;

    async fn charge(&self, id: u64) -> Result<u64, Self::Failure>;

    #[idempotent(name = "charges.provided")]
    async fn provided(&self, id: u64) -> Result<u64, Self::Failure> {
        self.charge(id).await
    }
}

impl Charges for Shop {
    type Failure = Error;

    #[idempotent(name = "shop.charge", key = (self.id, id))]
    async fn charge(&self, id: u64) -> Result<u64, Self::Failure> {
        Ok(self.count + id)
    }
}

fn main() {
    let mut shop = Shop { id: 1, count: 2 };
    drop(shop.exclusive(1));
    drop((shop.shared(), shop.typed(), shop.charge(1), shop.provided(1)));
    drop(Pin::new(&mut shop).pinned());
    drop((shop.clone().owned(1), shop.clone().owned_mut(1), Box::new(shop.clone()).boxed()));
    drop((Rc::new(shop.clone()).rc(), Arc::new(shop.clone()).arc(), Shop::create(1)));
    let _ = |service: Service| drop(service.charge(""));
}
