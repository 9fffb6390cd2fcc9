//! What every [`ChunkNode`] and every [`Fragments`](crate::replicate::Fragments) must do, as tests that any implementation
//! runs, remote ones included. A check that fails panics and says what was expected.

pub mod fragments;
mod node;

use std::future::Future;
use std::sync::Arc;

use super::ChunkNode;

/// Runs all checks of a chunk node. Each gets an empty node from `fresh`, which accepts
/// [`GroupVersion`](crate::id::GroupVersion) 1.
///
/// # Panics
/// If a check fails.
pub async fn run_all<F, Fut>(mut fresh: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Arc<dyn ChunkNode>>,
{
    node::whole_chunks_and_ranges(&*fresh().await).await;
    node::the_largest_chunk(&*fresh().await).await;
    node::a_write_can_be_retried(&*fresh().await).await;
    node::bad_bodies_leave_nothing(&*fresh().await).await;
    node::another_version_is_refused(&*fresh().await).await;
    node::bad_lengths_are_refused(&*fresh().await).await;
    node::bad_ranges_are_refused(&*fresh().await).await;
    node::unknown_chunks_are_not_found(&*fresh().await).await;
    node::deletes_are_final(&*fresh().await).await;
    node::lists_go_by_pages(&*fresh().await).await;
    node::writers_of_one_id(&*fresh().await).await;
    node::a_dropped_write_leaves_nothing(&*fresh().await).await;
}

/// Bytes that differ from place to place and from seed to seed.
fn sample(len: usize, seed: u64) -> bytes::Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(len);
    data.into()
}
