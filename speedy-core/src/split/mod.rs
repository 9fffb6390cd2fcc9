//! Streams into fragments: an async stream of bytes becomes pieces of a bounded size, each with its checksum and with
//! the memory that it takes counted in the process's [`Budget`](crate::budget::Budget).
//!
//! # Memory
//! A splitter reserves in small steps, before it asks its source for more, and the reservation goes with the
//! [`Piece`] until that is dropped. So pressure reaches the socket: what is not reserved is not read.
//!
//! Uploads can't starve each other. A splitter that holds bytes never waits long for more budget: it gives out what
//! it holds as a short piece first, and whoever stores the piece frees the budget. One whose source is silent gives
//! its bytes out after [`SplitOptions::stall`], at once when somebody waits for budget, and then keeps nothing
//! reserved. Outside the budget stands at most one frame of the source for each stream: the one that came after a
//! silence, or that was larger than what had been reserved for it.
//!
//! # Cancellation
//! [`Splitter::next`] can be dropped and called again; no byte is lost.

mod gather;
mod options;
mod splitter;

pub use options::{InvalidSplitOption, SplitOptions};
pub use splitter::{Piece, Splitter};
