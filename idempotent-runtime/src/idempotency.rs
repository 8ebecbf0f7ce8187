//! The handle.

/// A store and the limits that calls through it keep. Cloning is cheap and shares both.
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub(crate) max_key_len: usize,
}
