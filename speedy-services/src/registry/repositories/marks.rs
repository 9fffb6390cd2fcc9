//! Marks: since when the collector has found something to be of no use.
//!
//! A mark is the lease of a link that no manifest needs, or of a manifest without a tag, seen from the other side. The
//! collector writes it when it first meets the thing, and removes the thing once the mark is old enough, in a
//! transaction that checks that the mark is still the same. Whoever is told that the thing is there takes the mark away
//! first: so its time begins anew each time that somebody asks, and costs a write only where the collector has been
//! there in between. Where somebody uploads who may count on it, it is spared, and its time begins anew when that ends;
//! but the mark stays, so that it is not spared for whoever comes much later. A mark names the version of the entry that it is about, so that writing the entry again renews it
//! too.

use bytes::Bytes;
use speedy_core::blob::BlobError;
use speedy_core::meta::{Check, Entry, MetaError, Outcome, Timestamp, Transaction, Version, Write};

use super::records::{MarkRecord, decode, encode};
use super::{Repositories, TRIES, back_off, contended};

/// A mark that holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// When its time began: when it was first found, or found to be spared no more.
    pub(crate) since: Timestamp,
    /// When it was first found.
    pub(super) first: Timestamp,
    /// Whether it was spared by the last walk.
    pub(super) is_spared: bool,
    pub(crate) version: Version,
}

impl Repositories {
    /// The entry of something that the collector may have marked. Whoever is told of it counts on it from now on, so
    /// the mark is taken away before.
    pub(crate) async fn in_use(&self, key: Bytes, mark: Bytes) -> Result<Option<Entry>, BlobError> {
        for round in 0..TRIES {
            let mut found = self.meta().get_many(&[key.clone(), mark.clone()]).await?;
            let (marked, entry) = (found.pop().flatten(), found.pop().flatten());
            let (Some(entry), Some(_)) = (&entry, marked) else { return Ok(entry) };
            let unmark = Transaction::new()
                .check(Check::Version(key.clone(), entry.version))
                .write(Write::Delete(mark.clone()));
            match self.meta().transact(unmark).await {
                Ok(Outcome::Committed(_)) => return Ok(Some(entry.clone())),
                // The entry changed or was collected meanwhile: look again.
                Ok(Outcome::Conflict(_)) => back_off(round).await,
                // Reads go on where there is no room for writes; nothing can be pushed that would count on it.
                Err(MetaError::Full(_)) => return Ok(Some(entry.clone())),
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended(format_args!("the read of {}", key.escape_ascii())))
    }

    /// The mark of an entry that the collector has found to be of no use, which it gets now if it has none; `None` where
    /// something changed meanwhile.
    pub(crate) async fn marked(
        &self,
        entry: &Entry,
        key: &Bytes,
        there: Option<&Entry>,
    ) -> Result<Option<Mark>, BlobError> {
        if let Some(there) = there {
            let record: MarkRecord = decode(there)?;
            if record.version == entry.version.0 {
                let since = Timestamp(record.since);
                let first = if record.first == 0 { since } else { Timestamp(record.first) };
                return Ok(Some(Mark { since, first, is_spared: record.is_spared, version: there.version }));
            }
        }
        let since = self.meta().now().await?;
        let record = MarkRecord { since: since.0, version: entry.version.0, ..MarkRecord::default() };
        // A crash may take it: time then begins later.
        let mark = Transaction::new()
            .check(Check::Version(entry.key.clone(), entry.version))
            .unchanged(key.clone(), there)
            .write(Write::Put(key.clone(), encode(&record)))
            .relaxed();
        Ok(match self.meta().transact(mark).await? {
            Outcome::Committed(version) => Some(Mark { since, first: since, is_spared: false, version }),
            Outcome::Conflict(_) => None,
        })
    }

    /// Has the time of something that is marked begin anew: while it `is_spared` for somebody who uploads, and once more when
    /// that is over, so that whoever ended an upload just now has all the time for the next step of his push. Answers the mark
    /// as it is then; `None` where something changed meanwhile.
    pub(super) async fn spare(
        &self,
        entry: &Entry,
        key: &Bytes,
        mark: Mark,
        is_spared: bool,
    ) -> Result<Option<Mark>, BlobError> {
        if mark.is_spared == is_spared {
            return Ok(Some(mark));
        }
        let (since, version) = (self.meta().now().await?, entry.version.0);
        let record = MarkRecord { since: since.0, version, first: mark.first.0, is_spared };
        let spare = Transaction::new()
            .check(Check::Version(key.clone(), mark.version))
            .write(Write::Put(key.clone(), encode(&record)));
        Ok(match self.meta().transact(spare.relaxed()).await? {
            Outcome::Committed(version) => Some(Mark { since, is_spared, version, ..mark }),
            // Who has taken the mark away counts on it for longer.
            Outcome::Conflict(_) => None,
        })
    }

    /// Whether a mark is there and holds for an entry as it is.
    pub(crate) fn is_marked(entry: &Entry, mark: Option<&Entry>) -> Result<bool, BlobError> {
        let record: Option<MarkRecord> = mark.map(decode).transpose()?;
        Ok(record.is_some_and(|record| record.version == entry.version.0))
    }

    /// Takes away the mark of something that is of use again.
    pub(crate) async fn unmark(&self, mark: Option<&Entry>) -> Result<(), BlobError> {
        let Some(mark) = mark else { return Ok(()) };
        let unmark = Transaction::new()
            .check(Check::Version(mark.key.clone(), mark.version))
            .write(Write::Delete(mark.key.clone()));
        // Somebody else may have done so.
        let _ = self.meta().transact(unmark.relaxed()).await?;
        Ok(())
    }
}
