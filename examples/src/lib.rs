//! Runnable programs, one per use.
