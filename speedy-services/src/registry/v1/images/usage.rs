//! Which layers the images of a repository hold, and whether another repository reaches an image.
//!
//! A repository holds the images that it lists or tags, and those that they are built on. Of others only their tags
//! count: what no tag reaches is removed in the end, whoever lists it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use speedy_core::blob::BlobError;
use speedy_core::id::BlobId;
use speedy_core::meta::{Entry, KeyRange};

use super::super::names::ImageId;
use super::records::{ImageRecord, LayerRecord, TagRecord, decode};
use super::{Images, ids, keys};
use crate::registry::names::RepositoryName;

/// Entries read at once.
const PAGE: usize = 1000;
/// Images read at once: each has its JSON, of up to 96 KiB.
const AT_ONCE: usize = 16;

/// Of which images it is known whether other repositories reach them. Each image is looked at once, so that a chain
/// of a thousand costs a thousand looks.
#[derive(Debug, Default)]
pub(in crate::registry) struct Reached(HashMap<ImageId, bool>);

/// An image on the way from the one that is asked for to those that are built on it.
struct Visit {
    id: ImageId,
    children: Vec<ImageId>,
    /// Where its children go on.
    rest: Option<KeyRange>,
}

impl Images {
    /// Whether v1 has a repository of this name.
    pub(in crate::registry) async fn is_known(&self, name: &RepositoryName) -> Result<bool, BlobError> {
        Ok(self.meta().get(keys::repository(name)).await?.is_some())
    }

    /// The first repository after `last`.
    pub(in crate::registry) async fn next_repository(
        &self,
        last: Option<&str>,
    ) -> Result<Option<RepositoryName>, BlobError> {
        let (names, _) = self.names(last, 1).await?;
        Ok(names.first().and_then(|name| name.parse().ok()))
    }

    /// The layers of the images that a repository lists or tags, and of those that they are built on, with their lengths.
    pub(in crate::registry) async fn held_layers(
        &self,
        name: &RepositoryName,
    ) -> Result<HashMap<BlobId, u64>, BlobError> {
        let mut reached = HashSet::new();
        self.reach(keys::list(name), |entry| Ok(keys::image_at_end(&entry.key)), &mut reached).await?;
        let tagged = |entry: &Entry| Ok(ImageId::from_bytes(&decode::<TagRecord>(entry)?.image));
        self.reach(keys::tags(name), tagged, &mut reached).await?;
        let mut layers = HashMap::new();
        let images: Vec<Bytes> = reached.iter().map(keys::image).collect();
        for some in images.chunks(AT_ONCE) {
            for entry in self.meta().get_many(some).await?.into_iter().flatten() {
                let record: ImageRecord = decode(&entry)?;
                let layer = record.layer.as_ref().and_then(LayerRecord::info);
                layers.extend(layer.map(|layer| (layer.id, layer.size)));
            }
        }
        Ok(layers)
    }

    /// Adds the images in a range, and what they are built on.
    async fn reach(
        &self,
        range: KeyRange,
        image: impl Fn(&Entry) -> Result<Option<ImageId>, BlobError>,
        reached: &mut HashSet<ImageId>,
    ) -> Result<(), BlobError> {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            for some in page.entries.chunks(AT_ONCE) {
                let mut wanted = Vec::with_capacity(some.len());
                for entry in some {
                    let new = image(entry)?.filter(|id| !reached.contains(id));
                    wanted.extend(new.map(|id| keys::ancestry(&id)));
                }
                // One that was only announced has none.
                for ancestry in self.meta().get_many(&wanted).await?.into_iter().flatten() {
                    reached.extend(ids(&ancestry.value));
                }
            }
            rest = page.next;
        }
        Ok(())
    }

    /// Whether images hold a blob.
    pub(in crate::registry) async fn hold(&self, blob: BlobId) -> Result<bool, BlobError> {
        Ok(!self.0.is_empty(keys::references(blob)).await?)
    }

    /// Whether an image holds a blob that another repository than this one reaches. One that no tag reaches goes by
    /// itself.
    pub(in crate::registry) async fn is_held_elsewhere(
        &self,
        name: &RepositoryName,
        blob: BlobId,
        known: &mut Reached,
    ) -> Result<bool, BlobError> {
        let mut rest = Some(keys::references(blob));
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            for id in page.entries.iter().filter_map(|entry| keys::image_of_reference(&entry.key)) {
                if self.is_reached_elsewhere(name, id, known).await? {
                    return Ok(true);
                }
            }
            rest = page.next;
        }
        Ok(false)
    }

    /// Whether another repository reaches an image: has a tag of it, or of one that is built on it.
    async fn is_reached_elsewhere(
        &self,
        name: &RepositoryName,
        id: ImageId,
        known: &mut Reached,
    ) -> Result<bool, BlobError> {
        let (mut path, mut next): (Vec<Visit>, _) = (Vec::new(), Some(id));
        loop {
            if let Some(id) = next.take() {
                let is_reached = match known.0.get(&id) {
                    Some(is_reached) => *is_reached,
                    None if self.is_tagged_elsewhere(name, &id).await? => true,
                    None => {
                        path.push(Visit { id, children: Vec::new(), rest: Some(keys::children(&id)) });
                        false
                    }
                };
                if is_reached {
                    // And so is all that it is built on.
                    let way = path.iter().map(|visit| visit.id).chain([id]);
                    known.0.extend(way.map(|id| (id, true)));
                    return Ok(true);
                }
            }
            let Some(visit) = path.last_mut() else { return Ok(false) };
            if let Some(child) = visit.children.pop() {
                next = Some(child);
            } else if let Some(range) = visit.rest.take() {
                let page = self.meta().scan(range, PAGE).await?;
                visit.children.extend(page.entries.iter().filter_map(|entry| keys::image_at_end(&entry.key)));
                visit.rest = page.next;
            } else {
                known.0.insert(visit.id, false);
                path.pop();
            }
        }
    }

    /// Whether another repository has a tag of an image.
    async fn is_tagged_elsewhere(&self, name: &RepositoryName, id: &ImageId) -> Result<bool, BlobError> {
        for range in keys::other_tags_of(id, name) {
            if !self.0.is_empty(range).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
