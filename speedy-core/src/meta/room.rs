use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Entry, KeyRange, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction};

/// A metadata store as whoever deletes sees it: each of its transactions [makes room](super::Purpose::MakeRoom).
#[derive(Debug)]
pub struct MakesRoom(Arc<dyn MetaStore>);

impl MakesRoom {
    /// The store below, for deletions and what leads to them.
    pub fn new(below: Arc<dyn MetaStore>) -> Self {
        Self(below)
    }
}

#[async_trait]
impl MetaStore for MakesRoom {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.0.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.0.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.0.transact(transaction.makes_room()).await
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.0.now().await
    }
}
