//! Find a short answer to a question that people ask.
