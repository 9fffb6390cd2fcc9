//! Whether what is kept of images fits together, looked at as a whole by tests.

use std::collections::{BTreeMap, BTreeSet};

use speedy_core::blob::{BlobError, all_references, holder_of_reference};
use speedy_core::meta::{Entry, KeyRange};

use super::super::names::{Checksum, ImageId};
use super::records::{ImageRecord, TagRecord, decode};
use super::{Images, ids, keys};

/// An image and what stands in a key beside it.
type Pair = (ImageId, Vec<u8>);

impl Images {
    /// What contradicts what in the metadata. Nothing does while no request is under way.
    pub(in crate::registry::v1) async fn contradictions(&self) -> Result<Vec<String>, BlobError> {
        let mut wrong = Vec::new();
        let (mut children, mut layers, mut complete) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let ancestries: BTreeMap<ImageId, Vec<ImageId>> = self
            .under("V/a/")
            .await?
            .iter()
            .filter_map(|entry| Some((keys::image_at_end(&entry.key)?, ids(&entry.value))))
            .collect();
        let images = self.under("V/i/").await?;
        for entry in &images {
            let id = keys::image_at_end(&entry.key).expect("an image's key ends with its id");
            let record: ImageRecord = decode(entry)?;
            let parent = record.parent();
            let below = parent.map_or(Some(Vec::new()), |parent| ancestries.get(&parent).cloned());
            let expected = below.map(|below| [vec![id], below].concat());
            if ancestries.get(&id) != expected.as_ref() {
                wrong.push(format!("the ancestry of {id} is {:?}, not {expected:?}", ancestries.get(&id)));
            }
            children.extend(parent.map(|parent| (parent, id.as_bytes().to_vec())));
            if record.complete {
                complete.insert(id);
            }
            match record.layer.as_ref().and_then(|layer| layer.info()) {
                Some(layer) => {
                    let live = self.blobs().find(&layer.digest).await?.map(|live| live.info);
                    if live.as_ref() != Some(&layer) {
                        wrong.push(format!("the layer of {id} is {layer:?}, and {live:?} is live"));
                    }
                    layers.insert(keys::reference(layer.id, &id));
                }
                None if record.complete => wrong.push(format!("{id} is complete without a layer")),
                None => {}
            }
        }
        if images.len() != ancestries.len() {
            wrong.push(format!("{} images have {} ancestries", images.len(), ancestries.len()));
        }
        let mut same = |what: &str, one: BTreeSet<Pair>, other: BTreeSet<Pair>| {
            if one != other {
                wrong.push(format!("{what}: {:?}", one.symmetric_difference(&other).collect::<Vec<_>>()));
            }
        };
        same("children and parents", from_front(&self.under("V/k/").await?), children);
        let listed = from_end(&self.under("V/n/").await?);
        same("lists and listers", listed.clone(), from_front(&self.under("V/o/").await?));
        let mut tags = BTreeSet::new();
        for entry in self.under("V/t/").await? {
            let record: TagRecord = decode(&entry)?;
            let id = ImageId::from_bytes(&record.image).expect("a tag points to an image");
            tags.insert((id, entry.key[4..].to_vec()));
        }
        same("tags and the tagged", tags.clone(), from_front(&self.under("V/x/").await?));
        wrong.extend(
            tags.iter().filter(|(id, _)| !complete.contains(id)).map(|tag| format!("{tag:?} is loose")),
        );
        let repositories: BTreeSet<Vec<u8>> =
            self.under("V/r/").await?.iter().map(|entry| entry.key[4..].to_vec()).collect();
        for (id, place) in listed.iter().chain(&tags) {
            let name = place.split(|&byte| byte == 0).next().unwrap_or_default();
            if !repositories.contains(name) {
                wrong.push(format!("{id} is in {}, which is not there", name.escape_ascii()));
            }
        }
        let references: BTreeSet<_> =
            self.all(all_references()).await?.into_iter().map(|entry| entry.key).collect();
        let of_images =
            |key: &&bytes::Bytes| holder_of_reference(key).is_some_and(|holder| holder.starts_with(b"V/"));
        if references.iter().filter(of_images).ne(&layers) {
            wrong.push(format!("{layers:?} are held as {references:?}"));
        }
        wrong.extend(self.under("V/d/").await?.iter().map(|entry| format!("{entry:?} is left")));
        Ok(wrong)
    }

    /// The two checksums of an image whose layer is there, as a client would send them.
    pub(in crate::registry::v1) async fn sums_of(&self, id: &ImageId) -> Option<[String; 2]> {
        let (record, _) = self.record(id).await.ok()??;
        let layer = record.layer?;
        let sums = [
            format!("sha256:{}", hex::encode(&layer.payload)),
            format!("tarsum+sha256:{}", hex::encode(&layer.tarsum)),
        ];
        assert!(matches!(sums[0].parse(), Ok(Checksum::Payload(_))), "{}", sums[0]);
        Some(sums)
    }

    async fn under(&self, prefix: &'static str) -> Result<Vec<Entry>, BlobError> {
        self.all(KeyRange::prefix(prefix)).await
    }
}

/// Keys that an image stands in front of.
fn from_front(entries: &[Entry]) -> BTreeSet<Pair> {
    let pair = |entry: &Entry| {
        let (id, rest) = entry.key.get(4..)?.split_at_checked(32)?;
        Some((ImageId::from_bytes(id)?, rest.to_vec()))
    };
    entries.iter().filter_map(pair).collect()
}

/// Keys that end with a NUL and an image.
fn from_end(entries: &[Entry]) -> BTreeSet<Pair> {
    let pair = |entry: &Entry| {
        let place = entry.key.get(4..entry.key.len().checked_sub(33)?)?;
        Some((keys::image_at_end(&entry.key)?, place.to_vec()))
    };
    entries.iter().filter_map(pair).collect()
}
