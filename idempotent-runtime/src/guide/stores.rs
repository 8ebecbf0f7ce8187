//! 6. Choose a store by what it loses and what it costs.
