use speedy_core::meta::Check;

use super::*;

/// The collector has taken a slow put for one that broke off: what it would still write nobody would ever look for.
#[tokio::test]
async fn a_put_that_was_ended_refers_to_nothing_any_more() {
    let bench = Bench::new();
    let image = bench.image(90, 100_000).await;
    let (name, digest) = (&bench.name, &image.digest);
    let held = bench.repositories.hold(name, &image.manifest.needs).await.unwrap();
    let holder = keys::reference_holder(name, digest);
    let references = || held.iter().map(|held| held.reference(name, digest, &holder)).collect();
    let version = bench.repositories.begin_pending(name, digest).await.unwrap().unwrap();
    let pending = keys::pending(name, digest);
    let is_pending = Transaction::new().check(Check::Version(pending.clone(), version));
    assert!(bench.repositories.write_references(references(), &is_pending).await.unwrap());
    assert_eq!(bench.keys("f/").await, 91);

    let end = Transaction::new().write(Write::Delete(pending));
    let written = bench.meta.scan(KeyRange::prefix("f/"), 1000).await.unwrap().entries;
    assert!(bench.meta.transact(end).await.unwrap().is_committed());
    for entry in written {
        let forget = Transaction::new().write(Write::Delete(entry.key));
        assert!(bench.meta.transact(forget).await.unwrap().is_committed());
    }
    assert!(!bench.repositories.write_references(references(), &is_pending).await.unwrap());
    assert!(bench.repositories.put_content(digest, &image.bytes, &holder, &is_pending).await.is_err());
    assert_eq!(bench.keys("f/").await, 0);
    // Begun again it comes to its end.
    bench.put(&image, &["latest"]).await.unwrap();
    assert_eq!((bench.keys("f/").await, bench.keys("R/n/").await), (92, 0));
}
