//! 4. Choose how long a result is kept, and how long a run may be silent.
