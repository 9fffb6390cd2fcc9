use bytes::Bytes;

use crate::digest::{Algorithm, Digest, Hasher};

/// The digests of an upload as its bytes come. SHA-256 is always there: it is what finds bytes that are stored already.
/// SHA-512 costs as much again, so it is there only where the sender has said, before the first byte, that it names the
/// content by it; otherwise the commit reads the bytes once more.
#[derive(Clone, Debug)]
pub(super) struct Hashes {
    sha256: Hasher,
    sha512: Option<Hasher>,
}

impl Hashes {
    /// Of no bytes, with what `named_by` needs.
    pub(super) fn new(named_by: Algorithm) -> Self {
        let sha512 = (named_by == Algorithm::Sha512).then(|| Hasher::new(Algorithm::Sha512));
        Self { sha256: Hasher::new(Algorithm::Sha256), sha512 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    pub(super) fn sha256(&self) -> Digest {
        self.sha256.clone().finish()
    }

    /// The digest by an algorithm; `None` where that one did not see the bytes.
    pub(super) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        match algorithm {
            Algorithm::Sha256 => Some(self.sha256()),
            Algorithm::Sha512 => self.sha512.clone().map(Hasher::finish),
        }
    }

    /// The states for a session's record: SHA-256, and SHA-512 or nothing.
    pub(super) fn export(&self) -> (Bytes, Bytes) {
        let sha512 = self.sha512.as_ref().map(Hasher::export).unwrap_or_default();
        (self.sha256.export().into(), sha512.into())
    }

    /// What a session's record says; `None` where the states are none.
    pub(super) fn import(sha256: &[u8], sha512: &[u8]) -> Option<Self> {
        let sha512 = match sha512 {
            [] => None,
            state => Some(Hasher::import(Algorithm::Sha512, state)?),
        };
        Some(Self { sha256: Hasher::import(Algorithm::Sha256, sha256)?, sha512 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::{BlobError, BlobOptions, BlobStore, MemoryFragments, body_of};
    use crate::budget::Budget;
    use crate::id::FileId;
    use crate::meta::{MemoryMeta, Transaction};
    use crate::replicate::Fragments;

    /// A store, and its fragments to take away: what is hashed as it comes is never read again.
    fn store() -> (BlobStore, Arc<MemoryFragments>) {
        let fragments = Arc::new(MemoryFragments::new());
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        let meta = Arc::new(MemoryMeta::new());
        (BlobStore::new(meta, fragments.clone(), Budget::new(8 << 20), options), fragments)
    }

    async fn lose_everything(fragments: &MemoryFragments) {
        for (group, chunk) in fragments.list(None, 1000).await.unwrap().chunks {
            fragments.delete(FileId::new(group, chunk.id)).await.unwrap();
        }
        assert!(fragments.is_empty());
    }

    #[tokio::test]
    async fn an_algorithm_that_is_known_at_the_beginning_reads_nothing_again() {
        let content: Vec<u8> = (0..5500u32).map(|i| (i % 251) as u8).collect();
        let digest = Digest::of(Algorithm::Sha512, &content);
        for (named_by, known) in [(Algorithm::Sha512, true), (Algorithm::Sha256, false)] {
            let (store, fragments) = store();
            let upload = store.begin_upload_named_by("r", named_by).await.unwrap();
            for (at, run) in [(0, &content[..2500]), (2500, &content[2500..])] {
                // Taken up each time, as by another process.
                let mut upload = store.upload(upload.id()).await.unwrap();
                upload.append(Some(at), body_of(run.to_vec())).await.unwrap();
            }
            lose_everything(&fragments).await;
            let upload = store.upload(upload.id()).await.unwrap();
            let committed = upload.commit(&digest, &|_| Transaction::new()).await;
            assert_eq!(committed.is_ok(), known, "{committed:?}");
        }
    }

    #[tokio::test]
    async fn an_algorithm_that_is_named_later_is_found_out_by_reading() {
        let (store, _) = store();
        let content = vec![7; 3300];
        let digest = Digest::of(Algorithm::Sha512, &content);
        let link = |_: &_| Transaction::new();
        let mut upload = store.begin_upload("r").await.unwrap();
        // Too late: a byte is there.
        upload.append(None, body_of(content[..1].to_vec())).await.unwrap();
        upload.will_be_named_by(Algorithm::Sha512);
        upload.append(None, body_of(content[1..].to_vec())).await.unwrap();
        let blob = upload.commit(&digest, &link).await.unwrap();
        assert_eq!((blob.digest, blob.size), (digest, 3300));
        // It has both names.
        assert_eq!(store.find(&Digest::sha256(&content)).await.unwrap().unwrap().info.id, blob.id);

        let other = Digest::of(Algorithm::Sha512, b"other");
        let refused = store.put(body_of(content), Some(other), &link).await;
        assert!(matches!(refused, Err(BlobError::DigestMismatch { .. })), "{refused:?}");
    }

    #[test]
    fn states_survive_a_record() {
        for named_by in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hashes = Hashes::new(named_by);
            hashes.update(b"some ");
            let (sha256, sha512) = hashes.export();
            let mut hashes = Hashes::import(&sha256, &sha512).unwrap();
            hashes.update(b"bytes");
            assert_eq!(hashes.sha256(), Digest::sha256(b"some bytes"));
            let expected = (named_by == Algorithm::Sha512).then(|| Digest::of(named_by, b"some bytes"));
            assert_eq!(hashes.digest(Algorithm::Sha512), expected);
        }
        let (sha256, _) = Hashes::new(Algorithm::Sha256).export();
        assert!(Hashes::import(&sha256, b"no state").is_none() && Hashes::import(b"", b"").is_none());
    }
}
