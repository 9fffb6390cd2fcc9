//! From a stream of bytes to fragments.
//!
//! A [`Splitter`] cuts at a fixed size. It holds no bytes that are not counted in a [`Budget`], and never waits with
//! bytes in its hands: when its source stalls, or the budget is spent, what it has becomes a short fragment. So any
//! number of stalled uploads leave the budget to those that move.
//!
//! ```
//! use futures_util::stream;
//! use speedy_core::{budget::Budget, split::{SplitOptions, Splitter}};
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let source = stream::iter([Ok::<_, ()>(b"hello ".as_slice().into()), Ok(b"world".as_slice().into())]);
//! let options = SplitOptions::default().size(8).unwrap();
//! let mut splitter = Splitter::new(source, 0, options, Budget::default());
//! let first = splitter.next().await.unwrap().unwrap();
//! assert_eq!((first.offset, first.payload.len()), (0, 8));
//! let second = splitter.next().await.unwrap().unwrap();
//! assert_eq!((second.offset, second.payload.len()), (8, 3));
//! assert!(splitter.next().await.is_none());
//! # }
//! ```

mod options;
mod splitter;
#[cfg(test)]
mod tests;

pub use options::{InvalidSplit, SplitOptions};
pub use splitter::{Piece, Splitter};

/// The longest fragment, which is the longest chunk: 64 MiB.
pub const MAX_FRAGMENT: u64 = 64 << 20;
