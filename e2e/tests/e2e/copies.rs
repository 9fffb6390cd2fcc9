//! What the chunk nodes of a group hold.

use anyhow::{Result, bail, ensure};
use speedy_e2e::{ChunkStat, Cluster, Deployment, Lab, Layout, chunks_of, same};

/// Bytes of a layer that does not compress: several fragments.
const LAYER: usize = 20_000_000;

/// After a push all three nodes list the same chunks and have the bytes of each.
pub(crate) fn of_every_chunk(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let directory = lab.directory()?;
    let made = Layout::make(&directory.path().join("made"), 3, LAYER)?;
    let remote = format!("docker://{}/copies:1", cluster.registry().host());
    lab.skopeo()?.copy_all(&made.reference(), &remote)?;

    let chunks = held_by_all(cluster)?;
    let held: u64 = chunks.iter().map(|chunk| chunk.length).sum();
    // The layers are in chunks; small manifests and configurations may be with the metadata.
    let layers = 3 * LAYER as u64;
    ensure!(held >= layers, "layers of {layers} bytes were pushed, and the nodes hold {held}");
    Ok(())
}

/// The chunks of the group, of which every node has every one, whole.
pub(crate) fn held_by_all(cluster: &Cluster) -> Result<Vec<ChunkStat>> {
    let first = chunks_of(cluster.chunks[0].address())?;
    ensure!(!first.is_empty(), "the first node holds no chunk");
    for node in &cluster.chunks[1..] {
        let other = chunks_of(node.address())?;
        if let Some((ours, theirs)) = first.iter().zip(&other).find(|(ours, theirs)| ours != theirs) {
            bail!("the first node holds {ours:?} where {} holds {theirs:?}", node.address());
        }
        same("number of chunks on another node of the group", &first.len(), &other.len())?;
    }
    Ok(first)
}
