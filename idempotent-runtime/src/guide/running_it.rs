//! 12. Watch it in production, and know what to do about each alert.
