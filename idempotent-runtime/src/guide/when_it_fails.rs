//! 5. Look up what the next caller gets after an error, a panic, a kill or a lost reply.
