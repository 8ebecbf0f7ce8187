//! Functions that `macro_rules!` make, from every kind of fragment.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};

macro_rules! function {
    ($vis:vis $name:ident($argument:ident: $ty:ty) -> $output:ty $body:block key $key:expr, $ttl:literal) => {
        #[idempotent(key = $key, ttl = $ttl, skip(other))]
        $vis async fn $name($argument: $ty, other: $ty) -> $output {
            let _ = other;
            $body
        }
    };
}

function!(pub(crate) charge(order: &str) -> Result<usize, Error> {
    let len = order.len();
    Ok(len)
} key order, "1h");

macro_rules! whole {
    ($item:item) => {
        #[idempotent]
        $item
    };
}

whole! {
    /// Documented.
    async fn refund(order: &str) -> Result<usize, Error> { Ok(order.len()) }
}

macro_rules! own_argument {
    ($name:ident, $crates:path) => {
        #[idempotent(key = id, crate = $crates)]
        async fn $name(id: u64, other: u64) -> Result<u64, Error> {
            Ok(id + other)
        }
    };
}

own_argument!(own, ::idempotent_runtime);

macro_rules! block_body {
    ($name:ident $argument:ident $body:block) => {
        #[idempotent(key = $argument)]
        async fn $name($argument: u64) -> Result<u64, Error> $body
    };
}

block_body!(block id { Ok(id) });

fn main() {
    drop((charge("", ""), refund(""), own(1, 2), block(1)));
}
