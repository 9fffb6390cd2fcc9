//! Pushes, pulls and deletes of v1, and two collectors at once, in a [storm](super::storm).
//!
//! Throughout, no push that takes less time than a lease finds anything missing that it was told is there or has brought, unless
//! somebody deleted a tag of it meanwhile, and what a tag points to can be pulled whole. Afterwards exactly the images
//! that tags reach are there, and their layers are stored, to the byte; once the tags are gone, nothing is.
//!
//! That it can fail was tried, as with [the other simulation](super::simulation).

use std::collections::{BTreeMap, BTreeSet};

use super::storm::{Random, process, seeds, storm};
use super::v1::{Docker, Local, chain, family};
use super::*;

const REPOSITORIES: [&str; 2] = ["a", "b"];
const CLIENTS: u64 = 3;
/// A push that takes no longer has what it was told is there.
const SAFE: Duration = Duration::from_secs(18 * 3600);
const PARENTS: [Option<usize>; 8] = [None, Some(0), Some(1), Some(0), Some(3), Some(1), None, Some(6)];

#[derive(Debug, Default)]
struct Known {
    /// Tags that a client set and that nobody else sets, and the images that they point to. Not those of which the client
    /// does not know whether its last change came through.
    tags: BTreeMap<(String, String), usize>,
    /// How often a delete of a tag of an image began, and how many are under way.
    deletes: BTreeMap<usize, u64>,
    deleting: BTreeMap<usize, u64>,
    pushes: u64,
    pulls: u64,
}

struct Client {
    docker: Docker,
    meta: Arc<Stepped>,
    number: u64,
    random: Random,
    known: Arc<Mutex<Known>>,
    family: Arc<Vec<Local>>,
}

impl Client {
    async fn run(mut self) {
        for _ in 0..6 {
            let name = self.random.pick(&REPOSITORIES);
            match self.random.below(10) {
                0..5 => self.push(name).await,
                5..7 => self.pull().await,
                7..9 => self.delete_tag().await,
                _ => self.half_a_push().await,
            }
        }
    }

    fn own(&mut self) -> Option<(String, String)> {
        let prefix = format!("{}-", self.number);
        let own: Vec<_> =
            self.known.lock().tags.keys().filter(|(_, tag)| tag.starts_with(&prefix)).cloned().collect();
        if own.is_empty() { None } else { Some(self.random.pick(&own)) }
    }

    /// How many deletes of tags of these images have begun, and how many have not ended.
    fn deletes(&self, images: &[usize]) -> (u64, u64) {
        let known = self.known.lock();
        let sum = |counts: &BTreeMap<usize, u64>| images.iter().filter_map(|at| counts.get(at)).sum();
        (sum(&known.deletes), sum(&known.deleting))
    }

    /// As Docker does: announces what will come, asks for each image, pushes those that are not there, the lowest first, and
    /// sets the tag.
    async fn push(&mut self, name: &str) {
        let family = Arc::clone(&self.family);
        let of = self.random.below(family.len());
        let images = chain(&family, of);
        let list: Vec<&Local> = images.iter().map(|at| &family[*at]).collect();
        let (began, (deletes, _)) = (self.meta.time(), self.deletes(&images));
        assert_eq!(self.docker.announce(name, &list, "").await, 200);
        let pushed = async {
            for image in &list {
                if self.docker.ask(image).await != 200 {
                    self.docker.push_image(image).await?;
                }
            }
            Ok(())
        };
        let mut pushed = pushed.await;
        let place = (name.to_owned(), format!("{}-{}", self.number, self.random.below(3)));
        if pushed.is_ok() {
            // What it pointed to before loses it. Whether the put comes through is not known if the process dies.
            let before = self.known.lock().tags.remove(&place);
            let tag = self.docker.tag(&place.0, &place.1, &family[of]);
            let status = self.deleting(before, tag).await;
            pushed = if status == 200 { Ok(()) } else { Err(("tag", status)) };
        }
        match pushed {
            Ok(()) => {
                let mut known = self.known.lock();
                known.pushes += 1;
                known.tags.insert(place, of);
            }
            Err((what, status)) => {
                let (took, (began, under_way)) = (self.meta.time().since(began), self.deletes(&images));
                assert!(
                    [400, 404].contains(&status) && (took >= SAFE || began != deletes || under_way > 0),
                    "{what} of a push of {images:?} to {name} that took {took:?}: {status}"
                );
                // The tag may be as it was.
                return;
            }
        }
        assert_eq!(self.docker.announce(name, &list, "images").await, 204);
    }

    /// A push that ends somewhere in the middle.
    async fn half_a_push(&mut self) {
        let at = self.random.below(self.family.len());
        let image = self.family[at].clone();
        // Where its parent is not there it is refused.
        if self.docker.put_json(&image).await == 200 && self.random.one_in(2) {
            self.docker.put_layer(&image, image.layer.clone()).await;
        }
    }

    async fn pull(&mut self) {
        let Some(place) = self.own() else { return };
        let Some(of) = self.known.lock().tags.get(&place).copied() else { return };
        let id = self.docker.tagged(&place.0, &place.1).await;
        assert_eq!(id.as_ref(), Some(&self.family[of].id), "{place:?}");
        if let Err(broken) = self.docker.pull(&self.family, of).await {
            panic!("{of} in {place:?}: {broken}");
        }
        self.known.lock().pulls += 1;
    }

    async fn delete_tag(&mut self) {
        let Some(place) = self.own() else { return };
        let before = self.known.lock().tags.remove(&place);
        let untag = self.docker.untag(&place.0, &place.1);
        assert_eq!(self.deleting(before, untag).await, 200);
    }

    /// Does something by which an image may lose a tag.
    async fn deleting<T>(&self, of: Option<usize>, work: impl Future<Output = T>) -> T {
        let images = of.map(|of| chain(&self.family, of)).unwrap_or_default();
        for at in &images {
            let mut known = self.known.lock();
            *known.deletes.entry(*at).or_default() += 1;
            *known.deleting.entry(*at).or_default() += 1;
        }
        let done = work.await;
        for at in &images {
            *self.known.lock().deleting.entry(*at).or_default() -= 1;
        }
        done
    }
}

struct Simulation {
    world: World,
    known: Arc<Mutex<Known>>,
    family: Arc<Vec<Local>>,
}

impl Simulation {
    async fn storm(&self, random: &mut Random) {
        let client = |node: &Node, number, random| {
            let (docker, meta) = (Docker::of(node), Arc::clone(&self.world.meta));
            let (known, family) = (Arc::clone(&self.known), Arc::clone(&self.family));
            tokio::spawn(Client { docker, meta, number, random, known, family }.run())
        };
        // Those of a process that died are over.
        self.known.lock().deleting.clear();
        storm(&self.world, CLIENTS, random, client).await;
    }

    /// Images without a tag that the collector has known for just long enough.
    async fn ripen(&self, random: &mut Random) {
        let node = self.world.node();
        let docker = Docker::of(&node);
        for image in self.family.iter() {
            if !random.one_in(3) && docker.ask(image).await != 200 {
                // Refused where its parent was left out.
                let _ = docker.push_image(image).await;
            }
        }
        // The collectors of the last storm died with their lease.
        self.world.meta.advance(Duration::from_secs(120));
        node.collect().await;
        self.world.meta.advance(UNREFERENCED);
    }

    /// Exactly what tags reach is there.
    async fn check(&self) {
        let node = self.world.node();
        let docker = Docker::of(&node);
        self.world.meta.advance(Duration::from_secs(120));
        node.collect_all().await;
        let tags = self.known.lock().tags.clone();
        for ((name, tag), of) in &tags {
            assert_eq!(
                docker.tagged(name, tag).await.as_ref(),
                Some(&self.family[*of].id),
                "{tag} of {name}"
            );
        }
        let mut reached = BTreeSet::new();
        for (at, image) in self.family.iter().enumerate() {
            let key = |prefix: &[u8]| Bytes::from([prefix, &hex::decode(&image.id).unwrap()].concat());
            let page = self.world.meta.scan(KeyRange::prefix(key(b"V/x/")), 1).await.unwrap();
            if !page.entries.is_empty() {
                reached.extend(chain(&self.family, at));
                docker.pull(&self.family, at).await.unwrap();
            }
        }
        let mut layers = BTreeMap::new();
        for (at, image) in self.family.iter().enumerate() {
            let key = Bytes::from([&b"V/i/"[..], &hex::decode(&image.id).unwrap()].concat());
            let is_there = self.world.meta.get(key).await.unwrap().is_some();
            assert_eq!(is_there, reached.contains(&at), "image {at}");
            if is_there {
                layers.insert(image.layer.clone(), image.layer.len() as u64);
            }
        }
        assert_eq!(stored_bytes(&self.world).await, layers.values().sum::<u64>(), "bytes of chunks");
        for prefix in ["V/g/", "V/d/", "u/", "q/"] {
            assert_eq!(self.world.keys(prefix).await, Vec::<String>::new(), "{prefix}");
        }
    }

    async fn delete_everything(&self) {
        let node = self.world.node();
        let docker = Docker::of(&node);
        for name in REPOSITORIES {
            for tag in (0..CLIENTS).flat_map(|client| (0..3).map(move |tag| format!("{client}-{tag}"))) {
                // Most are not there.
                docker.untag(name, &tag).await;
            }
        }
        self.world.meta.advance(UNREFERENCED);
        node.collect_all().await;
        // What was announced and never came is listed still.
        for name in REPOSITORIES {
            docker.send(http::Method::DELETE, &format!("/v1/repositories/{name}/"), "").await;
        }
        self.world.assert_empty().await;
    }
}

fn simulate(seed: u64) -> (u64, u64) {
    let simulation =
        Simulation { world: World::new(), known: Arc::default(), family: Arc::new(family(&PARENTS)) };
    let mut random = Random(seed);
    for _ in 0..3 {
        if !random.one_in(3) {
            process().block_on(simulation.ripen(&mut random));
        }
        process().block_on(simulation.storm(&mut random));
        simulation.world.meta.advance(Duration::from_secs(random.below(3 * 3600) as u64));
        if random.one_in(2) {
            process().block_on(simulation.check());
        }
    }
    process().block_on(simulation.check());
    process().block_on(simulation.delete_everything());
    let known = simulation.known.lock();
    (known.pushes, known.pulls)
}

#[test]
fn whatever_happens_no_image_that_is_needed_is_lost_and_all_others_go() {
    let (mut pushes, mut pulls) = (0, 0);
    for seed in seeds(40) {
        let done = simulate(seed);
        (pushes, pulls) = (pushes + done.0, pulls + done.1);
    }
    assert!(pushes > 0 && pulls > 0, "{pushes} pushes and {pulls} pulls came to their end");
}
