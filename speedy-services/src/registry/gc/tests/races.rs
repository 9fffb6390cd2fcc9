//! The collector and one client at the same thing: every order in which their operations of the metadata store can
//! come. Where there are more than a thousand, the first thousand, in which the client mostly waits, and a thousand at
//! random.

use speedy_core::blob::StoredBlob;

use super::*;
use crate::registry::repositories::{Fate, keys};

/// What both work on.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) node: Node,
    a: RepositoryName,
    b: RepositoryName,
    image: Image,
}

/// A choice among those that wait, each time that there is one.
#[derive(Debug, Default)]
struct Schedule {
    /// What is chosen, and among how many.
    choices: Vec<(usize, usize)>,
    at: usize,
    /// In place of an order, random numbers.
    random: Option<u64>,
}

impl Schedule {
    fn choose(&mut self, among: usize) -> usize {
        if let Some(random) = &mut self.random {
            *random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            return (*random >> 40) as usize % among;
        }
        if self.at == self.choices.len() {
            self.choices.push((0, among));
        }
        if self.choices[self.at].1 != among {
            // The tasks of an upload may be quicker or slower than the last time: from here on it is another order.
            self.choices.truncate(self.at);
            self.choices.push((0, among));
        }
        let (choice, _) = self.choices[self.at];
        self.at += 1;
        choice
    }

    /// One of many, by its number.
    fn random(number: usize) -> Self {
        let choices = Vec::new();
        Self { choices, at: 0, random: Some(number as u64 * 2 + 1) }
    }

    /// The next one in order; `false` after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, among)) = self.choices.pop() {
            if choice + 1 < among {
                self.choices.push((choice + 1, among));
                return true;
            }
        }
        false
    }
}

/// Lets two tasks run, one operation after the other as `choose` says.
async fn race<A: Send + 'static, B: Send + 'static>(
    scene: &Scene,
    one: impl Future<Output = A> + Send + 'static,
    other: impl Future<Output = B> + Send + 'static,
    mut choose: impl FnMut(usize) -> usize,
) -> (A, B) {
    let meta = &scene.node.world.meta;
    meta.is_closed.store(true, Ordering::Relaxed);
    let (one, other) = (tokio::spawn(one), tokio::spawn(other));
    while !(one.is_finished() && other.is_finished()) {
        // Until nobody goes on by himself.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let mut waiting = meta.waiting.lock();
        if !waiting.is_empty() {
            let chosen = choose(waiting.len());
            // It may be of a task that has given up.
            let _ = waiting.remove(chosen).send(());
        }
    }
    meta.is_closed.store(false, Ordering::Relaxed);
    (one.await.unwrap(), other.await.unwrap())
}

/// Orders that are tried where there are too many for all.
const SOME: usize = 1000;

/// Sets a scene, lets a collector and a client at it, and looks at what came of it, for every order there is, or for
/// [`SOME`]. `look` answers whether the collector was first; each side must be in some order.
pub(super) async fn every_order<A: Send + 'static, B: Send + 'static, FA, FB>(
    set: impl AsyncFn(&Scene),
    collector: impl Fn(Scene) -> FA,
    client: impl Fn(Scene) -> FB,
    look: impl AsyncFn(&Scene, A, B) -> bool,
) where
    FA: Future<Output = A> + Send + 'static,
    FB: Future<Output = B> + Send + 'static,
{
    let (mut schedule, mut won) = (Schedule::default(), [0, 0]);
    loop {
        let round: usize = won.iter().sum();
        if round >= SOME {
            schedule = Schedule::random(round);
        }
        let image = Image::new(vec![content(1, 20), content(2, 1500)], 0, None);
        let scene = Scene { node: World::new().node(), a: name("a"), b: name("b"), image };
        set(&scene).await;
        let (a, b) =
            race(&scene, collector(scene.clone()), client(scene.clone()), |among| schedule.choose(among))
                .await;
        won[usize::from(look(&scene, a, b).await)] += 1_usize;
        // The first of them in order, the others at random.
        if round == 2 * SOME || (schedule.random.is_none() && !schedule.advance()) {
            break;
        }
    }
    assert!(won[0] > 0 && won[1] > 0, "{won:?}: each side is first in some order");
}

impl Scene {
    async fn push_blobs(&self) {
        for blob in &self.image.blobs {
            self.node.push_blob(&self.a, blob).await.unwrap();
        }
    }

    /// Everything unneeded has been so for long enough.
    pub(super) async fn ripen(&self) {
        self.node.collect().await;
        self.node.world.meta.advance(UNTAGGED + HOUR);
    }

    fn layer(&self) -> Digest {
        Digest::sha256(&self.image.blobs[1])
    }

    async fn collect_link(self) -> Fate {
        for entry in self.node.world.meta.inner.scan(keys::all_links(), 10).await.unwrap().entries {
            let (name, digest) = keys::name_and_digest(&entry.key).unwrap();
            if name == self.a && digest == self.layer() {
                let repositories = &self.node.repositories;
                let fate = repositories.collect_link(&name, &digest, &entry, UNREFERENCED, None).await;
                return fate.unwrap();
            }
        }
        panic!("no link");
    }

    /// Whether a manifest is there, without asking for it as a client does, who would keep it.
    async fn is_there(&self, image: &Image) -> bool {
        let all = self.node.world.meta.inner.scan(keys::all_manifests(), 10).await.unwrap().entries;
        all.iter().any(|entry| keys::name_and_digest(&entry.key).unwrap().1 == image.digest)
    }

    async fn collect_manifest(self) -> Fate {
        self.collect_manifest_of(UNTAGGED).await
    }

    async fn collect_manifest_of(self, age: Duration) -> Fate {
        let all = self.node.world.meta.inner.scan(keys::all_manifests(), 10).await.unwrap();
        let entry = &all.entries[0];
        let repositories = &self.node.repositories;
        repositories.collect_manifest(&self.a, &self.image.digest, entry, age, None).await.unwrap()
    }

    /// Kills every blob that nobody has.
    async fn collect_blobs(self) -> u64 {
        let (blobs, _): (Vec<StoredBlob>, _) = self.node.blobs().list(None, 100).await.unwrap();
        let mut killed = 0;
        for blob in blobs {
            let fate = self.node.repositories.collect_blob(&blob, UNREFERENCED).await.unwrap();
            killed += u64::from(matches!(fate, Fate::Removed(_)));
        }
        killed
    }

    /// The layer is in a repository, and stays readable whatever the collector does next.
    async fn assert_layer_in(&self, name: &RepositoryName) {
        self.node.world.meta.advance(HOUR);
        self.node.collect().await;
        let blob = self.node.repositories.blob(name, &self.layer()).await.unwrap().expect("it is there");
        assert_eq!(self.node.read(&blob).await.unwrap(), self.image.blobs[1]);
    }
}

pub(super) fn is_removed(fate: Fate) -> bool {
    matches!(fate, Fate::Removed(_))
}

#[tokio::test]
async fn a_link_goes_as_a_manifest_comes_that_names_it() {
    every_order(
        async |scene| {
            scene.push_blobs().await;
            // So that the blob is live in any case.
            scene.node.push_blob(&scene.b, &scene.image.blobs[1]).await.unwrap();
            scene.ripen().await;
        },
        Scene::collect_link,
        async |scene: Scene| scene.node.put(&scene.a, &scene.image, &["latest"]).await,
        async |scene, fate, put| {
            match put {
                Ok(()) => scene.node.assert_whole(&scene.a, &scene.image).await,
                Err(error) => assert_eq!(error, PutError::Missing(vec![scene.layer()])),
            }
            is_removed(fate)
        },
    )
    .await;
}

#[tokio::test]
async fn a_link_goes_as_somebody_asks_for_it() {
    every_order(
        async |scene| {
            scene.push_blobs().await;
            scene.ripen().await;
            scene.node.repositories.blob(&scene.a, &Digest::sha256(&scene.image.blobs[0])).await.unwrap();
        },
        Scene::collect_link,
        async |scene: Scene| scene.node.repositories.blob(&scene.a, &scene.layer()).await.unwrap(),
        async |scene, fate, told| {
            if told.is_some() {
                // Nothing that comes within the lease changes that.
                scene.node.world.meta.advance(UNREFERENCED - 2 * HOUR);
                scene.node.collect().await;
                scene.assert_layer_in(&scene.a).await;
            }
            is_removed(fate)
        },
    )
    .await;
}

#[tokio::test]
async fn a_link_goes_as_its_content_is_pushed_again() {
    every_order(
        async |scene| {
            scene.push_blobs().await;
            // So that the blob is live in any case.
            scene.node.push_blob(&scene.b, &scene.image.blobs[1]).await.unwrap();
            scene.ripen().await;
        },
        Scene::collect_link,
        async |scene: Scene| scene.node.push_blob(&scene.a, &scene.image.blobs[1]).await.unwrap(),
        async |scene, fate, _| {
            scene.assert_layer_in(&scene.a).await;
            is_removed(fate)
        },
    )
    .await;
}

#[tokio::test]
async fn a_link_goes_as_it_is_mounted_elsewhere() {
    every_order(
        async |scene| {
            scene.push_blobs().await;
            scene.ripen().await;
        },
        async |scene: Scene| {
            let fate = scene.clone().collect_link().await;
            scene.collect_blobs().await;
            fate
        },
        async |scene: Scene| scene.node.repositories.mount(&scene.a, &scene.b, &scene.layer()).await.unwrap(),
        async |scene, fate, mounted| {
            if mounted.is_some() {
                scene.assert_layer_in(&scene.b).await;
            }
            is_removed(fate)
        },
    )
    .await;
}

/// The mount is so slow that a link is deleted and its blob has waited for long enough to die since it was looked at.
#[tokio::test]
async fn a_blob_dies_as_it_is_mounted_elsewhere() {
    every_order(
        async |scene| scene.push_blobs().await,
        async |scene: Scene| {
            scene.node.repositories.unlink(&scene.a, &scene.layer()).await.unwrap();
            scene.node.world.meta.advance(UNREFERENCED);
            scene.collect_blobs().await
        },
        async |scene: Scene| scene.node.repositories.mount(&scene.a, &scene.b, &scene.layer()).await.unwrap(),
        async |scene, killed, mounted| {
            if mounted.is_some() {
                scene.assert_layer_in(&scene.b).await;
            }
            killed > 0
        },
    )
    .await;
}

#[tokio::test]
async fn a_blob_dies_as_its_content_is_pushed_again() {
    every_order(
        async |scene| {
            scene.push_blobs().await;
            scene.node.repositories.unlink(&scene.a, &scene.layer()).await.unwrap();
            scene.node.world.meta.advance(UNREFERENCED);
        },
        Scene::collect_blobs,
        async |scene: Scene| scene.node.push_blob(&scene.b, &scene.image.blobs[1]).await.unwrap(),
        async |scene, killed, _| {
            scene.assert_layer_in(&scene.b).await;
            killed > 0
        },
    )
    .await;
}

/// With a mark that is old enough, and without any age at all, when no mark is in the way.
#[tokio::test]
async fn a_manifest_goes_as_it_gets_a_tag() {
    for age in [UNTAGGED, Duration::ZERO] {
        every_order(
            async |scene| {
                scene.node.push(&scene.a, &scene.image, &[]).await;
                if !age.is_zero() {
                    scene.ripen().await;
                }
            },
            |scene| scene.collect_manifest_of(age),
            async |scene: Scene| scene.node.put(&scene.a, &scene.image, &["latest"]).await,
            async |scene, fate, put| {
                put.unwrap();
                let latest = Reference::Tag(tag("latest"));
                let stored = scene.node.repositories.manifest(&scene.a, &latest).await.unwrap();
                assert_eq!(stored.map(|stored| stored.digest), Some(scene.image.digest));
                scene.node.assert_whole(&scene.a, &scene.image).await;
                is_removed(fate)
            },
        )
        .await;
    }
}

/// With and without a mark, as above.
#[tokio::test]
async fn a_manifest_goes_as_an_index_comes_that_names_it() {
    for age in [UNTAGGED, Duration::ZERO] {
        every_order(
            async |scene| {
                scene.node.push(&scene.a, &scene.image, &[]).await;
                if !age.is_zero() {
                    scene.ripen().await;
                }
            },
            |scene| scene.collect_manifest_of(age),
            async |scene: Scene| {
                scene.node.put(&scene.a, &Image::index(&[&scene.image]), &["latest"]).await.unwrap();
                scene.is_there(&scene.image).await
            },
            async |scene, fate, was_there| {
                // An index may name what is not there, so it comes either way; what is there with it stays.
                let removed = is_removed(fate);
                assert!(!(was_there && removed), "it goes from under its index");
                if !removed {
                    scene.node.assert_whole(&scene.a, &scene.image).await;
                }
                removed
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_manifest_goes_as_somebody_asks_for_it() {
    every_order(
        async |scene| {
            scene.node.push(&scene.a, &scene.image, &[]).await;
            scene.ripen().await;
        },
        Scene::collect_manifest,
        async |scene: Scene| scene.node.has(&scene.a, &scene.image).await,
        async |scene, fate, told| {
            if told {
                scene.node.world.meta.advance(UNTAGGED - HOUR);
                scene.node.collect().await;
                let index = Image::index(&[&scene.image]);
                scene.node.put(&scene.a, &index, &["latest"]).await.unwrap();
                scene.node.assert_whole(&scene.a, &scene.image).await;
            }
            is_removed(fate)
        },
    )
    .await;
}

#[tokio::test]
async fn a_manifest_without_a_subject_goes_as_that_comes() {
    let signature = |scene: &Scene| Image::new(vec![content(70, 9)], 0, Some(&scene.image));
    every_order(
        async |scene| {
            scene.push_blobs().await;
            scene.node.push(&scene.a, &signature(scene), &[]).await;
            scene.node.collect().await;
            scene.node.world.meta.advance(UNTAGGED + HOUR);
        },
        move |scene: Scene| async move {
            let signature = signature(&scene);
            let all = scene.node.world.meta.inner.scan(keys::all_manifests(), 10).await.unwrap().entries;
            let named = |entry: &&Entry| keys::name_and_digest(&entry.key).unwrap().1 == signature.digest;
            let (entry, repositories) = (all.iter().find(named).unwrap(), &scene.node.repositories);
            repositories.collect_manifest(&scene.a, &signature.digest, entry, UNTAGGED, None).await.unwrap()
        },
        move |scene: Scene| async move {
            let put = scene.node.put(&scene.a, &scene.image, &["latest"]).await;
            // Blobs of the image that were unneeded for as long may have gone before.
            put.unwrap();
            scene.is_there(&signature(&scene)).await
        },
        async |scene, fate, was_there| {
            // Once it is there beside its subject it stays.
            assert!(!was_there || scene.is_there(&signature(scene)).await);
            is_removed(fate)
        },
    )
    .await;
}

#[tokio::test]
async fn a_repository_leaves_the_catalog_as_a_manifest_comes() {
    every_order(
        async |scene| {
            scene.node.push(&scene.a, &scene.image, &["latest"]).await;
            scene.node.repositories.delete_manifest(&scene.a, &scene.image.digest).await.unwrap();
        },
        async |scene: Scene| {
            let all = scene.node.world.meta.inner.scan(keys::repositories(None), 10).await.unwrap().entries;
            scene.node.repositories.collect_repository(&scene.a, &all[0]).await.unwrap()
        },
        async |scene: Scene| scene.node.put(&scene.a, &scene.image, &["latest"]).await,
        async |scene, was_removed, put| {
            put.unwrap();
            assert_eq!(scene.node.repositories.catalog(None, 10).await.unwrap().names, ["a"]);
            was_removed
        },
    )
    .await;
}

/// A put whose references take several transactions, and a collector that takes it for broken off.
#[tokio::test]
async fn a_put_that_takes_too_long_begins_again() {
    let mut ended = 0;
    for seed in 0..1000u64 {
        let image = Image::new((0..90).map(|number| content(number, 3)).collect(), 0, None);
        let scene = Scene { node: World::new().node(), a: name("a"), b: name("b"), image };
        scene.push_blobs().await;
        let (node, a, image) = (scene.node.clone(), scene.a.clone(), scene.image.clone());
        let put = async move { node.put(&a, &image, &[]).await };
        let (node, a, image) = (scene.node.clone(), scene.a.clone(), scene.image.clone());
        let collector = async move {
            loop {
                let pending = node.world.meta.scan(keys::all_pending(), 1).await.unwrap().entries;
                if let Some(entry) = pending.first() {
                    node.world.meta.advance(2 * HOUR);
                    let repositories = &node.repositories;
                    let ended = repositories.collect_pending(&a, &image.digest, entry).await.unwrap();
                    // What it had written goes, in the order of its keys.
                    let holder = Repositories::holder_of_references(&a, &image.digest);
                    let range = speedy_core::blob::all_references();
                    for entry in node.world.meta.scan(range, 1000).await.unwrap().entries {
                        assert!(entry.key.ends_with(&holder));
                        repositories.collect_reference(&a, &image.digest, entry.key).await.unwrap();
                    }
                    return ended;
                }
                if node.has(&a, &image).await {
                    return false;
                }
            }
        };
        // How many steps one goes while the other stands differs from seed to seed.
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (was_ended, put) = race(&scene, collector, put, |among| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match random % (1 + seed % 7) {
                0 => (random >> 32) as usize % among,
                _ => among - 1,
            }
        })
        .await;
        put.unwrap();
        ended += u64::from(was_ended);
        assert_eq!(scene.node.world.keys("f/").await.len(), 90, "seed {seed}");
        scene.node.assert_whole(&scene.a, &scene.image).await;
    }
    assert!(ended > 100 && ended < 1000, "{ended} of 1000 were taken for broken off");
}
