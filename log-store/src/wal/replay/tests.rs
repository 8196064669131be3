//! Frames that count and frames that do not.
