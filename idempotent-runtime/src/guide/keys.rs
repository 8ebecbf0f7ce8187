//! 2. Choose the key: what names the thing that must happen once.
