//! 9. Take an `Idempotency-Key` from clients, and webhooks from senders.
