//! 13. Know what is stored, and who may choose keys.
