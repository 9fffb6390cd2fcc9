use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::limits::{check_keys, check_scan, check_transaction};
use super::{
    Check, Entry, KeyRange, MAX_PAGE_ENTRIES, MAX_TRANSACTION_BYTES, MetaError, MetaStore, Outcome, Page,
    Timestamp, Transaction, TransactionId, Version, Write,
};

/// A metadata store seen through changes that are only in memory: whoever changes it finds it changed, and the store
/// below stays as it is. For finding out what something would do by doing it.
///
/// It holds as much memory as the changes take. What others change in the store below is seen through it, so a
/// transaction may be judged by more than one of its instants.
#[derive(Debug)]
pub struct Overlay {
    below: Arc<dyn MetaStore>,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    /// What was written; `None` where it was deleted.
    entries: BTreeMap<Bytes, Option<(Version, Bytes)>>,
    last: u64,
    committed: HashMap<TransactionId, Version>,
}

/// Versions above this are the overlay's: no store counts its commits as far.
const FIRST: u64 = 1 << 63;

impl Overlay {
    /// A view of `below` without any change yet.
    pub fn new(below: Arc<dyn MetaStore>) -> Self {
        Self { below, changes: Mutex::default() }
    }

    async fn get_through(&self, changes: &Changes, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        let mut entries = self.below.get_many(keys).await?;
        for (key, entry) in keys.iter().zip(&mut entries) {
            if let Some(changed) = changes.entries.get(key) {
                *entry = changed.as_ref().map(|(version, value)| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    version: *version,
                });
            }
        }
        Ok(entries)
    }

    async fn scan_through(
        &self,
        changes: &Changes,
        range: KeyRange,
        limit: usize,
    ) -> Result<Page, MetaError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let (mut page, mut bytes) = (Page::default(), 0);
        let mut rest = Some(range);
        while let Some(range) = rest.take() {
            // What was deleted here leaves gaps: the part of the range that this page of the store below covers.
            let below = self.below.scan(range.clone(), limit.clamp(16, MAX_PAGE_ENTRIES)).await?;
            let end = below.next.as_ref().map_or(range.end.clone(), |next| Some(next.start.clone()));
            let covered = KeyRange { start: range.start.clone(), end };
            let mut merged: BTreeMap<Bytes, Entry> =
                below.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
            for (key, changed) in changes.range(&covered) {
                match changed {
                    Some((version, value)) => {
                        let entry = Entry { key: key.clone(), value: value.clone(), version: *version };
                        drop(merged.insert(key.clone(), entry));
                    }
                    None => drop(merged.remove(key)),
                }
            }
            for entry in merged.into_values() {
                if page.entries.len() == limit || bytes >= MAX_TRANSACTION_BYTES {
                    page.next = page.entries.last().map(|last| range.after(&last.key));
                    return Ok(page);
                }
                bytes += entry.key.len() + entry.value.len();
                page.entries.push(entry);
            }
            rest = below.next;
        }
        Ok(page)
    }

    async fn holds(&self, changes: &Changes, check: &Check) -> Result<bool, MetaError> {
        Ok(match check {
            Check::Absent(key) => self.get_through(changes, std::slice::from_ref(key)).await?[0].is_none(),
            Check::Version(key, version) => {
                let found = self.get_through(changes, std::slice::from_ref(key)).await?.pop().flatten();
                found.is_some_and(|found| found.version == *version)
            }
            Check::RangeEmpty(range) => {
                self.scan_through(changes, range.clone(), 1).await?.entries.is_empty()
            }
        })
    }
}

impl Changes {
    fn range(&self, range: &KeyRange) -> impl Iterator<Item = (&Bytes, &Option<(Version, Bytes)>)> {
        let end = match &range.end {
            // `BTreeMap::range` panics on a start after its end.
            Some(end) => Bound::Excluded(end.clone().max(range.start.clone())),
            None => Bound::Unbounded,
        };
        self.entries.range((Bound::Included(range.start.clone()), end))
    }
}

#[async_trait]
impl MetaStore for Overlay {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        check_keys(keys)?;
        let changes = self.changes.lock().await;
        self.get_through(&changes, keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        check_scan(&range, limit)?;
        let changes = self.changes.lock().await;
        self.scan_through(&changes, range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        check_transaction(&transaction)?;
        let mut changes = self.changes.lock().await;
        if let Some(version) = changes.committed.get(&transaction.id) {
            return Ok(Outcome::Committed(*version));
        }
        for (at, check) in transaction.checks.iter().enumerate() {
            if !self.holds(&changes, check).await? {
                return Ok(Outcome::Conflict(at));
            }
        }
        changes.last += 1;
        let version = Version(FIRST + changes.last);
        for write in transaction.writes {
            let (key, value) = match write {
                Write::Put(key, value) => (key, Some((version, value))),
                Write::Delete(key) => (key, None),
            };
            changes.entries.insert(key, value);
        }
        changes.committed.insert(transaction.id, version);
        Ok(Outcome::Committed(version))
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.below.now().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{MemoryMeta, conformance};

    #[tokio::test]
    async fn it_is_a_metadata_store() {
        conformance::run_all(|| async {
            Arc::new(Overlay::new(Arc::new(MemoryMeta::new()))) as Arc<dyn MetaStore>
        })
        .await;
    }

    #[tokio::test]
    async fn changes_are_seen_through_it_and_not_below() {
        let below = Arc::new(MemoryMeta::new());
        let put = |key: String| Write::Put(key.into(), Bytes::from_static(b"below"));
        for tens in 0..10 {
            let ten = (0..10).fold(Transaction::new(), |ten, one| ten.write(put(format!("{tens}{one}"))));
            assert!(below.transact(ten).await.unwrap().is_committed());
        }
        let overlay = Overlay::new(below.clone());
        // Of the hundred every second goes, in part many in a row, some change, and one comes.
        let gone = |at: usize| at.is_multiple_of(2) || (20..60).contains(&at);
        for at in (0..100).filter(|at| gone(*at)) {
            let delete = Transaction::new().write(Write::Delete(format!("{at:02}").into()));
            assert!(overlay.transact(delete).await.unwrap().is_committed());
        }
        let change = Transaction::new()
            .check(Check::RangeEmpty(KeyRange::new("20", "60")))
            .write(Write::Put("61".into(), "here".into()))
            .write(Write::Put("30+".into(), "here".into()));
        assert!(overlay.transact(change).await.unwrap().is_committed());
        let mut expected: Vec<String> =
            (0..100).filter(|at| !gone(*at)).map(|at| format!("{at:02}")).collect();
        expected.push("30+".into());
        expected.sort();
        for limit in [1, 3, 7, 1000] {
            let (mut found, mut rest) = (Vec::new(), Some(KeyRange::prefix(Bytes::new())));
            while let Some(range) = rest {
                let page = overlay.scan(range, limit).await.unwrap();
                assert!(page.entries.len() <= limit);
                found.extend(page.entries.iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()));
                rest = page.next;
            }
            assert_eq!(found, expected, "pages of {limit}");
        }
        let entry = overlay.get("61".into()).await.unwrap().unwrap();
        assert_eq!(entry.value, "here");
        let unchanged = below.get("61".into()).await.unwrap().unwrap();
        assert_eq!(unchanged.value, "below");
        let stale = Transaction::new().check(Check::Version("61".into(), unchanged.version));
        assert_eq!(overlay.transact(stale).await.unwrap(), Outcome::Conflict(0));
        assert_eq!(below.scan(KeyRange::prefix(Bytes::new()), 1000).await.unwrap().entries.len(), 100);
    }
}
