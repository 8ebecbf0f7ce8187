//! 7. Let your function return your own error.
