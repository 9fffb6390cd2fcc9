//! What was acknowledged, and so must be there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::content::Content;

/// A blob that a registry said it has.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) repository: Arc<str>,
    pub(super) content: Arc<Content>,
}

/// A manifest that a registry said it has, under a tag of its own.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) repository: Arc<str>,
    pub(super) tag: String,
    pub(super) digest: String,
    pub(super) bytes: Vec<u8>,
}

/// All that was acknowledged to any client.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    blobs: Vec<Blob>,
    manifests: Vec<Arc<Manifest>>,
}

impl Ledger {
    pub(super) fn add_blob(&self, blob: Blob) {
        self.entries().blobs.push(blob);
    }

    pub(super) fn add_manifest(&self, manifest: Manifest) {
        self.entries().manifests.push(Arc::new(manifest));
    }

    pub(super) fn any_blob(&self, random: &mut Xoshiro256PlusPlus) -> Option<Blob> {
        any(&self.entries().blobs, random)
    }

    pub(super) fn any_manifest(&self, random: &mut Xoshiro256PlusPlus) -> Option<Arc<Manifest>> {
        any(&self.entries().manifests, random)
    }

    pub(super) fn blobs(&self) -> Vec<Blob> {
        self.entries().blobs.clone()
    }

    pub(super) fn manifests(&self) -> Vec<Arc<Manifest>> {
        self.entries().manifests.clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn any<T: Clone>(of: &[T], random: &mut Xoshiro256PlusPlus) -> Option<T> {
    (!of.is_empty()).then(|| of[random.random_range(0..of.len())].clone())
}
