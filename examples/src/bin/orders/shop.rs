//! What the service works with.

use idempotent_runtime::{Idempotency, install};

use crate::{Args, Failure, outside::Outside, places::Places, stock::Stock};

pub(crate) struct Shop {
    pub(crate) stock: Stock,
    pub(crate) outside: Outside,
}

impl Shop {
    /// Opens the stock, and installs the store of the records: both are one database, if the store is SQL.
    pub(crate) async fn open(args: &Args, outside: &str) -> Result<Self, Failure> {
        let places = Places::of(args)?;
        let stock = Stock::open(&places.stock).await?;
        let is_one = places.stock == args.store;
        install(if is_one { stock.records() } else { Idempotency::connect(&args.store).await? })?;
        Ok(Self { stock, outside: Outside::at(outside)? })
    }
}
