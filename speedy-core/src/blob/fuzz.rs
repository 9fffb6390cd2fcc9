//! What fuzzers attack: records of upload sessions, which any process of any build may have written.

use std::sync::Arc;

use bytes::Bytes;

use super::records::{UploadRecord, encode};
use super::{BlobError, BlobOptions, BlobStore, MemoryFragments, body_of, keys};
use crate::budget::Budget;
use crate::digest::{Algorithm, Hasher};
use crate::id::UploadId;
use crate::meta::{Entry, MemoryMeta, Transaction, Version, Write};

/// A record of a session made of any bytes: it is refused, or the session can be listed, goes on where it says that it
/// stands, is written down as the same again, and ends when it is aborted.
///
/// # Panics
/// Where that does not hold.
pub fn upload(data: &[u8]) {
    hash_state(data);
    record(data.to_vec().into());
    // The same bytes as the parts of a record that is otherwise right, which a fuzzer finds hard to guess.
    let Some((offset, state)) = data.split_first_chunk::<8>() else { return };
    let forged = UploadRecord {
        blob: vec![9; 16].into(),
        label: "team/app".into(),
        offset: u64::from_le_bytes(*offset),
        sha256: Bytes::copy_from_slice(state),
        active: 1,
        begun: 1,
        sha512: Bytes::new(),
    };
    record(encode(&forged));
}

/// What is accepted as a state is exported as the same state, and can be gone on with.
fn hash_state(data: &[u8]) {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let Some(mut hasher) = Hasher::import(algorithm, data) else { continue };
        let again = Hasher::import(algorithm, &hasher.export()).expect("what was exported can be imported");
        hasher.update(b"more");
        let mut other = again;
        other.update(b"more");
        assert_eq!(hasher.finish(), other.finish());
    }
}

fn record(value: Bytes) {
    let entry = Entry { key: Bytes::new(), value: value.clone(), version: Version(1) };
    if let Ok(record) = super::records::decode::<UploadRecord>(&entry) {
        let again = Entry { value: encode(&record), ..entry };
        assert_eq!(super::records::decode::<UploadRecord>(&again), Ok(record));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime of one thread can be made").block_on(session(value));
}

async fn session(value: Bytes) {
    let store = BlobStore::new(
        Arc::new(MemoryMeta::new()),
        Arc::new(MemoryFragments::new()),
        Budget::new(1 << 20),
        BlobOptions::default(),
    );
    let id = UploadId::from_bytes([5; 16]);
    let put = Transaction::new().write(Write::Put(keys::upload(id), value));
    assert!(store.meta().transact(put).await.is_ok_and(|outcome| outcome.is_committed()));
    let listed = store.uploads(None, 10).await.expect("sessions in memory can be listed");
    match store.upload(id).await {
        Ok(mut upload) => {
            let offset = upload.offset();
            assert_eq!(listed.len(), 1);
            assert_eq!((listed[0].offset, listed[0].label.as_str()), (offset, upload.label()));
            let stray = upload.append(Some(offset + 1), body_of(&b"abc"[..])).await;
            assert_eq!(stray, Err(BlobError::OutOfOrder { expected: offset }));
            assert_eq!(upload.append(Some(offset), body_of(&b"abc"[..])).await, Ok(offset + 3));
            let resumed = store.upload(id).await.expect("what this build writes it can read");
            assert_eq!((resumed.offset(), resumed.label()), (offset + 3, upload.label()));
        }
        Err(BlobError::Unavailable(_) | BlobError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let aborted = store.abort_upload(id).await.expect("a session in memory can be aborted");
    assert_eq!(aborted.map(|was| was.id), Some(id));
    assert_eq!(store.upload(id).await.err(), Some(BlobError::UnknownUpload(id)));
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_and_what_becomes_of_them() {
        crate::replay::replay("upload", 300, super::upload);
    }
}
