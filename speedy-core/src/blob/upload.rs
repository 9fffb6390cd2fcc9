use std::time::Duration;

use bytes::Bytes;

use super::hashes::Hashes;
use super::ingest::{Tail, ingest};
use super::records::{BlobRecord, DigestRecord, LayoutRow, State, UploadRecord, decode_of, encode};
use super::{BlobError, BlobInfo, BlobStore, Body, Fragment, Link, keys};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::id::{BlobId, FileId, UploadId};
use crate::meta::{Check, MetaError, Outcome, Timestamp, Transaction, Version, Write};
use crate::request::carried;

/// How often a commit that keeps meeting others' commits of the same digest tries again.
const COMMIT_TRIES: usize = 16;
/// How long a session has rested when it is worth writing that somebody asked about it. Its writers write more often, unless
/// they bring less than a fragment in that time.
const RENEW_AFTER: Duration = Duration::from_secs(30 * 60);
/// More bytes than any upload holds: a record that says so is damaged, and adding to it would overflow.
const LARGEST: u64 = 1 << 60;

/// An upload session: bytes that come in, in any number of requests, through any process, until they are committed.
#[derive(Clone, Debug)]
pub struct Upload {
    pub(super) store: BlobStore,
    pub(super) id: UploadId,
    pub(super) label: String,
    pub(super) blob: BlobId,
    /// Bytes that the stored session counts.
    persisted: u64,
    /// Fragments on stable storage that no layout row names yet; they follow `persisted`.
    pub(super) pending: Vec<Fragment>,
    /// Whether a transaction that names pending fragments may have been applied without an answer.
    in_doubt: bool,
    /// The states after the last pending fragment.
    pub(super) hashes: Hashes,
    /// When the session's first record was written; `None` before.
    begun: Option<u64>,
    /// When its last record was.
    active: u64,
    /// Of the session's record; `None` while it has none.
    version: Option<Version>,
    /// Of the blob's record; `None` while it has none.
    blob_version: Option<Version>,
}

impl Upload {
    /// A session that has no record until it holds more than one transaction can commit at once.
    pub(super) fn unstored(store: BlobStore) -> Self {
        Self {
            store,
            id: UploadId::random(),
            label: String::new(),
            blob: BlobId::fresh(),
            persisted: 0,
            pending: Vec::new(),
            in_doubt: false,
            hashes: Hashes::new(Algorithm::Sha256),
            begun: None,
            active: 0,
            version: None,
            blob_version: None,
        }
    }

    pub(super) async fn begin(store: BlobStore, label: &str, named_by: Algorithm) -> Result<Self, BlobError> {
        let mut upload = Self { label: label.into(), ..Self::unstored(store) };
        upload.will_be_named_by(named_by);
        let record = upload.record().await?;
        let key = keys::upload(upload.id);
        // Nobody relies on an empty session: what a crash may take is one round trip of the client.
        let transaction = Transaction::new()
            .check(Check::Absent(key.clone()))
            .write(Write::Put(key, encode(&record)))
            .relaxed();
        match upload.store.meta().transact(transaction).await? {
            Outcome::Committed(version) => {
                upload.version = Some(version);
                upload.begun = Some(record.begun);
                upload.active = record.active;
            }
            Outcome::Conflict(_) => return Err(BlobError::UploadBusy(upload.id)),
        }
        Ok(upload)
    }

    pub(super) async fn resume(store: BlobStore, id: UploadId) -> Result<Self, BlobError> {
        let entry = store.meta().get(keys::upload(id)).await?.ok_or(BlobError::UnknownUpload(id))?;
        let unreadable = |reason: &str| BlobError::Unavailable(format!("the record of upload {id} {reason}"));
        let record: UploadRecord = decode_of(BlobId::from_bytes(*id.as_bytes()), &entry)?;
        let mut blob = BlobId::try_from(&record.blob[..]).map_err(|_| unreadable("names no blob"))?;
        let hashes = Hashes::import(&record.sha256, &record.sha512)
            .ok_or_else(|| unreadable("holds a hash state that this version cannot read"))?;
        if record.offset > LARGEST {
            return Err(unreadable("says that it holds more than any blob can"));
        }
        // The blob's record is written with the first bytes. Before, the collector may have put an end to a blob whose first
        // chunk was written and named too late: the session goes on with another.
        let blob_version = match record.offset {
            0 => {
                blob = BlobId::fresh();
                None
            }
            _ => store.meta().get(keys::blob(blob)).await?.map(|entry| entry.version),
        };
        Ok(Self {
            store,
            id,
            label: record.label,
            blob,
            persisted: record.offset,
            pending: Vec::new(),
            in_doubt: false,
            hashes,
            begun: Some(record.begun),
            active: record.active,
            version: Some(entry.version),
            blob_version,
        })
    }

    /// Names the session.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// What the session was begun with.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Number of bytes that the session holds, all on stable storage. The next byte goes here.
    pub fn offset(&self) -> u64 {
        self.persisted
    }

    /// Says that the content will be committed under a digest of this algorithm, so that its bytes need not be read
    /// again then. It helps only before the first byte, and binds nobody.
    pub fn will_be_named_by(&mut self, algorithm: Algorithm) {
        if self.received() == 0 && algorithm != Algorithm::Sha256 {
            self.hashes = Hashes::new(algorithm);
        }
    }

    /// `offset` and what is pending after it.
    pub(super) fn received(&self) -> u64 {
        self.pending.last().map_or(self.persisted, |last| last.offset + last.length)
    }

    /// Adds a body to the session and answers the new [`offset`](Self::offset). `at`, where given, is the offset that
    /// the sender believes it is at.
    ///
    /// It runs in a task of its own: when the caller goes away, what has come is still made durable.
    ///
    /// # Errors
    /// [`BlobError::OutOfOrder`] when `at` is not where the session stands: nothing is read from the body then.
    /// [`BlobError::Body`] when the body broke off, [`BlobError::UploadBusy`] when another writer of the session was
    /// first, [`BlobError::UnknownUpload`] when it has ended meanwhile, or what storage reports:
    /// [`offset`](Self::offset) then tells what was kept.
    pub async fn append(&mut self, at: Option<u64>, body: Body) -> Result<u64, BlobError> {
        self.run(at, body, Tail::Persist).await?;
        Ok(self.persisted)
    }

    /// Like [`append`](Self::append), for a body that a commit follows at once: its last fragments are kept for the
    /// transaction of the commit, which saves one. Must be followed by [`commit`](Self::commit) or
    /// [`cancel`](Self::cancel); until then [`offset`](Self::offset) does not count them.
    pub async fn append_last(&mut self, at: impl Into<Option<u64>>, body: Body) -> Result<(), BlobError> {
        self.run(at.into(), body, Tail::Keep).await
    }

    async fn run(&mut self, at: Option<u64>, body: Body, tail: Tail) -> Result<(), BlobError> {
        let expected = self.received();
        if at.is_some_and(|at| at != expected) {
            return Err(BlobError::OutOfOrder { expected });
        }
        let mut upload = self.clone();
        let task = tokio::spawn(carried(async move {
            let result = ingest(&mut upload, body, tail).await;
            (upload, result)
        }));
        let (upload, result) = task.await.map_err(|error| {
            BlobError::Unavailable(format!("the task of upload {} ended: {error}", self.id))
        })?;
        *self = upload;
        result
    }

    /// Makes the blob live under its digest, and adds what `link` gives, in one transaction. Where a live blob has the
    /// same content already, the digest goes on pointing to that one and the new bytes are dropped.
    ///
    /// # Errors
    /// [`BlobError::DigestMismatch`] when the content is another, and the session is gone then;
    /// [`BlobError::UploadBusy`] when another writer changed the session meanwhile, and
    /// [`BlobError::UnknownUpload`] when that one ended it.
    pub async fn commit(self, digest: &Digest, link: &Link<'_>) -> Result<BlobInfo, BlobError> {
        self.commit_content(Some(*digest), link).await
    }

    pub(super) async fn commit_content(
        mut self,
        expected: Option<Digest>,
        link: &Link<'_>,
    ) -> Result<BlobInfo, BlobError> {
        let sha256 = self.hashes.sha256();
        let expected = expected.unwrap_or(sha256);
        let actual = match self.hashes.digest(expected.algorithm()) {
            Some(digest) => digest,
            None => self.digest_again(expected.algorithm()).await?,
        };
        if actual != expected {
            self.give_up().await;
            return Err(BlobError::DigestMismatch { expected: expected.into(), actual: actual.into() });
        }
        for _ in 0..COMMIT_TRIES {
            let mut digests = vec![sha256];
            if expected != sha256 {
                digests.push(expected);
            }
            let found = self.store.find_many(&digests).await?;
            let unnamed: Vec<Digest> = digests
                .iter()
                .zip(&found)
                .filter_map(|(digest, found)| found.is_none().then_some(*digest))
                .collect();
            let there = found.into_iter().flatten().next();
            let begins_to_exist = there.is_none() && self.blob_version.is_none();
            let (info, transaction) = match there {
                Some(there) => self.join(there, &unnamed, expected).await?,
                None => self.become_live(&unnamed, expected).await?,
            };
            let dropped = if info.id == self.blob { Vec::new() } else { self.nameless() };
            match self.store.meta().transact(transaction.and(link(&info))).await? {
                Outcome::Committed(_) => {
                    self.store.discard(dropped);
                    return Ok(info);
                }
                // The first checks are those of the session itself.
                Outcome::Conflict(at) if at < self.own_checks() => return Err(self.lost().await),
                Outcome::Conflict(at) if at == self.own_checks() && begins_to_exist => {
                    return Err(self.late());
                }
                Outcome::Conflict(at) => tracing::debug!(upload = %self.id, at, "a commit tries again"),
            }
        }
        Err(BlobError::Unavailable(format!("the commit of {expected} kept meeting other changes; try again")))
    }

    /// Takes in a body that is the whole content, and commits it; gives the session up where that body fails.
    pub(super) async fn fill(
        mut self,
        body: Body,
        expected: Option<Digest>,
        link: &Link<'_>,
    ) -> Result<BlobInfo, BlobError> {
        if let Err(error) = self.append_last(0, body).await {
            self.give_up().await;
            return Err(error);
        }
        self.commit_content(expected, link).await
    }

    /// Says that somebody counts on the session: the time for which it is kept begins anew, as if it had grown. Half an hour is
    /// too little to write that down, so whoever asks often writes little, and gets in the way of nobody who adds bytes
    /// at any usual speed. Answers the session as it is then.
    ///
    /// # Errors
    /// [`BlobError::UnknownUpload`] when it has ended meanwhile, or what storage reports.
    pub async fn renew(mut self) -> Result<Self, BlobError> {
        let rested = self.store.meta().now().await?.since(Timestamp(self.active));
        if rested < RENEW_AFTER.min(self.store.options().upload_expiry / 2) {
            return Ok(self);
        }
        match self.persist().await {
            Ok(()) => Ok(self),
            // It went on, or ended.
            Err(BlobError::UploadBusy(_)) => Self::resume(self.store, self.id).await,
            // Reads go on where there is no room for writes.
            Err(BlobError::Full(_)) => Ok(self),
            Err(error) => Err(error),
        }
    }

    /// Gives the session up: its bytes can't be read and are freed.
    pub async fn cancel(self) -> Result<(), BlobError> {
        let pending = self.nameless();
        let mut transaction = self.session_unchanged();
        if self.version.is_some() {
            transaction = transaction.write(Write::Delete(keys::upload(self.id)));
        }
        if self.blob_version.is_some() {
            transaction = transaction.and(self.store.death(self.blob, BlobRecord::default()).await?);
        }
        if transaction.operations() > 0 && !self.store.meta().transact(transaction).await?.is_committed() {
            return Err(self.lost().await);
        }
        self.store.discard(pending);
        Ok(())
    }

    /// Cancels as well as it can: what is left is found by the collector.
    pub(super) async fn give_up(self) {
        let id = self.id;
        if let Err(error) = self.cancel().await {
            tracing::debug!(upload = %id, %error, "a failed upload is left to the collector");
        }
    }

    /// Writes the pending fragments into the layout and the session's record.
    pub(super) async fn persist(&mut self) -> Result<(), BlobError> {
        let end = self.received();
        let record = UploadRecord { offset: end, ..self.record().await? };
        let mut transaction =
            self.session_unchanged().write(Write::Put(keys::upload(self.id), encode(&record)));
        if !self.pending.is_empty() {
            transaction = transaction.and(self.put_pending());
            if self.blob_version.is_none() {
                let blob = BlobRecord {
                    state: State::Uploading.into(),
                    since: record.active,
                    ..BlobRecord::default()
                };
                transaction = transaction
                    .check(Check::Absent(keys::blob(self.blob)))
                    .write(Write::Put(keys::blob(self.blob), encode(&blob)));
            }
        }
        let outcome = self.store.meta().transact(transaction).await;
        self.in_doubt |= matches!(outcome, Err(MetaError::Unavailable(_) | MetaError::Failed(_)));
        match outcome? {
            Outcome::Committed(version) => {
                self.version = Some(version);
                self.begun = Some(record.begun);
                self.active = record.active;
                if !self.pending.is_empty() {
                    self.blob_version.get_or_insert(version);
                }
                self.persisted = end;
                self.pending.clear();
                Ok(())
            }
            Outcome::Conflict(at) if at == self.own_checks() => Err(self.late()),
            Outcome::Conflict(_) => Err(self.lost().await),
        }
    }

    /// The chunks that no row names, nor will. Where an answer was lost, one may: those are left to the collector, which
    /// makes sure of it.
    fn nameless(&self) -> Vec<FileId> {
        let nameless = if self.in_doubt { &[][..] } else { &self.pending };
        nameless.iter().map(|fragment| fragment.file).collect()
    }

    /// Forgets the fragments that could not be put into the layout, and deletes their chunks.
    pub(super) fn drop_pending(&mut self) {
        self.store.discard(self.nameless());
        self.pending.clear();
    }

    /// What the first checks of every transaction of the session say: nobody else changed it. There are
    /// [`own_checks`](Self::own_checks) of them.
    fn session_unchanged(&self) -> Transaction {
        let mut transaction = Transaction::new();
        if let Some(version) = self.version {
            transaction = transaction.check(Check::Version(keys::upload(self.id), version));
        }
        if let Some(version) = self.blob_version {
            transaction = transaction.check(Check::Version(keys::blob(self.blob), version));
        }
        transaction
    }

    fn own_checks(&self) -> usize {
        usize::from(self.version.is_some()) + usize::from(self.blob_version.is_some())
    }

    /// Why the session is not what it was: another writer was first, or it has ended.
    async fn lost(&self) -> BlobError {
        if self.version.is_some() {
            match self.store.meta().get(keys::upload(self.id)).await {
                Ok(Some(_)) => {}
                Ok(None) => return BlobError::UnknownUpload(self.id),
                Err(error) => return error.into(),
            }
        }
        BlobError::UploadBusy(self.id)
    }

    /// The collector has put an end to the blob before its first record was written.
    fn late(&self) -> BlobError {
        BlobError::Unavailable(format!(
            "upload {} rested for so long between a write and its commit that its bytes were freed; send them again",
            self.id
        ))
    }

    async fn record(&self) -> Result<UploadRecord, BlobError> {
        let (sha256, sha512) = self.hashes.export();
        let now = self.store.meta().now().await?.0;
        Ok(UploadRecord {
            blob: Bytes::copy_from_slice(self.blob.as_bytes()),
            label: self.label.clone(),
            offset: self.persisted,
            sha256,
            sha512,
            active: now,
            begun: self.begun.unwrap_or(now),
        })
    }

    fn put_pending(&self) -> Transaction {
        if self.pending.is_empty() {
            return Transaction::new();
        }
        let row = encode(&LayoutRow::new(&self.pending));
        Transaction::new().write(Write::Put(keys::layout_row(self.blob, self.received()), row))
    }

    /// The content's digest by an algorithm that was not known while the bytes came: they are read again.
    async fn digest_again(&mut self, algorithm: Algorithm) -> Result<Digest, BlobError> {
        use futures_util::TryStreamExt;
        if !self.pending.is_empty() {
            self.persist().await?;
        }
        let mut bytes = super::BlobReader::new(self.store.clone(), self.blob, 0..self.persisted);
        let mut hasher = Hasher::new(algorithm);
        while let Some(run) = bytes.try_next().await? {
            hasher = super::ingest::hash_off_worker(hasher, vec![run], Hasher::update).await?;
        }
        Ok(hasher.finish())
    }

    /// The transaction that drops this session's bytes in favour of a blob that is there.
    async fn join(
        &self,
        there: super::LiveBlob,
        unnamed: &[Digest],
        expected: Digest,
    ) -> Result<(BlobInfo, Transaction), BlobError> {
        let info = BlobInfo { digest: expected, ..there.info };
        let mut transaction = self.session_unchanged().check(there.check_live());
        if self.version.is_some() {
            transaction = transaction.write(Write::Delete(keys::upload(self.id)));
        }
        if self.blob_version.is_some() {
            transaction = transaction.and(self.store.death(self.blob, BlobRecord::default()).await?);
        }
        // A digest that does not point anywhere yet is one more name of the same content.
        if !unnamed.is_empty() {
            let key = keys::blob(info.id);
            let entry = self.store.meta().get(key.clone()).await?.ok_or(BlobError::NotFound(info.id))?;
            let mut record: BlobRecord = decode_of(info.id, &entry)?;
            for digest in unnamed {
                record.digests.push(digest.to_string());
                transaction = transaction.and(point(digest, info.id, info.size));
            }
            transaction = transaction.check(Check::Version(key.clone(), entry.version));
            transaction = transaction.write(Write::Put(key, encode(&record)));
        }
        Ok((info, transaction))
    }

    /// The transaction that makes this session's blob live.
    async fn become_live(
        &self,
        digests: &[Digest],
        expected: Digest,
    ) -> Result<(BlobInfo, Transaction), BlobError> {
        let info = BlobInfo { id: self.blob, size: self.received(), digest: expected };
        let record = BlobRecord {
            state: State::Live.into(),
            size: info.size,
            digests: digests.iter().map(Digest::to_string).collect(),
            since: self.store.meta().now().await?.0,
        };
        let mut transaction = self.session_unchanged();
        if self.blob_version.is_none() {
            transaction = transaction.check(Check::Absent(keys::blob(self.blob)));
        }
        for digest in digests {
            transaction = transaction.and(point(digest, info.id, info.size));
        }
        if self.version.is_some() {
            transaction = transaction.write(Write::Delete(keys::upload(self.id)));
        }
        transaction = transaction.and(self.put_pending());
        Ok((info, transaction.write(Write::Put(keys::blob(self.blob), encode(&record)))))
    }
}

/// Points a digest that points nowhere at a blob.
fn point(digest: &Digest, blob: BlobId, size: u64) -> Transaction {
    let key = keys::digest(digest);
    let record = DigestRecord { blob: Bytes::copy_from_slice(blob.as_bytes()), size };
    Transaction::new().check(Check::Absent(key.clone())).write(Write::Put(key, encode(&record)))
}
