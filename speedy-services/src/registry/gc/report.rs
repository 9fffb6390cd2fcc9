//! What the collector did, as it is kept, printed and sent.

use prost::Message;
use serde::{Deserialize, Serialize};

/// What was found and freed. Bytes count once what is stored once, however many replicas there are.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Things looked at: entries of the metadata, and chunks.
    #[prost(uint64, tag = "1")]
    pub examined: u64,
    /// Upload sessions given up.
    #[prost(uint64, tag = "2")]
    pub uploads: u64,
    /// Bytes that they had received.
    #[prost(uint64, tag = "3")]
    pub upload_bytes: u64,
    /// Manifests without a tag removed.
    #[prost(uint64, tag = "4")]
    pub manifests: u64,
    /// Their bytes, which are metadata.
    #[prost(uint64, tag = "5")]
    pub manifest_bytes: u64,
    /// Blobs taken out of a repository of which no manifest needs them.
    #[prost(uint64, tag = "6")]
    pub links: u64,
    /// Bytes of those blobs, which may be in other repositories.
    #[prost(uint64, tag = "7")]
    pub link_bytes: u64,
    /// Blobs that no repository has and that died.
    #[prost(uint64, tag = "8")]
    pub blobs: u64,
    /// Their bytes.
    #[prost(uint64, tag = "9")]
    pub blob_bytes: u64,
    /// Dead blobs and uploads whose chunks were deleted.
    #[prost(uint64, tag = "10")]
    pub emptied: u64,
    /// Bytes of those chunks: the disks have them back once they are compacted.
    #[prost(uint64, tag = "11")]
    pub emptied_bytes: u64,
    /// Chunks without a place in any blob deleted.
    #[prost(uint64, tag = "12")]
    pub orphans: u64,
    /// Their bytes.
    #[prost(uint64, tag = "13")]
    pub orphan_bytes: u64,
    /// Repositories without manifests taken out of the catalog.
    #[prost(uint64, tag = "14")]
    pub repositories: u64,
    /// References removed that a push or a delete which broke off had left.
    #[prost(uint64, tag = "15")]
    pub references: u64,
    /// Manifests without a tag that are not old enough.
    #[prost(uint64, tag = "16")]
    pub waiting_manifests: u64,
    /// Blobs in a repository of which no manifest needs them that are not old enough.
    #[prost(uint64, tag = "17")]
    pub waiting_links: u64,
    /// Their bytes.
    #[prost(uint64, tag = "18")]
    pub waiting_link_bytes: u64,
    /// Blobs that no repository has that are not old enough.
    #[prost(uint64, tag = "19")]
    pub waiting_blobs: u64,
    /// Their bytes.
    #[prost(uint64, tag = "20")]
    pub waiting_blob_bytes: u64,
    /// Chunks seen once without a place in any blob.
    #[prost(uint64, tag = "21")]
    pub suspects: u64,
    /// Chunks of blobs that the metadata does not know, which are kept.
    #[prost(uint64, tag = "22")]
    pub unknown: u64,
    /// Entries of the metadata that can't be read, and were passed over.
    #[prost(uint64, tag = "23")]
    pub unreadable: u64,
    /// Images of v1 that no tag reaches removed.
    #[prost(uint64, tag = "24")]
    pub images: u64,
    /// Images of v1 that no tag reaches that are not old enough.
    #[prost(uint64, tag = "25")]
    pub waiting_images: u64,
    /// Manifests without a tag in repositories to which somebody uploads who may count on them.
    #[prost(uint64, tag = "26")]
    pub spared_manifests: u64,
    /// Blobs of which no manifest needs them in repositories to which somebody uploads who may count on them.
    #[prost(uint64, tag = "27")]
    pub spared_links: u64,
    /// Their bytes.
    #[prost(uint64, tag = "28")]
    pub spared_link_bytes: u64,
}

impl Tally {
    /// How many things went away.
    pub fn removed(&self) -> u64 {
        self.uploads
            + self.manifests
            + self.images
            + self.links
            + self.blobs
            + self.emptied
            + self.orphans
            + self.repositories
            + self.references
    }

    /// Bytes of chunks that were deleted.
    pub fn freed_bytes(&self) -> u64 {
        self.emptied_bytes + self.orphan_bytes
    }

    /// This and what was done after it. What waits is what waited last.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self {
            examined: self.examined + next.examined,
            uploads: self.uploads + next.uploads,
            upload_bytes: self.upload_bytes + next.upload_bytes,
            manifests: self.manifests + next.manifests,
            manifest_bytes: self.manifest_bytes + next.manifest_bytes,
            links: self.links + next.links,
            link_bytes: self.link_bytes + next.link_bytes,
            blobs: self.blobs + next.blobs,
            blob_bytes: self.blob_bytes + next.blob_bytes,
            emptied: self.emptied + next.emptied,
            emptied_bytes: self.emptied_bytes + next.emptied_bytes,
            orphans: self.orphans + next.orphans,
            orphan_bytes: self.orphan_bytes + next.orphan_bytes,
            repositories: self.repositories + next.repositories,
            references: self.references + next.references,
            unreadable: self.unreadable + next.unreadable,
            images: self.images + next.images,
            ..*next
        }
    }

    /// What was done since `earlier`, which this goes on from. What waits is what waits now.
    #[must_use]
    pub(super) fn less(&self, earlier: &Self) -> Self {
        Self {
            examined: self.examined.saturating_sub(earlier.examined),
            uploads: self.uploads.saturating_sub(earlier.uploads),
            upload_bytes: self.upload_bytes.saturating_sub(earlier.upload_bytes),
            manifests: self.manifests.saturating_sub(earlier.manifests),
            manifest_bytes: self.manifest_bytes.saturating_sub(earlier.manifest_bytes),
            links: self.links.saturating_sub(earlier.links),
            link_bytes: self.link_bytes.saturating_sub(earlier.link_bytes),
            blobs: self.blobs.saturating_sub(earlier.blobs),
            blob_bytes: self.blob_bytes.saturating_sub(earlier.blob_bytes),
            emptied: self.emptied.saturating_sub(earlier.emptied),
            emptied_bytes: self.emptied_bytes.saturating_sub(earlier.emptied_bytes),
            orphans: self.orphans.saturating_sub(earlier.orphans),
            orphan_bytes: self.orphan_bytes.saturating_sub(earlier.orphan_bytes),
            repositories: self.repositories.saturating_sub(earlier.repositories),
            references: self.references.saturating_sub(earlier.references),
            unreadable: self.unreadable.saturating_sub(earlier.unreadable),
            images: self.images.saturating_sub(earlier.images),
            ..*self
        }
    }
}

/// Something that was removed, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// `manifest`, `link`, `image` (of v1) or `blob`.
    pub what: String,
    /// The repository, for what is in one.
    pub repository: Option<String>,
    /// The digest, or the id of an image, or of a blob that no repository has.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

/// A run that somebody asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// How old something without use had to be.
    pub policy: Policy,
    /// What was done.
    pub tally: Tally,
    /// Of a dry run: what would be removed, as far as it fits into a report.
    pub items: Vec<Item>,
    /// How many more there are.
    pub more_items: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// How long what is of no use is kept, in milliseconds; `None` for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Manifests without a tag.
    pub untagged: Option<u64>,
    /// Blobs that no manifest of a repository needs.
    pub unreferenced: Option<u64>,
}

/// How the collector is, as the metadata says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The admin address of the process that collects now; `None` where none does.
    pub at: Option<String>,
    /// What it looks at, or was at when it was interrupted; `None` between two cycles.
    pub phase: Option<String>,
    /// What this cycle has done.
    pub current: Option<Tally>,
    /// When this cycle began, in milliseconds since the Unix epoch.
    pub began: Option<u64>,
    /// The last cycle that came to its end.
    pub last: Option<Finished>,
    /// The policy of the process that was asked; `None` where it is none that collects.
    pub policy: Option<Policy>,
}

/// A cycle that came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct Finished {
    /// When it began, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub began: u64,
    /// When it ended.
    #[prost(uint64, tag = "2")]
    pub ended: u64,
    /// What it did.
    #[prost(message, required, tag = "3")]
    pub tally: Tally,
}
