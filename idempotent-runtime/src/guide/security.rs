//! 13. Know what is stored, and who may choose keys.
//!
//! # What is stored
//!
//! | | in the store | in events, counters and error texts |
//! |---|---|---|
//! | the operation's name | in clear | yes |
//! | the key | in clear, as text; on Redis it is part of the key's name | no |
//! | the arguments | as a SHA-256 hash, without a secret; in clear only with [`record_arguments`](crate::IdempotencyBuilder::record_arguments) | no; a mismatch names arguments that differ, and no values |
//! | the result, and errors that are kept | in clear, as JSON | no |
//! | the values of [steps](crate::step) | in clear, as JSON, until the run is completed | no |
//! | HTTP: the response's body and listed headers | in clear; never `Set-Cookie` | no |
//! | HTTP: the request | as a hash; method, path, query and body in clear only with `record_arguments`; headers never | no |
//! | a message that was given up, or waits in the outbox | in clear, with its payload and headers | no |
//!
//! `Debug` of records and outcomes hides the bytes. The library encrypts nothing. So:
//!
//! - Return an id from a function, and not a person's data or a token. The result is kept for the whole `ttl`, and in backups.
//! - Make keys of ids. An e-mail address as a key is in the store in clear.
//! - Encrypt the store's disk, and use TLS to it. `rediss://` verifies; PostgreSQL verifies with `?sslmode=verify-full`.
//! - The hash hides no argument that can be guessed: who can read the store can hash each of ten thousand PINs. Put such an argument into
//!   `skip`, or pass a keyed hash of it.
//! - The [operators' page](super::running_it#a-page-for-operators) shows operations, keys and contexts to whoever may see it, and stored bytes
//!   to those alone whom you name for that. Its addresses have keys.
//! - Values in `skip(…)` are neither hashed nor recorded.
//!
//! To delete a person's data, [`forget`](crate::Idempotency::forget) the keys. A retry then runs again.
//!
//! # Who chooses the key
//!
//! A key that a client chooses is that client's only if you make it so. Put the tenant into the key:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent};
//!
//! // `tenant` comes from your authentication, `client_key` from the request.
//! #[idempotent(name = "orders.create", key = (tenant, client_key), store = store, skip(store))]
//! async fn create(store: &Idempotency, tenant: &str, client_key: &str, item: &str) -> Result<String, Error> {
//!     Ok(format!("{item} for {tenant}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! let store = Idempotency::memory();
//! assert_eq!(create(&store, "acme", "1", "a chair").await?, "a chair for acme");
//! assert_eq!(create(&store, "globex", "1", "a chair").await?, "a chair for globex"); // not the other's result
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! The parts of a tuple cannot run into each other: `("a", "bc")` and `("ab", "c")` are two keys. The HTTP layer asks for its `scope`.
//!
//! A replay does not check permissions. It gives the stored result to whoever calls with the key and the same arguments. Authenticate and authorise
//! *before* the call, each time.
//!
//! # Threats
//!
//! | somebody | what happens | what is yours |
//! |---|---|---|
//! | guesses another client's key | another scope, another key: they see nothing | the scope, from authentication |
//! | sends many new keys | each is a record for the `ttl` | a rate limit in front of the layer |
//! | sends large bodies, long keys | 413; 400 (255 characters over HTTP, 1,024 bytes elsewhere) | |
//! | sends one request many times at once | one runs; over HTTP the others get 409, elsewhere they wait, up to [`max_waiters`](crate::IdempotencyBuilder::max_waiters) | |
//! | measures whether a key is used | a 409 or 422 tells it, within the scope | the scope |
//! | forges a webhook | refused before anything is parsed or stored | the secret; its rotation: a verifier takes several |
//! | replays a captured webhook of GitHub's or Shopify's | no time is signed there: under another id it runs | let events state what *is*; see [webhooks](super::http_and_webhooks) |
//! | writes to the store | can change results, and free keys | protect it as your database |
//!
//! To report a vulnerability, see `SECURITY.md` in the repository.
