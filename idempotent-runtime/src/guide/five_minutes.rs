//! 1. Make one function run once, and see each answer that it can give.
