//! 3. Know which arguments count, and what a refactoring changes.
