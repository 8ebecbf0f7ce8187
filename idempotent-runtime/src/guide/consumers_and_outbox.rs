//! 10. Work each message off once, and send messages with an effect.
