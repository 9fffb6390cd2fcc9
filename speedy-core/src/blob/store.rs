use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::reader::BlobReader;
use super::records::{BlobRecord, DigestRecord, State, decode_of, encode};
use super::{BlobError, BlobOptions, Upload, keys, references};
use crate::budget::Budget;
use crate::digest::{Algorithm, Digest};
use crate::id::{BlobId, FileId, UploadId};
use crate::meta::{Check, Entry, MakesRoom, MetaStore, Outcome, Timestamp, Transaction, Version, Write};
use crate::payload::BodyError;
use crate::replicate::Fragments;
use crate::request::carried;

/// The bytes of a blob as they arrive, in runs of any size.
pub type Body = BoxStream<'static, Result<Bytes, BodyError>>;

/// What a caller adds to the transaction that commits a blob: checks and writes of its own that apply with it or not
/// at all. It is given the blob that the digest will point to, which may be one that was there before, and is called
/// again when the commit has to be tried again.
pub type Link<'a> = dyn Fn(&BlobInfo) -> Transaction + Send + Sync + 'a;

/// A body of bytes in memory.
pub fn body_of(bytes: impl Into<Bytes>) -> Body {
    stream::iter([Ok(bytes.into())]).boxed()
}

/// A live blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobInfo {
    /// Its id, for life.
    pub id: BlobId,
    /// Its length in bytes.
    pub size: u64,
    /// The digest that it was asked for by.
    pub digest: Digest,
}

/// A blob as its record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredBlob {
    /// Its id.
    pub id: BlobId,
    /// Its length in bytes, once it is live.
    pub size: u64,
    /// Whether it is live: it is complete, and did not die.
    pub is_live: bool,
    /// Since when it is what it is.
    pub since: Timestamp,
}

/// A live blob as a digest's pointer showed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveBlob {
    /// The blob.
    pub info: BlobInfo,
    version: Version,
}

impl LiveBlob {
    /// Holds in a transaction exactly while the blob has not died since it was found.
    pub fn check_live(&self) -> Check {
        Check::Version(keys::digest(&self.info.digest), self.version)
    }
}

/// Blobs over fragments and metadata. Cheap to clone; clones are the same store. See the [module](super).
#[derive(Clone, Debug)]
pub struct BlobStore(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    meta: Arc<dyn MetaStore>,
    fragments: Arc<dyn Fragments>,
    budget: Budget,
    options: BlobOptions,
}

impl BlobStore {
    /// A blob store over these. It holds no state of its own: any number may stand over the same two.
    pub fn new(
        meta: Arc<dyn MetaStore>,
        fragments: Arc<dyn Fragments>,
        budget: Budget,
        options: BlobOptions,
    ) -> Self {
        Self(Arc::new(Parts { meta, fragments, budget, options }))
    }

    /// The same store for work that makes room: its transactions are taken where there is little left for metadata.
    #[must_use]
    pub fn making_room(&self) -> Self {
        let Parts { meta, fragments, budget, options } = &*self.0;
        let meta = Arc::new(MakesRoom::new(Arc::clone(meta)));
        Self::new(meta, Arc::clone(fragments), budget.clone(), options.clone())
    }

    /// The metadata store.
    pub fn meta(&self) -> &Arc<dyn MetaStore> {
        &self.0.meta
    }

    /// The fragments.
    pub fn fragments(&self) -> &Arc<dyn Fragments> {
        &self.0.fragments
    }

    /// The budget that bytes in memory are counted in.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// How the store works.
    pub fn options(&self) -> &BlobOptions {
        &self.0.options
    }

    /// Stores a whole body as a blob, durably. Where a live blob has the same content already, the new bytes are
    /// dropped and that one is the answer.
    ///
    /// # Errors
    /// [`BlobError::DigestMismatch`] when `expected` is given and the bytes are others; [`BlobError::Body`] when the
    /// body broke off. Nothing is stored then.
    pub async fn put(
        &self,
        body: Body,
        expected: Option<Digest>,
        link: &Link<'_>,
    ) -> Result<BlobInfo, BlobError> {
        let mut upload = Upload::unstored(self.clone());
        if let Some(expected) = &expected {
            upload.will_be_named_by(expected.algorithm());
        }
        upload.fill(body, expected, link).await
    }

    /// Like [`put`](Self::put), as an upload session with a label from before the first byte on, so that others see what
    /// somebody is bringing.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    pub async fn put_as(&self, label: &str, body: Body, link: &Link<'_>) -> Result<BlobInfo, BlobError> {
        self.begin_upload(label).await?.fill(body, None, link).await
    }

    /// The live blob that a digest points to.
    pub async fn find(&self, digest: &Digest) -> Result<Option<LiveBlob>, BlobError> {
        Ok(self.find_many(std::slice::from_ref(digest)).await?.pop().flatten())
    }

    /// The live blobs that these digests point to, in the order asked, all from one snapshot.
    pub async fn find_many(&self, digests: &[Digest]) -> Result<Vec<Option<LiveBlob>>, BlobError> {
        let keys: Vec<Bytes> = digests.iter().map(keys::digest).collect();
        let entries = self.0.meta.get_many(&keys).await?;
        digests
            .iter()
            .zip(entries)
            .map(|(digest, entry)| entry.map(|entry| live(digest, &entry)).transpose())
            .collect()
    }

    /// Reads `range` of a blob. Fragments are fetched ahead and delivered in order, each byte verified.
    ///
    /// # Errors
    /// [`BlobError::Invalid`] when the range is not inside the blob. All else comes from the stream.
    pub fn read(&self, blob: &BlobInfo, range: Range<u64>) -> Result<BlobReader, BlobError> {
        if range.start > range.end || range.end > blob.size {
            return Err(BlobError::Invalid(format!("range {range:?} of a blob of {} bytes", blob.size)));
        }
        Ok(BlobReader::new(self.clone(), blob.id, range))
    }

    /// Deletes a blob: it can't be found from now on, and its chunks are freed by the collector once no read can be
    /// at them any more. Deleting a blob that is not there is no error.
    ///
    /// # Errors
    /// [`BlobError::Invalid`] while [references](references) to it exist.
    pub async fn delete(&self, id: BlobId) -> Result<(), BlobError> {
        match self.delete_where(id, Transaction::new()).await? {
            true => Ok(()),
            false => Err(BlobError::Invalid(format!("blob {id} is still referred to"))),
        }
    }

    /// Like [`delete`](Self::delete), where `condition` holds too: its checks and writes are part of the transaction
    /// in which the blob dies. `false` where they do not hold, or the blob is still referred to.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn delete_where(&self, id: BlobId, condition: Transaction) -> Result<bool, BlobError> {
        loop {
            let Some(entry) = self.0.meta.get(keys::blob(id)).await? else { return Ok(true) };
            let record: BlobRecord = decode_of(id, &entry)?;
            if record.state() != State::Live {
                return Ok(true);
            }
            let transaction = Transaction::new()
                .check(Check::Version(entry.key.clone(), entry.version))
                .check(Check::RangeEmpty(references(id)))
                .and(condition.clone())
                .and(self.death(id, record).await?);
            match self.0.meta.transact(transaction).await? {
                Outcome::Committed(_) => return Ok(true),
                // Its record changed meanwhile: look again.
                Outcome::Conflict(0) => {}
                Outcome::Conflict(_) => return Ok(false),
            }
        }
    }

    /// Up to `limit` blobs in order of their ids, those after `after`, and the last id that was looked at where there
    /// are more.
    ///
    /// A blob whose record can't be read is none that is live.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn list(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<(Vec<StoredBlob>, Option<BlobId>), BlobError> {
        let all = keys::blobs();
        let range = after.map_or(all.clone(), |after| all.after(&keys::blob(after)));
        let page = self.0.meta.scan(range, limit).await?;
        let ids = || page.entries.iter().filter_map(|entry| Some((keys::blob_of_record(&entry.key)?, entry)));
        let stored = |(id, entry): (BlobId, &Entry)| {
            let record: BlobRecord = decode_of(id, entry).unwrap_or_default();
            let since = Timestamp(record.since);
            StoredBlob { id, size: record.size, is_live: record.state() == State::Live, since }
        };
        let blobs = ids().map(stored).collect();
        let last = ids().last().map(|(id, _)| id);
        Ok((blobs, page.next.and(last)))
    }

    /// When the metadata store was made of a backup; the beginning of time if it was not. Whatever counts time from
    /// what it finds in the store begins there.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn restored(&self) -> Result<Timestamp, BlobError> {
        super::trust::restored(self).await
    }

    /// Begins an upload session. `label` comes back with the session; a registry keeps the repository there.
    ///
    /// The empty session may be lost in a crash of the metadata store within the next second.
    pub async fn begin_upload(&self, label: &str) -> Result<Upload, BlobError> {
        self.begin_upload_named_by(label, Algorithm::Sha256).await
    }

    /// Like [`begin_upload`](Self::begin_upload), for content that will be committed under a digest of this algorithm.
    /// It may be committed under another one: then its bytes are read once more.
    pub async fn begin_upload_named_by(
        &self,
        label: &str,
        algorithm: Algorithm,
    ) -> Result<Upload, BlobError> {
        Upload::begin(self.clone(), label, algorithm).await
    }

    /// Takes up an upload session, whoever began it.
    ///
    /// # Errors
    /// [`BlobError::UnknownUpload`] when it was committed, cancelled, expired, or never was.
    pub async fn upload(&self, id: UploadId) -> Result<Upload, BlobError> {
        Upload::resume(self.clone(), id).await
    }

    /// The writes that make a blob dead: its record, the pointers of its digests, its place among the dead. The caller
    /// checks that the record is unchanged.
    pub(super) async fn death(&self, id: BlobId, record: BlobRecord) -> Result<Transaction, BlobError> {
        let now = self.0.meta.now().await?;
        let mut transaction = Transaction::new().write(Write::Put(keys::dead(now, id), Bytes::new()));
        if record.state() == State::Live {
            for digest in record.digests() {
                transaction = transaction.write(Write::Delete(keys::digest(&digest)));
            }
        }
        let dead = BlobRecord { state: State::Dead.into(), since: now.0, ..record };
        Ok(transaction.write(Write::Put(keys::blob(id), encode(&dead))))
    }

    /// Deletes chunks that no layout names, without being waited for. What fails is left to the collector.
    pub(super) fn discard(&self, files: Vec<FileId>) {
        if files.is_empty() {
            return;
        }
        let fragments = Arc::clone(&self.0.fragments);
        tokio::spawn(carried(async move {
            for file in files {
                if let Err(error) = fragments.delete(file).await {
                    tracing::debug!(%file, %error, "a dropped chunk is left to the collector");
                }
            }
        }));
    }
}

/// The blob in the pointer of a digest.
fn live(digest: &Digest, entry: &Entry) -> Result<LiveBlob, BlobError> {
    let damaged = |reason: String| BlobError::Damaged {
        blob: BlobId::from_bytes([0; 16]),
        reason: format!("the pointer of {digest} cannot be read: {reason}"),
    };
    let record: DigestRecord = super::records::decode(entry).map_err(|error| damaged(error.to_string()))?;
    let id = BlobId::try_from(&record.blob[..]).map_err(|error| damaged(error.to_string()))?;
    Ok(LiveBlob { info: BlobInfo { id, size: record.size, digest: *digest }, version: entry.version })
}
