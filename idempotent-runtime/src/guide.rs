//! A guide in chapters: each answers one question, in a few minutes of reading.
//!
//! | chapter | |
//! |---|---|
//! | [Five minutes](five_minutes) | Make one function run once, and see each answer that it can give. |
//! | [Keys](keys) | Choose the key: what names the thing that must happen once. |
//! | [Same request](same_request) | Know which arguments count, and what a refactoring changes. |
//! | [How long](how_long) | Choose how long a result is kept, and how long a run may be silent. |
//! | [When it fails](when_it_fails) | Look up what the next caller gets after an error, a panic, a kill or a lost reply. |
//! | [Stores](stores) | Choose a store by what it loses and what it costs. |
//! | [Error types](error_types) | Let your function return your own error. |
//! | [Effects in your database](effects_in_your_database) | Commit your rows and the result in one transaction. |
//! | [HTTP and webhooks](http_and_webhooks) | Take an `Idempotency-Key` from clients, and webhooks from senders. |
//! | [Consumers and outbox](consumers_and_outbox) | Work each message off once, and send messages with an effect. |
//! | [Testing](testing) | Test your functions with repeats, faults and time. |
//! | [Running it](running_it) | Watch it in production, and know what to do about each alert. |
//! | [Security](security) | Know what is stored, and who may choose keys. |
//! | [Coming from](coming_from) | Replace a cache, `SET NX`, or a table of your own, without a second run. |
//! | [Other callers](other_callers) | Call it from synchronous code, actix, tonic and background jobs. |
//! | [Questions](faq) | Find a short answer to a question that people ask. |

pub mod coming_from;
pub mod consumers_and_outbox;
pub mod effects_in_your_database;
pub mod error_types;
pub mod faq;
pub mod five_minutes;
pub mod how_long;
pub mod http_and_webhooks;
pub mod keys;
pub mod other_callers;
pub mod running_it;
pub mod same_request;
pub mod security;
pub mod stores;
pub mod testing;
pub mod when_it_fails;
