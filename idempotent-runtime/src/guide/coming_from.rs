//! 14. Replace a cache, `SET NX`, or a table of your own, without a second run.
