//! What the collector does to images that no tag reaches: those of a push that broke off, and those whose last tag was moved
//! or removed while a repository listed them. `docs/gc.md` says why that is safe.

use std::time::Duration;

use speedy_core::blob::BlobError;
use speedy_core::meta::{Check, Entry, MAX_GET_KEYS, Outcome, Timestamp, Transaction, Version, Write};

use super::super::names::ImageId;
use super::records::{ImageRecord, LayerRecord, RepositoryRecord, decode};
use super::{Images, keys};
use crate::registry::names::RepositoryName;
use crate::registry::repositories::{Fate, Repositories};

/// Repositories that give up an image in one transaction: two writes each.
const LISTERS_AT_ONCE: usize = 40;

/// An image that no tag reaches, as it was found.
struct Unreached {
    entry: Entry,
    record: ImageRecord,
    /// Of the mark that says so.
    mark: Version,
}

/// What was found out about an image.
enum Found {
    Needed,
    /// It waits; and whether that is news, after which more may be known of what it is built on.
    Waits {
        is_new: bool,
    },
    Ripe(Box<Unreached>),
}

impl Images {
    /// Removes an image that no tag has reached for `age`, and then those that it was built on where the same holds.
    /// An image is reached by a tag of its own, and by every image built on it that is reached. It stays while somebody
    /// uploads its layer: `is_busy` is asked with the [name](keys::label) of that upload.
    ///
    /// Answers what became of it, and which others went with it.
    pub(in crate::registry) async fn collect(
        &self,
        entry: &Entry,
        age: Duration,
        is_busy: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Fate)>, BlobError> {
        let (mut fates, mut next) = (Vec::new(), keys::image_at_end(&entry.key));
        while let Some(id) = next.take() {
            let (fate, parent) = match self.judge(&id, age, &is_busy).await? {
                Found::Needed => (Fate::Kept, None),
                Found::Waits { is_new } => {
                    let parent = if is_new { self.parent(&id).await? } else { None };
                    (Fate::Waits(0), parent)
                }
                Found::Ripe(unreached) => {
                    let size = unreached.record.layer.as_ref().map_or(0, |layer| layer.size);
                    let removed = self.remove_unreached(&id, &unreached).await?;
                    (Fate::of(removed, size), unreached.record.parent().filter(|_| removed))
                }
            };
            // The walk comes to the others by itself; but those that are gone it will not meet.
            if fates.is_empty() || matches!(fate, Fate::Removed(_)) {
                fates.push((id.to_string(), fate));
            }
            next = parent;
        }
        Ok(fates)
    }

    async fn parent(&self, id: &ImageId) -> Result<Option<ImageId>, BlobError> {
        let entry = self.meta().get(keys::image(id)).await?;
        let record: Option<ImageRecord> = entry.as_ref().map(decode).transpose()?;
        Ok(record.and_then(|record| record.parent()))
    }

    /// Marks an image that no tag reaches, or takes the mark away from one that a tag does reach.
    async fn judge(
        &self,
        id: &ImageId,
        age: Duration,
        is_busy: &impl Fn(&str) -> bool,
    ) -> Result<Found, BlobError> {
        let key = keys::mark(id);
        let mut found = self.meta().get_many(&[keys::image(id), key.clone()]).await?;
        let (mark, entry) = (found.pop().flatten(), found.pop().flatten());
        let Some(entry) = entry else { return Ok(Found::Needed) };
        let record: ImageRecord = decode(&entry)?;
        let is_built_on = !self.0.is_empty(keys::children(id)).await?;
        if is_busy(&keys::label(id))
            || !self.0.is_empty(keys::tags_of(id)).await?
            || (is_built_on && self.has_reached_child(id).await?)
        {
            self.0.unmark(mark.as_ref()).await?;
            return Ok(Found::Needed);
        }
        let is_new = !Repositories::is_marked(&entry, mark.as_ref())?;
        let Some(mark) = self.0.marked(&entry, &key, mark.as_ref()).await? else { return Ok(Found::Needed) };
        if is_built_on || !self.0.has_passed(mark.since, age).await? {
            return Ok(Found::Waits { is_new });
        }
        Ok(Found::Ripe(Box::new(Unreached { entry, record, mark: mark.version })))
    }

    /// Whether one of the images built on this one is not known to be without a tag.
    async fn has_reached_child(&self, id: &ImageId) -> Result<bool, BlobError> {
        let mut rest = Some(keys::children(id));
        while let Some(range) = rest {
            let page = self.meta().scan(range, MAX_GET_KEYS / 2).await?;
            let children = page.entries.iter().filter_map(|entry| keys::image_at_end(&entry.key));
            let wanted: Vec<_> =
                children.flat_map(|child| [keys::image(&child), keys::mark(&child)]).collect();
            for found in self.meta().get_many(&wanted).await?.chunks_exact(2) {
                let [child, mark] = found else { continue };
                // Where the child is gone meanwhile, the next walk knows more.
                let Some(child) = child else { return Ok(true) };
                if !Repositories::is_marked(child, mark.as_ref())? {
                    return Ok(true);
                }
            }
            rest = page.next;
        }
        Ok(false)
    }

    /// Removes an image, in a transaction which checks that nobody has asked for it since it was marked and that neither a
    /// tag nor an image built on it has come; `false` where something did. Repositories that list it give it up first.
    async fn remove_unreached(&self, id: &ImageId, unreached: &Unreached) -> Result<bool, BlobError> {
        let listers = keys::listers(id);
        let prefix = listers.start.len();
        let mut rest = Some(listers);
        while let Some(range) = rest {
            let page = self.meta().scan(range, LISTERS_AT_ONCE).await?;
            let mut transaction = Transaction::new().check(Check::Version(keys::mark(id), unreached.mark));
            for lister in page.entries {
                let name = keys::text_after(&lister.key, prefix).and_then(|name| name.parse().ok());
                if let Some(name) = name {
                    let name: RepositoryName = name;
                    transaction = transaction.write(Write::Delete(keys::listed(&name, id)));
                }
                transaction = transaction.write(Write::Delete(lister.key));
            }
            rest = page.next;
            if rest.is_none() {
                transaction = transaction.and(Self::removal_of(id, unreached));
            }
            if let Outcome::Conflict(_) = self.meta().transact(transaction).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn removal_of(id: &ImageId, unreached: &Unreached) -> Transaction {
        let Unreached { entry, record, .. } = unreached;
        let mut removal = Transaction::new()
            .check(Check::Version(entry.key.clone(), entry.version))
            .check(Check::RangeEmpty(keys::children(id)))
            .check(Check::RangeEmpty(keys::tags_of(id)))
            .and(Self::forget(id))
            .write(Write::Delete(keys::loose(id)));
        if let Some(layer) = record.layer.as_ref().and_then(LayerRecord::info) {
            removal = removal.write(Write::Delete(keys::reference(layer.id, id)));
        }
        if let Some(parent) = record.parent() {
            // It is not let go of as others are: it may be counted on, which its own mark tells.
            removal = removal.write(Write::Delete(keys::child(&parent, id)));
        }
        removal
    }

    /// Removes a repository that has listed nothing and has had no tag since `age` ago, unless its properties say something;
    /// answers whether it did.
    pub(in crate::registry) async fn collect_repository(
        &self,
        entry: &Entry,
        age: Duration,
    ) -> Result<bool, BlobError> {
        let prefix = keys::repositories(None).start.len();
        let name = keys::text_after(&entry.key, prefix).and_then(|name| name.parse().ok());
        let Some(name): Option<RepositoryName> = name else { return Ok(false) };
        let record: RepositoryRecord = decode(entry)?;
        let (list, tags) = (keys::list(&name), keys::tags(&name));
        if record.private
            || !self.0.is_empty(list.clone()).await?
            || !self.0.is_empty(tags.clone()).await?
            || !self.0.has_passed(Timestamp(record.created), age).await?
        {
            return Ok(false);
        }
        let remove = Transaction::new()
            .check(Check::Version(entry.key.clone(), entry.version))
            .check(Check::RangeEmpty(list))
            .check(Check::RangeEmpty(tags))
            .write(Write::Delete(entry.key.clone()));
        Ok(self.meta().transact(remove).await?.is_committed())
    }
}
