use super::super::records::{RepositoryRecord, decode};
use super::*;
use crate::registry::repositories::bulk;

#[tokio::test]
async fn the_rows_for_a_filled_store_are_those_that_a_push_leaves() {
    let bench = Bench::new();
    let image = bench.image(3, 0).await;
    bench.put(&image, &["v1", "v2"]).await.unwrap();
    let all = async |prefix| bench.meta.scan(KeyRange::prefix(prefix), 1000).await.unwrap().entries;
    let mut found = [all("R/").await, all("f/").await].concat();
    let record = found.iter().find(|entry| entry.key.starts_with(b"R/r/")).unwrap();
    let record: RepositoryRecord = decode(record).unwrap();
    let mut expected = vec![
        bulk::repository(&bench.name, Timestamp(record.created)),
        bulk::manifest(&bench.name, &image.digest, OCI_MANIFEST, image.bytes.clone()),
    ];
    for tag in ["v1", "v2"] {
        let tag: Tag = tag.parse().unwrap();
        expected.push(bulk::tag(&bench.name, &tag, &image.digest));
        expected.push(bulk::tag_of(&bench.name, &tag, &image.digest));
    }
    for need in &image.manifest.needs {
        let blob = bench.repositories.blob(&bench.name, &need.digest).await.unwrap().unwrap();
        expected.push(bulk::link(&bench.name, &blob));
        expected.push(bulk::holder(&bench.name, &blob));
        expected.push(bulk::reference(&bench.name, &image.digest, blob.id));
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    expected.sort_by(|a, b| a.key().cmp(b.key()));
    let found: Vec<Write> = found.into_iter().map(|entry| Write::Put(entry.key, entry.value)).collect();
    assert_eq!(found, expected);
}
