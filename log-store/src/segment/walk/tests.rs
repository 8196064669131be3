//! What the walker accepts and refuses.
