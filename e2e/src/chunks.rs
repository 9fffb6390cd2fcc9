//! What a chunk node holds, asked over the network as any of its clients asks.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use speedy_core::checksum::Crc32c;
use speedy_core::replicate::ChunkNode;
pub use speedy_core::replicate::ChunkStat;
use speedy_services::chunk::ChunkClient;

use crate::check::same;

/// Chunks that are asked for at once.
const PAGE: usize = 1000;

/// Every chunk that the node lists, in order of ids. Each is read to its end and compared with its checksum.
///
/// # Errors
/// When the node does not answer, or a chunk is damaged.
pub fn chunks_of(node: SocketAddr) -> Result<Vec<ChunkStat>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = ChunkClient::new(node.to_string().parse()?);
        let mut chunks: Vec<ChunkStat> = Vec::new();
        loop {
            let page = client.list(chunks.last().map(|chunk| chunk.id), PAGE).await?;
            ensure!(!page.more || !page.chunks.is_empty(), "an empty page that says there is more");
            chunks.extend(page.chunks);
            if !page.more {
                break;
            }
        }
        for chunk in &chunks {
            read(&client, chunk)
                .await
                .with_context(|| format!("reading chunk {} of {node}", chunk.id.get()))?;
        }
        Ok(chunks)
    })
}

async fn read(client: &ChunkClient, chunk: &ChunkStat) -> Result<()> {
    let mut blocks = client.read(chunk.id, 0..chunk.length).await?;
    let (mut sum, mut length) = (Crc32c::new(), 0);
    while let Some(run) = blocks.try_next().await? {
        let bytes = run.into_bytes()?;
        sum.update(&bytes);
        length += bytes.len() as u64;
    }
    same("length and checksum", &(chunk.length, chunk.checksum), &(length, sum.value()))
}
