//! The upload sessions that there are, for whoever keeps watch over them.

use super::records::{BlobRecord, UploadRecord, decode, decode_of};
use super::{BlobError, BlobStore, keys};
use crate::id::{BlobId, UploadId};
use crate::meta::{Check, Entry, Timestamp, Transaction, Write};

/// How often a session that goes on is tried to be given up.
const TRIES: usize = 16;

/// An upload session as its record shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct UploadInfo {
    /// Names it.
    pub id: UploadId,
    /// What it was begun with. Empty where one request brings a whole blob.
    pub label: String,
    /// Bytes that are on stable storage.
    pub offset: u64,
    /// When it began; `None` where the build that began it did not write that down.
    pub begun: Option<Timestamp>,
    /// When it last grew.
    pub active: Timestamp,
}

impl BlobStore {
    /// Up to `limit` upload sessions in order of their ids, those after `after` where it is given. Fewer than `limit`
    /// are the last ones. Sessions whose record can't be read are passed over.
    ///
    /// # Errors
    /// What reading metadata may meet.
    pub async fn uploads(&self, after: Option<UploadId>, limit: usize) -> Result<Vec<UploadInfo>, BlobError> {
        let all = keys::uploads();
        let mut rest = Some(match after {
            Some(id) => all.after(&keys::upload(id)),
            None => all,
        });
        let mut found = Vec::new();
        while let Some(range) = rest.filter(|_| found.len() < limit) {
            let page =
                self.meta().scan(range, (limit - found.len()).min(crate::meta::MAX_PAGE_ENTRIES)).await?;
            found.extend(page.entries.iter().filter_map(info));
            rest = page.next;
        }
        Ok(found)
    }

    /// Gives an upload session up, whoever writes to it: its bytes can't be read and are freed, and a request that brings
    /// more of them fails. Answers what it was, or `None` where it is not there.
    ///
    /// # Errors
    /// [`BlobError::UploadBusy`] when it changed again and again meanwhile, or what metadata may meet.
    pub async fn abort_upload(&self, id: UploadId) -> Result<Option<UploadInfo>, BlobError> {
        for _ in 0..TRIES {
            let Some(entry) = self.meta().get(keys::upload(id)).await? else { return Ok(None) };
            let mut give_up = Transaction::new()
                .check(Check::Version(entry.key.clone(), entry.version))
                .write(Write::Delete(entry.key.clone()));
            // A session whose record can't be read is given up all the same; nothing then leads to its blob.
            let record = decode::<UploadRecord>(&entry).unwrap_or_default();
            if let Ok(blob) = BlobId::try_from(&record.blob[..])
                && let Some(entry) = self.meta().get(keys::blob(blob)).await?
            {
                let known: BlobRecord = decode_of(blob, &entry)?;
                let dead = self.death(blob, known).await?;
                give_up = give_up.check(Check::Version(entry.key, entry.version)).and(dead);
            }
            if self.meta().transact(give_up).await?.is_committed() {
                return Ok(Some(described(id, record)));
            }
        }
        Err(BlobError::UploadBusy(id))
    }
}

fn info(entry: &Entry) -> Option<UploadInfo> {
    let id = UploadId::try_from(entry.key.get(2..)?).ok()?;
    Some(described(id, decode(entry).ok()?))
}

fn described(id: UploadId, record: UploadRecord) -> UploadInfo {
    UploadInfo {
        id,
        label: record.label,
        offset: record.offset,
        begun: (record.begun > 0).then_some(Timestamp(record.begun)),
        active: Timestamp(record.active),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::{BlobOptions, MemoryFragments, body_of};
    use crate::budget::Budget;
    use crate::meta::{KeyRange, MemoryMeta};

    fn store() -> BlobStore {
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        BlobStore::new(
            Arc::new(MemoryMeta::new()),
            Arc::new(MemoryFragments::new()),
            Budget::new(8 << 20),
            options,
        )
    }

    #[tokio::test]
    async fn sessions_are_listed_page_by_page_with_where_they_stand() {
        let store = store();
        let mut ids = Vec::new();
        for size in 0..5_u64 {
            let mut upload = store.begin_upload(&format!("team/{size}")).await.unwrap();
            upload.append(None, body_of(vec![7; size as usize * 700])).await.unwrap();
            ids.push(upload.id());
        }
        ids.sort_unstable_by_key(|id| *id.as_bytes());
        let mut listed = Vec::new();
        loop {
            let page = store.uploads(listed.last().map(|last: &UploadInfo| last.id), 2).await.unwrap();
            listed.extend(page.iter().cloned());
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(listed.iter().map(|upload| upload.id).collect::<Vec<_>>(), ids);
        for upload in listed {
            let size: u64 = upload.label.strip_prefix("team/").unwrap().parse().unwrap();
            assert_eq!(upload.offset, size * 700);
            assert!(upload.begun.is_some_and(|begun| begun <= upload.active), "{upload:?}");
        }
    }

    #[tokio::test]
    async fn the_beginning_of_a_session_stays_while_it_grows() {
        let store = store();
        let id = store.begin_upload("a").await.unwrap().id();
        let begun = store.uploads(None, 10).await.unwrap()[0].begun;
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            store.upload(id).await.unwrap().append(None, body_of(vec![1; 10])).await.unwrap();
        }
        let now = &store.uploads(None, 10).await.unwrap()[0];
        assert_eq!((now.offset, now.begun), (30, begun));
        assert!(now.active > begun.unwrap());
    }

    #[tokio::test]
    async fn an_aborted_session_is_gone_with_its_bytes_and_fails_its_writers() {
        let store = store();
        let mut upload = store.begin_upload("a").await.unwrap();
        upload.append(None, body_of(vec![7; 2500])).await.unwrap();
        let aborted = store.abort_upload(upload.id()).await.unwrap().unwrap();
        assert_eq!((aborted.label.as_str(), aborted.offset), ("a", 2500));
        assert_eq!(store.abort_upload(upload.id()).await, Ok(None));
        assert_eq!(store.uploads(None, 10).await, Ok(Vec::new()));
        let dead = store.meta().scan(KeyRange::prefix("q/"), 10).await.unwrap();
        assert_eq!(dead.entries.len(), 1, "the blob waits among the dead for its chunks to be freed");
        let late = upload.append(None, body_of(vec![7; 10])).await;
        assert_eq!(late, Err(BlobError::UnknownUpload(upload.id())));
        assert_eq!(store.upload(upload.id()).await.err(), Some(BlobError::UnknownUpload(upload.id())));
    }

    #[tokio::test]
    async fn a_session_that_cannot_be_read_can_still_be_aborted() {
        let store = store();
        let id = UploadId::random();
        let garbage = Transaction::new().write(Write::Put(keys::upload(id), vec![0xff; 9].into()));
        assert!(store.meta().transact(garbage).await.unwrap().is_committed());
        assert_eq!(store.uploads(None, 10).await, Ok(Vec::new()));
        assert!(store.upload(id).await.is_err());
        assert!(store.abort_upload(id).await.unwrap().is_some());
        assert_eq!(store.meta().get(keys::upload(id)).await.unwrap(), None);
    }
}
