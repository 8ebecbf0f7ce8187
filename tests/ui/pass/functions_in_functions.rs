//! Inside other functions, blocks and modules.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};

mod deep {
    pub mod deeper {
        #[idempotent_runtime::idempotent(key = id)]
        pub async fn charge(id: u64) -> Result<u64, idempotent_runtime::Error> {
            Ok(id)
        }
    }
}

fn main() {
    #[idempotent]
    async fn inner(id: u64) -> Result<u64, Error> {
        Ok(id)
    }
    let closure = |id| {
        #[idempotent]
        async fn innermost(id: u64) -> Result<u64, Error> {
            Ok(id)
        }
        drop(innermost(id));
    };
    closure(1);
    drop((inner(1), deep::deeper::charge(1)));
}
