use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use speedy_core::id::FileId;
use speedy_core::replicate::Blocks;
use speedy_core::replicate::FragmentError;

use super::client::open;
use crate::wire::{Peers, WireError};

type Stream = BoxStream<'static, Result<Blocks, FragmentError>>;

/// Times that a read which broke off is taken up again without a block in between.
const ATTEMPTS: u32 = 2;

/// A read that goes on at another image node, at the block it had reached, when the one that served it fails.
struct Read {
    peers: Arc<Peers>,
    file: FileId,
    /// What is still wanted.
    rest: Range<u64>,
    stream: Stream,
    attempts: u32,
}

pub(super) async fn read(
    peers: Arc<Peers>,
    file: FileId,
    range: Range<u64>,
) -> Result<Stream, FragmentError> {
    let stream = open(&peers, file, range.clone()).await?;
    let read = Read { peers, file, rest: range, stream, attempts: 0 };
    Ok(stream::unfold(Some(read), |read| async move { step(read?).await }).boxed())
}

/// The next blocks, or the error that ends the read.
async fn step(mut read: Read) -> Option<(Result<Blocks, FragmentError>, Option<Read>)> {
    loop {
        match read.stream.next().await? {
            Ok(blocks) => {
                read.attempts = 0;
                read.rest.start = blocks.offset() + blocks.len() as u64;
                return Some((Ok(blocks), Some(read)));
            }
            Err(error) if error.is_unavailable() && read.attempts < ATTEMPTS && !read.rest.is_empty() => {
                read.attempts += 1;
                tracing::debug!(%error, file = %read.file, at = read.rest.start, "a read goes on at another image node");
                match open(&read.peers, read.file, read.rest.clone()).await {
                    Ok(stream) => read.stream = stream,
                    Err(error) => return Some((Err(error), None)),
                }
            }
            Err(error) => return Some((Err(error), None)),
        }
    }
}
