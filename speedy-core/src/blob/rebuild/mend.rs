//! Layouts of live blobs that name chunks which are not there any more: what was moved to another group after the backup.

use futures_util::StreamExt;

use super::census::Chunk;
use super::commit::layout;
use crate::blob::records::{LayoutRow, encode};
use crate::blob::{BlobError, BlobStore, Fragment};
use crate::id::{BlobId, FileId};
use crate::meta::{Check, Transaction, Write};
use crate::replicate::FragmentError;

/// What was found in the layout of a live blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mended {
    /// Fragments that are elsewhere now, and named there.
    pub(super) moved: u64,
    /// Fragments that are nowhere.
    pub(super) lost: u64,
}

/// Names the same bytes elsewhere in place of chunks that no node has. `chunks` are all that are listed of the blob.
pub(super) async fn mend(
    store: &BlobStore,
    id: BlobId,
    chunks: &[Chunk],
    dry_run: bool,
) -> Result<Mended, BlobError> {
    let mut mended = Mended::default();
    for (entry, mut fragments) in layout(store, id).await? {
        let mut moved = 0;
        for fragment in &mut fragments {
            if chunks.iter().any(|chunk| chunk.fragment.file == fragment.file)
                || is_there(store, id, fragment.file).await?
            {
                continue;
            }
            match chunks.iter().find(|chunk| has_bytes_of(&chunk.fragment, fragment)) {
                Some(chunk) => {
                    fragment.file = chunk.fragment.file;
                    moved += 1;
                }
                None => mended.lost += 1,
            }
        }
        if moved > 0 && !dry_run {
            let transaction = Transaction::new()
                .check(Check::Version(entry.key.clone(), entry.version))
                .write(Write::Put(entry.key, encode(&LayoutRow::new(&fragments))));
            // Somebody who moved a fragment of it meanwhile knows better.
            if !store.meta().transact(transaction).await?.is_committed() {
                continue;
            }
        }
        mended.moved += moved;
    }
    Ok(mended)
}

/// Whether a chunk has the place and the checksum of a fragment.
fn has_bytes_of(chunk: &Fragment, fragment: &Fragment) -> bool {
    (chunk.offset, chunk.length, chunk.checksum) == (fragment.offset, fragment.length, fragment.checksum)
}

/// Whether a chunk that was not listed is there all the same: it may be younger than the list.
async fn is_there(store: &BlobStore, id: BlobId, file: FileId) -> Result<bool, BlobError> {
    let first = match store.fragments().read(file, 0..1).await {
        Ok(mut blocks) => blocks.next().await.transpose().map(|_| ()),
        Err(error) => Err(error),
    };
    match first {
        // Damage is another matter, which the nodes see to.
        Ok(()) | Err(FragmentError::Damaged { .. }) => Ok(true),
        Err(FragmentError::NotFound(_)) => Ok(false),
        Err(error) => Err(BlobError::of_fragment(id, error)),
    }
}
