//! 15. Call it from synchronous code, actix, tonic and background jobs.
