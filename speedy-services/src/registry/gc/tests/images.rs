//! Images of v1 that no tag reaches.

use axum::body::Body;
use http::Method;

use super::races::{Scene, every_order, is_removed};
use super::v1::{Docker, Local, family};
use super::*;
use crate::registry::v1::{Images, all_images};

struct Bench {
    world: World,
    node: Node,
    docker: Docker,
    family: Vec<Local>,
}

impl Bench {
    /// Images that are built on each other as these numbers say.
    fn new(parents: &[Option<usize>]) -> Self {
        let world = World::new();
        let node = world.node();
        let docker = Docker::of(&node);
        Self { world, node, docker, family: family(parents) }
    }

    async fn push(&self, images: impl IntoIterator<Item = usize>) {
        for at in images {
            self.docker.push_image(&self.family[at]).await.unwrap();
        }
    }

    /// Whether each image is there, complete, without asking for it as a client does.
    async fn there(&self) -> Vec<bool> {
        let mut there = Vec::new();
        for image in &self.family {
            let key = [&b"V/i/"[..], &hex::decode(&image.id).unwrap()].concat();
            there.push(self.world.meta.get(key.into()).await.unwrap().is_some());
        }
        there
    }
}

#[tokio::test]
async fn a_push_that_broke_off_goes_whole_after_its_time() {
    let bench = Bench::new(&[None, Some(0), Some(1)]);
    let all: Vec<&Local> = bench.family.iter().collect();
    assert_eq!(bench.docker.announce("a", &all, "").await, 200);
    bench.push([0, 1]).await;
    // Of the last one only the JSON came.
    assert_eq!(bench.docker.put_json(&bench.family[2]).await, 200);
    // The first walk may meet an image before those that are built on it.
    assert_eq!(bench.node.collect().await.images, 0);
    assert_eq!(bench.node.collect().await.waiting_images, 3);
    bench.world.meta.advance(UNREFERENCED - HOUR);
    assert_eq!(bench.node.collect().await.images, 0);
    bench.world.meta.advance(HOUR);
    // However long the chain: all have waited at the same time.
    let last = bench.node.collect().await;
    assert_eq!((last.images, last.waiting_images), (3, 0));
    bench.node.collect_all().await;
    bench.world.assert_empty().await;
}

#[tokio::test]
async fn one_that_nobody_listed_goes_too() {
    let bench = Bench::new(&[None]);
    bench.push([0]).await;
    bench.node.collect_all().await;
    bench.world.assert_empty().await;
}

#[tokio::test]
async fn what_a_tag_reaches_stays_and_goes_when_it_does_not() {
    let bench = Bench::new(&[None, Some(0), Some(1), Some(1)]);
    let all: Vec<&Local> = bench.family.iter().collect();
    bench.docker.announce("a", &all, "").await;
    bench.push(0..4).await;
    assert_eq!(bench.docker.tag("a", "latest", &bench.family[2]).await, 200);
    for _ in 0..5 {
        bench.node.collect().await;
        bench.world.meta.advance(UNREFERENCED);
    }
    assert_eq!(bench.there().await, [true, true, true, false], "a branch without a tag goes");
    bench.docker.pull(&bench.family, 2).await.unwrap();
    assert_eq!(bench.node.collect().await.waiting_images, 0, "what a tag reaches does not grow old");
    // It is listed still, so nothing goes at once.
    assert_eq!(bench.docker.untag("a", "latest").await, 200);
    assert_eq!(bench.node.collect().await.images, 0);
    assert_eq!(bench.there().await, [true, true, true, false]);
    bench.node.collect_all().await;
    bench.world.assert_empty().await;
}

#[tokio::test]
async fn a_tag_that_comes_late_keeps_what_was_marked() {
    let bench = Bench::new(&[None, Some(0)]);
    bench.push([0, 1]).await;
    bench.node.collect().await;
    bench.world.meta.advance(UNREFERENCED);
    assert_eq!(bench.docker.tag("a", "latest", &bench.family[1]).await, 200);
    assert_eq!(bench.node.collect().await.images, 0);
    bench.docker.pull(&bench.family, 1).await.unwrap();
    assert_eq!(bench.world.keys("V/g/").await, Vec::<String>::new(), "no mark is left");
}

#[tokio::test]
async fn whoever_is_told_of_an_image_counts_on_it() {
    let bench = Bench::new(&[None, Some(0)]);
    bench.push([0, 1]).await;
    bench.node.collect().await;
    bench.world.meta.advance(UNREFERENCED - HOUR);
    // A client that is about to build on the lower one.
    assert_eq!(bench.docker.ask(&bench.family[0]).await, 200);
    bench.world.meta.advance(HOUR);
    assert_eq!(bench.node.collect().await.images, 1);
    assert_eq!(bench.there().await, [true, false]);
    bench.world.meta.advance(UNREFERENCED - HOUR);
    bench.node.collect().await;
    // So does one that says what it has said before.
    assert_eq!(bench.docker.put_checksum(&bench.family[0]).await, 200);
    bench.world.meta.advance(UNREFERENCED - HOUR);
    bench.node.collect().await;
    assert_eq!(bench.there().await, [true, false]);
    bench.world.meta.advance(UNREFERENCED);
    assert_eq!(bench.node.collect().await.images, 1);
}

#[tokio::test]
async fn an_image_whose_layer_is_on_its_way_is_spared_however_long_that_takes() {
    let bench = Bench::new(&[None, Some(0)]);
    bench.push([0]).await;
    assert_eq!(bench.docker.put_json(&bench.family[1]).await, 200);
    let layer = bench.family[1].layer.clone();
    let (runs, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(body));
    let (docker, image) = (bench.docker.clone(), bench.family[1].clone());
    let put = tokio::spawn(async move { docker.put_layer(&image, body).await });
    runs.send(Ok(layer.slice(..100))).await.unwrap();
    while bench.world.keys("u/").await.is_empty() {
        tokio::task::yield_now().await;
    }
    let ages = Ages { untagged: None, unreferenced: Some(HOUR) };
    for _ in 0..5 {
        assert_eq!(bench.node.gc.run_now(ages, None).await.unwrap().tally.images, 0);
        bench.world.meta.advance(2 * HOUR);
    }
    runs.send(Ok(layer.slice(100..))).await.unwrap();
    drop(runs);
    assert_eq!(put.await.unwrap(), 200);
    assert_eq!(bench.docker.put_checksum(&bench.family[1]).await, 200);
    bench.docker.pull(&bench.family, 1).await.unwrap();
}

/// With a mark that is old enough, and without any age at all, when no mark is in the way.
#[tokio::test]
async fn an_image_goes_as_it_gets_a_tag_or_something_is_built_on_it() {
    let family = family(&[None, Some(0)]);
    for (age, is_tagged) in
        [(UNREFERENCED, true), (UNREFERENCED, false), (Duration::ZERO, true), (Duration::ZERO, false)]
    {
        every_order(
            async |scene| {
                Docker::of(&scene.node).push_image(&family[0]).await.unwrap();
                if !age.is_zero() {
                    scene.ripen().await;
                }
            },
            |scene: Scene| async move {
                let all = scene.node.world.meta.inner.scan(all_images(), 10).await.unwrap();
                let images = Images::new(scene.node.repositories.clone());
                images.collect(&all.entries[0], age, |_| false).await.unwrap()[0].1
            },
            |scene: Scene| {
                let (docker, family) = (Docker::of(&scene.node), family.clone());
                async move {
                    match is_tagged {
                        true => docker.tag("a", "latest", &family[0]).await,
                        false => docker.put_json(&family[1]).await,
                    }
                }
            },
            async |scene, fate, status| {
                assert_eq!(is_removed(fate), status != 200, "{fate:?} and {status}, tagged: {is_tagged}");
                let key = Bytes::from([&b"V/i/"[..], &hex::decode(&family[0].id).unwrap()].concat());
                let is_there = scene.node.world.meta.inner.get(key).await.unwrap().is_some();
                assert_eq!(is_there, status == 200);
                is_removed(fate)
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_dry_run_names_what_would_go() {
    let bench = Bench::new(&[None]);
    bench.push([0]).await;
    let ages = Ages { untagged: None, unreferenced: Some(Duration::ZERO) };
    let report = bench.node.gc.rehearse(ages, None).await.unwrap();
    assert_eq!(report.tally.images, 1);
    let item = report.items.iter().find(|item| item.what == "image").unwrap();
    assert_eq!((item.name.as_str(), item.bytes), (bench.family[0].id.as_str(), 900));
    assert_eq!(bench.there().await, [true]);
}

#[tokio::test]
async fn a_repository_of_v1_that_says_something_stays() {
    let bench = Bench::new(&[]);
    for name in ["a", "b"] {
        assert_eq!(bench.docker.announce(name, &[], "").await, 200);
    }
    let private = r#"{"access":"private"}"#;
    let put = bench.docker.send(Method::PUT, "/v1/repositories/b/properties", private).await;
    assert_eq!(put.0, 200);
    assert_eq!(bench.node.collect().await.repositories, 0, "somebody may be about to push");
    bench.world.meta.advance(UNREFERENCED);
    assert_eq!(bench.node.collect().await.repositories, 1);
    assert_eq!(bench.world.keys("V/r/").await, ["V/r/library/b"]);
}

#[tokio::test]
async fn an_image_that_cannot_be_read_is_passed_over() {
    let bench = Bench::new(&[None, None]);
    bench.push([0]).await;
    let key = [&b"V/i/"[..], &hex::decode(&bench.family[1].id).unwrap()].concat();
    let garbage = speedy_core::meta::Write::Put(key.into(), Bytes::from_static(&[0xff; 9]));
    assert!(bench.world.meta.transact(Transaction::new().write(garbage)).await.unwrap().is_committed());
    bench.node.collect().await;
    bench.world.meta.advance(UNREFERENCED);
    let tally = bench.node.collect().await;
    assert_eq!((tally.images, bench.there().await), (1, vec![false, true]));
    assert!(tally.unreadable > 0);
}
