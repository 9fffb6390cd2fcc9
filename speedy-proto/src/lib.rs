//! Wire contracts between Speedy nodes.
