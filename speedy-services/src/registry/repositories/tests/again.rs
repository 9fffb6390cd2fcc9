//! Manifests that come in parts, late, again, or while others go.

use super::*;
use crate::registry::manifest::{DOCKER_LIST, OCI_INDEX};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// An index of manifests, there or not.
fn index_of(images: &[&Image]) -> Image {
    let entry = |image: &&Image| {
        let (digest, size) = (image.digest.to_string(), image.bytes.len());
        json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": size })
    };
    let entries: Vec<_> = images.iter().map(entry).collect();
    let bytes = Bytes::from(json!({ "schemaVersion": 2, "manifests": entries }).to_string());
    let manifest = Manifest::parse(Some(OCI_INDEX), &bytes).unwrap();
    Image { digest: Digest::sha256(&bytes), manifest, bytes }
}

#[tokio::test]
async fn a_manifest_that_comes_after_its_index_is_known_to_be_part_of_it() {
    let bench = Bench::new();
    let mut images = Vec::new();
    for number in 0..150 {
        images.push(bench.image(0, 1000 + number).await);
    }
    bench.put(&images[7], &[]).await.unwrap();
    let index = index_of(&images.iter().collect::<Vec<_>>());
    bench.put(&index, &["sparse"]).await.unwrap();
    bench.put(&images[100], &[]).await.unwrap();
    for image in [&images[7], &images[100]] {
        let parent = keys::parent(&bench.name, &image.digest, &index.digest);
        assert!(bench.meta.get(parent).await.unwrap().is_some());
    }
    assert_eq!((bench.keys("R/p/").await, bench.keys("R/n/").await), (150, 0));
    assert!(bench.delete(&index).await);
    assert_eq!(bench.keys("R/p/").await, 0);
}

#[tokio::test]
async fn foreign_layers_that_come_late_are_held_once_the_manifest_is_put_again() {
    let bench = Bench::new();
    let config = bench.push(b"config").await;
    let contents: Vec<Vec<u8>> = (0..200u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let layers: Vec<_> = contents
        .iter()
        .map(|content| {
            let digest = Digest::sha256(content).to_string();
            json!({ "mediaType": FOREIGN, "digest": digest, "size": content.len() })
        })
        .collect();
    let config = json!({ "mediaType": "x", "digest": config.to_string(), "size": 6 });
    let document = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let bytes = Bytes::from(document.to_string());
    let manifest = Manifest::parse(Some(OCI_MANIFEST), &bytes).unwrap();
    let image = Image { digest: Digest::sha256(&bytes), manifest, bytes };
    bench.put(&image, &["latest"]).await.unwrap();
    assert_eq!(bench.keys("f/").await, 1);
    for content in &contents {
        bench.push(content).await;
    }
    // A tag alone is enough, and so is nothing.
    bench.put(&image, &[]).await.unwrap();
    assert_eq!(bench.keys("f/").await, 201);
    bench.put(&image, &["again"]).await.unwrap();
    assert_eq!((bench.keys("f/").await, bench.keys("R/x/").await), (201, 2));
    assert!(bench.delete(&image).await);
    assert_eq!(bench.keys("f/").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_delete_beside_layers_that_come_late_leaves_no_reference() {
    let bench = Arc::new(Bench::new());
    let config = bench.push(b"config").await;
    for round in 0..60u32 {
        let content = round.to_be_bytes();
        let digest = Digest::sha256(&content).to_string();
        let document = json!({
            "schemaVersion": 2,
            "config": { "mediaType": "x", "digest": config.to_string(), "size": 6 },
            "layers": [{ "mediaType": FOREIGN, "digest": digest, "size": 4 }],
        });
        let bytes = Bytes::from(document.to_string());
        let manifest = Manifest::parse(Some(OCI_MANIFEST), &bytes).unwrap();
        let image = Arc::new(Image { digest: Digest::sha256(&bytes), manifest, bytes });
        bench.put(&image, &[]).await.unwrap();
        bench.push(&content).await;
        let changes = (0..4).map(|number| {
            let (bench, image) = (bench.clone(), image.clone());
            tokio::spawn(async move {
                if number == 0 {
                    bench.delete(&image).await;
                } else {
                    bench.put(&image, &[]).await.unwrap();
                }
            })
        });
        for change in join_all(changes).await {
            change.unwrap();
        }
        // Put after the delete, it holds both; else nothing does.
        let held = if bench.is_there(&image).await { 2 } else { 0 };
        assert_eq!(bench.keys("f/").await, held, "round {round}");
        bench.delete(&image).await;
        assert_eq!(bench.keys("f/").await, 0, "round {round}");
    }
}

#[tokio::test]
async fn the_same_bytes_may_come_with_another_type() {
    let bench = Bench::new();
    let subject = Digest::sha256(b"subject");
    let document = json!({
        "schemaVersion": 2,
        "manifests": [],
        "subject": { "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 7 },
    });
    let bytes = Bytes::from(document.to_string());
    for media_type in [OCI_INDEX, DOCKER_LIST, OCI_INDEX] {
        let manifest = Manifest::parse(Some(media_type), &bytes).unwrap();
        let image = Image { digest: Digest::sha256(&bytes), manifest, bytes: bytes.clone() };
        bench.put(&image, &["latest"]).await.unwrap();
        let tag = Reference::Tag("latest".parse().unwrap());
        let stored = bench.repositories.manifest(&bench.name, &tag).await.unwrap().unwrap();
        assert_eq!(stored.media_type, media_type);
        let listed = bench.repositories.referrers(&bench.name, &subject, None, None, 1 << 20).await.unwrap();
        assert_eq!(listed.list.len(), 1);
        assert_eq!(listed.list[0].media_type, media_type);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tag_that_always_points_somewhere_is_always_found() {
    let bench = Arc::new(Bench::new());
    let (one, two) = (Arc::new(bench.image(1, 0).await), Arc::new(bench.image(2, 0).await));
    bench.put(&one, &["moving"]).await.unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (bench, done) = (bench.clone(), done.clone());
            tokio::spawn(async move {
                let tag = Reference::Tag("moving".parse().unwrap());
                let mut reads = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(bench.repositories.manifest(&bench.name, &tag).await.unwrap().is_some());
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for _ in 0..300 {
        for (next, last) in [(&two, &one), (&one, &two)] {
            bench.put(next, &["moving"]).await.unwrap();
            assert!(bench.delete(last).await);
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}
