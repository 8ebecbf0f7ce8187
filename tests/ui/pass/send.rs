//! The future is `Send` whenever that of the plain function is, without further bounds.
#![deny(warnings)]

use std::{borrow::Cow, cell::Cell, rc::Rc};

use idempotent_runtime::{Error, idempotent};
use serde::{Serialize, de::DeserializeOwned};

fn send<T: Send>(_: T) {}

// `Cell` is `Send` and not `Sync`.
#[idempotent(skip(cell))]
async fn not_sync(cell: Cell<u8>, id: u64) -> Result<u64, Error> {
    std::future::ready(()).await;
    cell.set(1);
    Ok(id)
}

#[idempotent]
async fn borrowed(text: &str, list: &[Cow<'_, str>]) -> Result<String, Error> {
    std::future::ready(()).await;
    Ok(text.to_owned() + &list[0])
}

#[idempotent]
async fn borrows_its_result<'a>(text: &'a str) -> Result<Cow<'a, str>, Error> {
    std::future::ready(()).await;
    Ok(Cow::Borrowed(text))
}

#[idempotent(name = "send.generic")]
async fn generic<T: Serialize + DeserializeOwned + Send + Sync, E: From<Error>>(value: T) -> Result<T, E> {
    std::future::ready(()).await;
    Ok(value)
}

#[idempotent(name = "send.callback", skip(call), key = text)]
async fn callback<F: AsyncFn(&str) -> u8>(text: &str, call: F) -> Result<u8, Error>
{
    Ok(call(text).await)
}

struct Service<'a> {
    names: &'a [&'a str],
}

impl<'a> Service<'a> {
    #[idempotent(name = "service.find")]
    async fn find(&self, name: &str) -> Result<Option<usize>, Error> {
        std::future::ready(()).await;
        Ok(self.names.iter().position(|it| *it == name))
    }
}

trait Finds {
    fn find_one(&self, name: &str) -> impl Future<Output = Result<String, Error>> + Send;
}

impl Finds for Service<'_> {
    #[idempotent(name = "service.find_one", skip(name), key = (name, self.names.len()))]
    async fn find_one(&self, name: &str) -> Result<String, Error> {
        std::future::ready(()).await;
        Ok(name.to_owned())
    }
}

fn bounded<T: Finds>(finds: &T) {
    send(finds.find_one(""));
}

// The plain future is not `Send`, so the macro's need not be.
#[idempotent(skip(shared))]
async fn not_send(shared: Rc<u8>, id: u64) -> Result<u64, Error> {
    std::future::ready(()).await;
    Ok(id + u64::from(*shared))
}

fn boxed<'a>(text: &'a str) -> std::pin::Pin<Box<dyn Future<Output = Result<Cow<'a, str>, Error>> + Send + 'a>> {
    Box::pin(async move {
        let found = borrows_its_result(text).await?;
        let service = Service { names: &[text] };
        service.find(&found).await?;
        Ok(found)
    })
}

fn main() {
    send(not_sync(Cell::new(1), 1));
    send(borrowed("", &[]));
    send(borrows_its_result(""));
    send(generic::<Vec<u8>, Error>(vec![]));
    send(generic::<Option<u64>, Box<dyn std::error::Error + Send + Sync>>(None));
    send(Service { names: &[] }.find(""));
    send(boxed(""));
    bounded(&Service { names: &[] });
    drop(not_send(Rc::new(1), 1));
    drop(callback("", async |_: &str| 1));
}
