use speedy_core::blob::BlobError;
use speedy_core::meta::{KeyRange, MAX_PAGE_ENTRIES};

use super::{Repositories, keys};
use crate::registry::names::RepositoryName;

/// Part of a list of names, in bytewise order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listing {
    /// The names.
    pub names: Vec<String>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl Repositories {
    /// Up to `limit` tags after `last`; `None` where there is no such repository.
    pub(crate) async fn tags(
        &self,
        name: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<Listing>, BlobError> {
        let prefix = keys::tags(name, None).start.len();
        let listing = self.list(keys::tags(name, last), prefix, limit).await?;
        // Tags without a repository are impossible, so its record need not be read when there are some.
        if listing.names.is_empty() && self.meta().get(keys::repository(name)).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(listing))
    }

    /// Up to `limit` repositories after `last`. A repository is listed from its first manifest on.
    pub(crate) async fn catalog(&self, last: Option<&str>, limit: usize) -> Result<Listing, BlobError> {
        let prefix = keys::repositories(None).start.len();
        self.list(keys::repositories(last), prefix, limit).await
    }

    async fn list(&self, range: KeyRange, prefix: usize, limit: usize) -> Result<Listing, BlobError> {
        let mut listing = Listing::default();
        let mut range = Some(range);
        while let Some(rest) = range.take() {
            let room = (limit - listing.names.len()).min(MAX_PAGE_ENTRIES);
            if room == 0 {
                listing.more = limit > 0;
                break;
            }
            let page = self.meta().scan(rest, room).await?;
            let names = page.entries.iter().filter_map(|entry| keys::text_after(&entry.key, prefix));
            listing.names.extend(names.map(str::to_owned));
            range = page.next;
        }
        Ok(listing)
    }
}
