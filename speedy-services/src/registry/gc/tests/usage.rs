//! What repositories take, beside a scan of everything, and beside what is freed when they go.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use proptest::prelude::*;
use speedy_core::digest::Algorithm;
use speedy_core::id::BlobId;

use super::v1::{Docker, Local, chain, family};
use super::*;
use crate::registry::repositories::keys::name_and_digest;
use crate::registry::{Usage, Usages};

const NAMES: [&str; 5] = ["0/a", "a", "a/b", "a-b", "z"];
/// Where clients of v1 push: one to a repository that clients of v2 have, too.
const OF_V1: [&str; 3] = ["a/b", "library/v1", "z/v1"];
/// More than fits into a manifest's record.
const LONG: usize = 70_000;

#[derive(Clone, Debug)]
enum Change {
    Push { repository: usize, content: u64, by_sha512: bool },
    Mount { from: usize, to: usize, content: u64 },
    Unlink { repository: usize, content: u64 },
    PushImage { repository: usize, image: usize, is_tagged: bool },
    DeleteImage { repository: usize, image: usize },
    AnnounceV1 { repository: usize, image: usize },
    PushV1 { repository: usize, image: usize },
    UntagV1 { repository: usize, image: usize },
    DeleteListV1 { repository: usize },
    DeleteV1 { repository: usize },
    Collect,
}

fn change() -> impl Strategy<Value = Change> {
    let (repository, content) = (0..NAMES.len(), 0..8u64);
    let (image, v1, of_v1) = (0..4usize, 0..OF_V1.len(), 0..5usize);
    prop_oneof![
        4 => (repository.clone(), content.clone(), any::<bool>())
            .prop_map(|(repository, content, by_sha512)| Change::Push { repository, content, by_sha512 }),
        3 => (repository.clone(), repository.clone(), content.clone())
            .prop_map(|(from, to, content)| Change::Mount { from, to, content }),
        4 => (repository.clone(), content).prop_map(|(repository, content)| Change::Unlink { repository, content }),
        4 => (repository.clone(), image.clone(), any::<bool>())
            .prop_map(|(repository, image, is_tagged)| Change::PushImage { repository, image, is_tagged }),
        1 => (repository, image).prop_map(|(repository, image)| Change::DeleteImage { repository, image }),
        1 => (v1.clone(), of_v1.clone()).prop_map(|(repository, image)| Change::AnnounceV1 { repository, image }),
        4 => (v1.clone(), of_v1.clone()).prop_map(|(repository, image)| Change::PushV1 { repository, image }),
        1 => (v1.clone(), of_v1).prop_map(|(repository, image)| Change::UntagV1 { repository, image }),
        1 => v1.clone().prop_map(|repository| Change::DeleteListV1 { repository }),
        1 => v1.prop_map(|repository| Change::DeleteV1 { repository }),
        1 => Just(Change::Collect),
    ]
}

/// The layers of v1 images are among them.
fn bytes(number: u64) -> Bytes {
    match number {
        6 | 7 => content(494 + number, 900 + 400 * (number as usize - 6)),
        _ => content(number, [0, 1, 700, 999, 5000, 123][number as usize]),
    }
}

/// Two images with a layer in common, one of which is too long for its record, one with a foreign layer that others may
/// have, and an index.
fn images() -> Vec<Image> {
    let one = Image::new(vec![bytes(1), bytes(2), bytes(4), bytes(6)], 0, None);
    let long = Image::new(vec![bytes(1), bytes(4), bytes(5)], LONG, None);
    let descriptor = |kind: &str, number| {
        let content = bytes(number);
        json!({ "mediaType": kind, "digest": Digest::sha256(&content).to_string(), "size": content.len() })
    };
    let foreign = json!({
        "schemaVersion": 2,
        "config": descriptor("x", 3),
        "layers": [descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", 2)],
    });
    let foreign = Image::of(OCI_MANIFEST, foreign.to_string(), 0, vec![bytes(3)]);
    let index = Image::index(&[&one, &long]);
    vec![one, long, foreign, index]
}

/// What was pushed and what the clients push it with.
struct Scene {
    node: Node,
    docker: Docker,
    images: Vec<Image>,
    family: Vec<Local>,
}

impl Scene {
    fn new() -> Self {
        let node = World::new().node();
        let family = family(&[None, Some(0), Some(1), Some(0), None]);
        Self { docker: Docker::of(&node), node, images: images(), family }
    }

    async fn apply(&self, change: &Change) {
        let Self { node, docker, images, family } = self;
        match *change {
            Change::Push { repository, content, by_sha512 } => {
                let (name, bytes) = (name(NAMES[repository]), bytes(content));
                let digest = by_sha512.then(|| Digest::of(Algorithm::Sha512, &bytes));
                node.blobs().put(body_of(bytes), digest, &Repositories::link(&name)).await.unwrap();
            }
            Change::Mount { from, to, content } => {
                let digest = Digest::sha256(&bytes(content));
                node.repositories.mount(&name(NAMES[from]), &name(NAMES[to]), &digest).await.unwrap();
            }
            Change::Unlink { repository, content } => {
                for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                    let digest = Digest::of(algorithm, &bytes(content));
                    node.repositories.unlink(&name(NAMES[repository]), &digest).await.unwrap();
                }
            }
            Change::PushImage { repository, image, is_tagged } => {
                let tags = ["latest"];
                node.push(&name(NAMES[repository]), &images[image], &tags[..usize::from(is_tagged)]).await;
            }
            Change::DeleteImage { repository, image } => {
                let name = name(NAMES[repository]);
                node.repositories.delete_manifest(&name, &images[image].digest).await.unwrap();
            }
            Change::AnnounceV1 { repository, image } => {
                docker.announce(OF_V1[repository], &[&family[image]], "").await;
            }
            Change::PushV1 { repository, image } => self.push_v1(OF_V1[repository], image).await,
            Change::UntagV1 { repository, image } => {
                docker.untag(OF_V1[repository], &format!("t{image}")).await;
            }
            Change::DeleteListV1 { repository } => {
                let path = format!("/v1/repositories/{}/images", OF_V1[repository]);
                docker.send(Method::DELETE, &path, "").await;
            }
            Change::DeleteV1 { repository } => self.delete_v1(OF_V1[repository]).await,
            Change::Collect => {
                node.world.meta.advance(UNREFERENCED);
                node.collect().await;
            }
        }
    }

    async fn push_v1(&self, name: &str, image: usize) {
        let chain: Vec<&Local> = chain(&self.family, image).into_iter().map(|at| &self.family[at]).collect();
        assert_eq!(self.docker.announce(name, &chain, "").await, 200);
        for image in &chain {
            self.docker.push_image(image).await.unwrap();
        }
        assert_eq!(self.docker.tag(name, &format!("t{image}"), &self.family[image]).await, 200);
        assert_eq!(self.docker.announce(name, &chain, "images").await, 204);
    }

    async fn delete_v1(&self, name: &str) {
        self.docker.send(Method::DELETE, &format!("/v1/repositories/{name}/"), "").await;
    }

    /// Deletes all that clients of both interfaces can delete of a repository.
    async fn delete_repository(&self, of: &RepositoryName) {
        let Node { world, repositories, .. } = &self.node;
        for entry in world.meta.scan(KeyRange::prefix("R/m/"), 10_000).await.unwrap().entries {
            let (name, digest) = name_and_digest(&entry.key).unwrap();
            if name == *of {
                repositories.delete_manifest(&name, &digest).await.unwrap();
            }
        }
        for entry in world.meta.scan(KeyRange::prefix("R/b/"), 10_000).await.unwrap().entries {
            let (name, digest) = name_and_digest(&entry.key).unwrap();
            if name == *of {
                repositories.unlink(&name, &digest).await.unwrap();
            }
        }
        self.delete_v1(of.as_str()).await;
    }

    async fn usage(&self, of: &str) -> Option<Usage> {
        Usages::new(self.node.repositories.clone()).of(&name(of)).await.unwrap()
    }

    /// Of all repositories in the list.
    async fn usages(&self) -> BTreeMap<String, Usage> {
        let usages = Usages::new(self.node.repositories.clone());
        let (mut found, mut last) = (BTreeMap::new(), None::<String>);
        while let Some(name) = usages.next_repository(last.as_deref()).await.unwrap() {
            assert!(last.as_deref() < Some(name.as_str()), "{last:?} {name}");
            found.insert(name.to_string(), usages.of(&name).await.unwrap().expect("it is in the list"));
            last = Some(name.to_string());
        }
        found
    }

    async fn entries(&self, prefix: &'static str) -> Vec<Entry> {
        self.node.world.meta.scan(KeyRange::prefix(prefix), 10_000).await.unwrap().entries
    }

    /// The same, by reading everything that holds anything.
    async fn scanned(&self) -> BTreeMap<String, Usage> {
        // What each repository holds, and what of it others have to thank it for: what it only lists is not among that.
        let mut held: BTreeMap<String, BTreeSet<BlobId>> = BTreeMap::new();
        let mut kept: BTreeMap<String, BTreeSet<BlobId>> = BTreeMap::new();
        for repository in self.entries("R/r/").await.iter().chain(&self.entries("V/r/").await) {
            held.entry(String::from_utf8(repository.key[4..].to_vec()).unwrap()).or_default();
        }
        let mut hold = |name: &str, blob, is_kept| {
            held.entry(name.to_owned()).or_default().insert(blob);
            if is_kept {
                kept.entry(name.to_owned()).or_default().insert(blob);
            }
        };
        for link in self.entries("R/b/").await {
            // A blob id of 16 bytes is the first field of the record.
            hold(&name_in(&link.key[4..]), BlobId::try_from(&link.value[2..18]).unwrap(), true);
        }
        // By image and repository, whether a tag reaches it.
        let mut images: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        let listed = self.entries("V/n/").await;
        let listed = listed.iter().map(|entry| (&entry.key, &entry.key[entry.key.len() - 32..], false));
        let tagged = self.entries("V/t/").await;
        let tagged = tagged.iter().map(|entry| (&entry.key, &entry.value[2..34], true));
        let ancestries: BTreeMap<Bytes, Bytes> =
            self.entries("V/a/").await.into_iter().map(|entry| (entry.key.slice(4..), entry.value)).collect();
        for (key, image, is_tagged) in listed.chain(tagged) {
            for ancestor in ancestries.get(image).iter().flat_map(|ancestry| ancestry.chunks(32)) {
                let names = images.entry(hex::encode(ancestor)).or_default();
                *names.entry(name_in(&key[4..])).or_default() |= is_tagged;
            }
        }
        for reference in self.entries("f/").await {
            let blob = BlobId::try_from(&reference.key[2..18]).unwrap();
            let holder = &reference.key[18..];
            match holder.strip_prefix(b"V/") {
                Some(image) => {
                    let names = images.get(std::str::from_utf8(image).unwrap());
                    names
                        .iter()
                        .copied()
                        .flatten()
                        .for_each(|(name, is_tagged)| hold(name, blob, *is_tagged));
                }
                None => hold(&name_in(holder), blob, true),
            }
        }
        let sizes: BTreeMap<BlobId, u64> = self
            .node
            .blobs()
            .list(None, 10_000)
            .await
            .unwrap()
            .0
            .iter()
            .map(|blob| (blob.id, blob.size))
            .collect();
        let usage = |name: &String, blobs: &BTreeSet<BlobId>| {
            let others = kept.iter().filter(|(other, _)| *other != name);
            let shared = blobs.iter().filter(|blob| others.clone().any(|(_, kept)| kept.contains(blob)));
            let logical: u64 = blobs.iter().map(|blob| sizes[blob]).sum();
            let shared = shared.map(|blob| sizes[blob]).sum();
            Usage { blobs: blobs.len() as u64, logical, shared, unique: logical - shared }
        };
        held.iter().map(|(name, blobs)| (name.clone(), usage(name, blobs))).collect()
    }
}

/// What stands before a NUL.
fn name_in(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn alone(blobs: u64, bytes: usize) -> Option<Usage> {
    let bytes = bytes as u64;
    Some(Usage { blobs, logical: bytes, shared: 0, unique: bytes })
}

fn with_others(blobs: u64, bytes: usize) -> Option<Usage> {
    let bytes = bytes as u64;
    Some(Usage { blobs, logical: bytes, shared: bytes, unique: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn usage_is_what_a_scan_of_everything_says(changes in prop::collection::vec(change(), 1..40)) {
        run(async {
            let scene = Scene::new();
            for change in &changes {
                scene.apply(change).await;
                assert_eq!(scene.usages().await, scene.scanned().await, "after {change:?}");
            }
        });
    }

    #[test]
    fn what_is_unique_is_what_is_freed_when_the_repository_goes(
        changes in prop::collection::vec(change(), 1..30),
        order in Just(Vec::from_iter(NAMES.iter().chain(&OF_V1[1..]))).prop_shuffle(),
    ) {
        run(async {
            let scene = Scene::new();
            for change in &changes {
                scene.apply(change).await;
            }
            // What goes by itself goes first.
            scene.node.collect_all().await;
            for of in order {
                let unique = scene.usage(of).await.map_or(0, |usage| usage.unique);
                let before = stored_bytes(&scene.node.world).await;
                scene.delete_repository(&name(of)).await;
                scene.node.collect_all().await;
                assert_eq!(before - stored_bytes(&scene.node.world).await, unique, "{of}");
                assert_eq!(scene.usage(of).await, None, "{of}");
            }
            assert_eq!(stored_bytes(&scene.node.world).await, 0);
        });
    }
}

#[tokio::test]
async fn a_repository_of_manifests_alone_is_listed_and_one_that_is_not_there_is_none() {
    let scene = Scene::new();
    scene.node.put(&name("m"), &Image::index(&[]), &["latest"]).await.unwrap();
    scene.node.push_blob(&name("n"), &content(1, 10)).await.unwrap();
    let found = scene.usages().await;
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("m".to_owned(), alone(0, 0).unwrap()), ("n".to_owned(), alone(1, 10).unwrap()),]
    );
    assert_eq!((scene.usage("o").await, scene.usage("nn").await), (None, None));
}

#[tokio::test]
async fn images_of_v1_count_for_the_repositories_that_reach_them() {
    let scene = Scene::new();
    let layer = |image: usize| scene.family[image].layer.len();
    scene.push_v1("library/one", 1).await;
    assert_eq!(scene.usage("library/one").await, alone(2, layer(0) + layer(1)));
    // Built on an image of the first.
    scene.push_v1("library/two", 2).await;
    assert_eq!(scene.usage("library/one").await, with_others(2, layer(0) + layer(1)));
    let two = scene.usage("library/two").await.unwrap();
    assert_eq!((two.blobs, two.unique), (3, layer(2) as u64));
    // An image that nobody but the second lists or tags is built on it; the base is still everybody's.
    scene.delete_v1("library/one").await;
    assert_eq!(scene.usage("library/one").await, None);
    assert_eq!(scene.usage("library/two").await, alone(3, layer(0) + layer(1) + layer(2)));
    // A repository of v2 that has one of the layers shares it, and frees nothing when it goes.
    scene.node.push_blob(&name("x/y"), &scene.family[2].layer).await.unwrap();
    assert_eq!(scene.usage("x/y").await, with_others(1, layer(2)));
    assert_eq!(scene.usage("library/two").await.unwrap().shared, layer(2) as u64);
    // A list keeps nothing: who lists the images of another and tags none of them shares them, and the other does not.
    let all: Vec<&Local> = scene.family[..3].iter().collect();
    scene.docker.announce("z/lists", &all, "").await;
    assert_eq!(scene.usage("z/lists").await, with_others(3, layer(0) + layer(1) + layer(2)));
    assert_eq!(scene.usage("library/two").await.unwrap().unique, (layer(0) + layer(1)) as u64);
    // An image of its own with a layer that another's image has.
    scene.push_v1("x/y", 4).await;
    let x = scene.usage("x/y").await.unwrap();
    assert_eq!((x.blobs, x.shared), (2, (layer(1) + layer(2)) as u64));
}

#[tokio::test]
async fn manifests_that_are_blobs_count_and_so_does_what_they_hold_after_its_link_is_deleted() {
    let scene = Scene::new();
    let (short, long) = (&scene.images[0], &scene.images[1]);
    let size = |image: &Image| image.blobs.iter().map(Bytes::len).sum::<usize>();
    scene.node.push(&name("a"), long, &["latest"]).await;
    assert_eq!(scene.usage("a").await, alone(4, size(long) + LONG));
    scene.node.push(&name("b"), short, &["latest"]).await;
    assert_eq!(scene.usage("b").await.unwrap().shared, (bytes(1).len() + bytes(4).len()) as u64);
    for (of, image) in [("a", long), ("b", short)] {
        let before = scene.usage(of).await;
        for blob in &image.blobs {
            assert!(scene.node.repositories.unlink(&name(of), &Digest::sha256(blob)).await.unwrap());
        }
        assert_eq!(scene.usage(of).await, before, "its manifest holds them");
    }
    scene.node.repositories.delete_manifest(&name("a"), &long.digest).await.unwrap();
    assert_eq!(scene.usage("b").await, alone(4, size(short)));
}
