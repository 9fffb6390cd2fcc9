//! Manifests that come in parts, late, again, or while others go.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::registry::manifest::{DOCKER_LIST, OCI_INDEX};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// Where an operation stops until it is told to go on, once.
#[derive(Debug, Default)]
pub(super) struct Pause {
    point: Mutex<Option<Point>>,
    reached: Notify,
    go_on: Notify,
}

#[derive(Debug)]
enum Point {
    /// Before this key is read.
    Read(Bytes),
    /// Before this key is deleted.
    Delete(Bytes),
}

impl Pause {
    fn set(&self, point: Point) {
        *self.point.lock() = Some(point);
    }

    pub(super) async fn at_read(&self, keys: &[Bytes]) {
        self.stop_if(|point| matches!(point, Point::Read(key) if keys.contains(key))).await;
    }

    pub(super) async fn at_write(&self, transaction: &Transaction) {
        let deletes = |key: &Bytes| {
            transaction.writes.iter().any(|write| matches!(write, Write::Delete(k) if k == key))
        };
        self.stop_if(|point| matches!(point, Point::Delete(key) if deletes(key))).await;
    }

    async fn stop_if(&self, is_here: impl Fn(&Point) -> bool) {
        if self.point.lock().take_if(|point| is_here(point)).is_some() {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
    }
}

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

#[tokio::test]
async fn a_delete_that_has_not_seen_a_layer_that_comes_late_looks_again() {
    let bench = Arc::new(Bench::new());
    let config = bench.push(b"config").await;
    let digest = Digest::sha256(b"late").to_string();
    let document = json!({
        "schemaVersion": 2,
        "config": { "mediaType": "x", "digest": config.to_string(), "size": 6 },
        "layers": [{ "mediaType": FOREIGN, "digest": digest, "size": 4 }],
    });
    let bytes = Bytes::from(document.to_string());
    let manifest = Manifest::parse(Some(OCI_MANIFEST), &bytes).unwrap();
    let image = Arc::new(Image { digest: Digest::sha256(&bytes), manifest, bytes });
    bench.put(&image, &[]).await.unwrap();

    // It knows what it will remove, and now the layer comes and is held.
    bench.meta.1.set(Point::Delete(keys::manifest(&bench.name, &image.digest)));
    let delete = tokio::spawn({
        let (bench, image) = (bench.clone(), image.clone());
        async move { bench.delete(&image).await }
    });
    bench.meta.1.reached.notified().await;
    bench.push(b"late").await;
    bench.put(&image, &[]).await.unwrap();
    assert_eq!(bench.keys("f/").await, 2);
    bench.meta.1.go_on.notify_one();
    assert!(delete.await.unwrap());
    assert_eq!((bench.keys("f/").await, bench.keys("R/m/").await), (0, 0));
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

#[tokio::test]
async fn a_tag_that_always_points_somewhere_is_always_found() {
    let bench = Arc::new(Bench::new());
    let (one, two) = (bench.image(1, 0).await, bench.image(2, 0).await);
    bench.put(&one, &["moving"]).await.unwrap();

    // The reader knows what the tag points to, and now it points to something else and that is gone.
    bench.meta.1.set(Point::Read(keys::manifest(&bench.name, &one.digest)));
    let read = tokio::spawn({
        let bench = bench.clone();
        async move {
            let tag = Reference::Tag("moving".parse().unwrap());
            bench.repositories.manifest(&bench.name, &tag).await.unwrap()
        }
    });
    bench.meta.1.reached.notified().await;
    bench.put(&two, &["moving"]).await.unwrap();
    assert!(bench.delete(&one).await);
    bench.meta.1.go_on.notify_one();
    assert_eq!(read.await.unwrap().map(|found| found.digest), Some(two.digest));
}

#[tokio::test]
async fn a_manifest_goes_with_its_tags_however_many_there_are() {
    let bench = Bench::new();
    let image = bench.image(3, 0).await;
    for (count, commits) in [(0, 1), (1, 1), (8, 1), (9, 2), (40, 2), (41, 2), (48, 2), (49, 3), (100, 4)] {
        let tags: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
        bench.put(&image, &[]).await.unwrap();
        for tags in tags.chunks(16) {
            bench.put(&image, &tags.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
        }
        assert_eq!((bench.keys("R/t/").await, bench.keys("R/x/").await), (count, count));
        let before = bench.commits().await;
        assert!(bench.delete(&image).await);
        assert_eq!(bench.commits().await - before - 1, commits, "{count} tags");
        assert_eq!((bench.keys("R/t/").await, bench.keys("R/x/").await, bench.keys("f/").await), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_tag_that_comes_while_its_manifest_goes_never_points_to_nothing() {
    // Before, between and after the tags that the delete has seen.
    for late in ["a", "m", "z"] {
        let bench = Arc::new(Bench::new());
        let image = bench.image(2, 0).await;
        bench.put(&image, &["b", "y"]).await.unwrap();
        bench.meta.1.set(Point::Delete(keys::manifest(&bench.name, &image.digest)));
        let (other, digest) = (bench.clone(), image.digest);
        let delete =
            tokio::spawn(async move { other.repositories.delete_manifest(&other.name, &digest).await });
        bench.meta.1.reached.notified().await;
        bench.put(&image, &[late]).await.unwrap();
        bench.meta.1.go_on.notify_one();
        assert!(delete.await.unwrap().unwrap());
        assert_eq!((bench.keys("R/t/").await, bench.keys("R/x/").await), (0, 0), "{late}");
        assert_eq!((bench.keys("R/m/").await, bench.keys("f/").await), (0, 0), "{late}");
    }
}
