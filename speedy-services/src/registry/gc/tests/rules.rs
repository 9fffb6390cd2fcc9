//! Each rule by itself.

use super::*;

fn image(number: u64) -> Image {
    Image::new(vec![content(number, 10), content(number + 1000, 2500)], 0, None)
}

#[tokio::test]
async fn what_is_tagged_stays_and_what_nobody_needs_goes() {
    let node = World::new().node();
    let (a, kept, gone) = (name("a"), image(1), image(2));
    node.push(&a, &kept, &["latest"]).await;
    node.push(&a, &gone, &["old"]).await;
    node.collect_all().await;
    assert!(node.has(&a, &gone).await);
    assert!(node.repositories.delete_tag(&a, &tag("old")).await.unwrap());
    let tally = node.collect_all().await;
    assert!(!node.has(&a, &gone).await);
    node.assert_whole(&a, &kept).await;
    assert_eq!((tally.manifests, tally.links, tally.blobs, tally.emptied), (1, 2, 2, 2));
    assert_eq!((tally.blob_bytes, tally.freed_bytes()), (2510, 2510));
    assert_eq!(stored_bytes(&node.world).await, 2510);
    // The last one too, and then the repository.
    assert!(node.repositories.delete_manifest(&a, &kept.digest).await.unwrap());
    assert_eq!(node.collect_all().await.repositories, 1);
    assert_eq!(node.repositories.catalog(None, 10).await.unwrap().names, Vec::<String>::new());
    node.world.assert_empty().await;
}

#[tokio::test]
async fn without_a_policy_nothing_is_removed() {
    let node = World::new().node();
    let a = name("a");
    node.push(&a, &image(1), &[]).await;
    node.push_blob(&a, &content(7, 100)).await.unwrap();
    let keep = Ages { untagged: None, unreferenced: None };
    for _ in 0..3 {
        node.world.meta.advance(1000 * HOUR);
        let tally = node.gc.run_now(keep, None).await.unwrap().tally;
        assert_eq!((tally.removed(), tally.waiting_manifests, tally.waiting_links), (0, 0, 0));
    }
    node.assert_whole(&a, &image(1)).await;
}

#[tokio::test]
async fn an_index_keeps_its_children_and_a_subject_its_referrers() {
    let node = World::new().node();
    let a = name("a");
    let (one, two) = (image(1), image(2));
    let (index, lone) = (Image::index(&[&one, &two]), image(3));
    let signature = Image::new(vec![content(50, 30)], 0, Some(&index));
    let astray = Image::new(vec![content(51, 30)], 0, Some(&lone));
    for image in [&one, &two, &signature, &astray] {
        node.push(&a, image, &[]).await;
    }
    node.put(&a, &index, &["latest"]).await.unwrap();
    node.collect_all().await;
    for image in [&one, &two, &signature] {
        node.assert_whole(&a, image).await;
    }
    assert!(!node.has(&a, &astray).await, "its subject never came");
    // With the index its children and its signature lose what keeps them.
    assert!(node.repositories.delete_tag(&a, &tag("latest")).await.unwrap());
    node.collect_all().await;
    node.world.assert_empty().await;
}

#[tokio::test]
async fn who_asks_by_digest_keeps_a_manifest_without_a_tag() {
    let node = World::new().node();
    let (a, image) = (name("a"), image(1));
    node.push(&a, &image, &[]).await;
    for _ in 0..5 {
        assert_eq!(node.collect().await.waiting_manifests, 1);
        node.world.meta.advance(UNTAGGED - HOUR);
        assert!(node.has(&a, &image).await);
        node.world.meta.advance(2 * HOUR);
        // It was found without a tag long ago, and asked for since.
        assert_eq!(node.collect().await.manifests, 0);
    }
    node.world.meta.advance(UNTAGGED - HOUR);
    node.put(&a, &image, &[]).await.unwrap();
    node.world.meta.advance(2 * HOUR);
    assert_eq!(node.collect().await.manifests, 0, "it was pushed again");
    node.world.meta.advance(UNTAGGED);
    assert_eq!(node.collect().await.manifests, 1);
}

#[tokio::test]
async fn a_manifest_that_lost_its_tag_has_all_its_time() {
    let node = World::new().node();
    let (a, image) = (name("a"), image(1));
    node.push(&a, &image, &[]).await;
    node.collect().await;
    node.world.meta.advance(UNTAGGED - HOUR);
    node.put(&a, &image, &["latest"]).await.unwrap();
    node.collect().await;
    node.world.meta.advance(1000 * HOUR);
    node.repositories.delete_tag(&a, &tag("latest")).await.unwrap();
    assert_eq!(node.collect().await.manifests, 0, "it lost its tag just now");
}

#[tokio::test]
async fn layers_wait_for_their_manifest() {
    let node = World::new().node();
    let (a, b, image) = (name("a"), name("b"), image(1));
    for blob in &image.blobs {
        node.push_blob(&a, blob).await.unwrap();
    }
    assert_eq!(node.collect().await.waiting_links, 2);
    node.world.meta.advance(UNREFERENCED - HOUR);
    // Asked for, mounted, pushed again: each begins the time anew.
    let (first, second) = (Digest::sha256(&image.blobs[0]), Digest::sha256(&image.blobs[1]));
    assert!(node.repositories.blob(&a, &first).await.unwrap().is_some());
    assert!(node.repositories.mount(&a, &b, &first).await.unwrap().is_some());
    node.push_blob(&a, &image.blobs[1]).await.unwrap();
    node.world.meta.advance(UNREFERENCED - HOUR);
    assert_eq!(node.collect().await.links, 0);
    node.put(&a, &image, &[]).await.unwrap();
    // The mount is needed by nobody.
    node.world.meta.advance(UNREFERENCED);
    node.collect().await;
    assert!(node.repositories.blob(&b, &first).await.unwrap().is_none());
    assert!(node.repositories.blob(&a, &second).await.unwrap().is_some());
    node.assert_whole(&a, &image).await;
}

#[tokio::test]
async fn an_upload_that_goes_on_keeps_what_was_pushed_before_it() {
    let node = World::new().node();
    let (a, b) = (name("a"), name("b"));
    let layer = content(1, 100);
    let digest = node.push_blob(&a, &layer).await.unwrap();
    node.push_blob(&b, &content(2, 100)).await.unwrap();
    let mut upload = node.blobs().begin_upload("a").await.unwrap();
    for part in 0..30 {
        upload.append(Some(part * 10), body_of(vec![7; 10])).await.unwrap();
        node.collect().await;
        node.world.meta.advance(20 * HOUR);
    }
    assert!(node.repositories.blob(&a, &digest).await.unwrap().is_some());
    assert_eq!(node.world.keys("R/b/b").await.len(), 0, "nobody pushes there");
    drop(upload);
    // It is given up, and then nothing keeps the layer.
    node.world.meta.advance(UNREFERENCED);
    node.collect_all().await;
    node.world.assert_empty().await;
}

/// What a session spared has all its time again when that ends.
#[tokio::test]
async fn time_begins_anew_when_an_upload_ends() {
    let node = World::new().node();
    let unneeded = node.push_blob(&name("a"), &content(70, 100)).await.unwrap();
    assert_eq!(node.collect().await.waiting_links, 1);
    node.world.meta.advance(UNREFERENCED - HOUR);
    let mut upload = node.blobs().begin_upload("a").await.unwrap();
    upload.append(None, body_of(vec![7; 10])).await.unwrap();
    let tally = node.collect().await;
    assert_eq!((tally.waiting_links, tally.spared_links, tally.spared_link_bytes), (0, 1, 100));
    node.blobs().abort_upload(upload.id()).await.unwrap();
    node.world.meta.advance(HOUR);
    let tally = node.collect().await;
    assert_eq!((tally.links, tally.waiting_links), (0, 1));
    assert!(node.repositories.blob(&name("a"), &unneeded).await.unwrap().is_some());
}

/// Pushes that break off every day leave no day without a session. What they can't count on goes nevertheless.
#[tokio::test]
async fn a_repository_that_always_has_an_upload_is_collected() {
    let node = World::new().node();
    let a = name("a");
    let unneeded = node.push_blob(&a, &content(70, 100)).await.unwrap();
    node.collect().await;
    for day in 0..11 {
        let mut upload = node.blobs().begin_upload("a").await.unwrap();
        upload.append(None, body_of(vec![day; 10])).await.unwrap();
        drop(upload);
        node.world.meta.advance(23 * HOUR);
        let tally = node.collect().await;
        assert_eq!(tally.spared_links, u64::from(day < 8), "day {day}");
    }
    assert!(!node.world.keys("u/").await.is_empty(), "there is one still");
    assert!(node.repositories.blob(&a, &unneeded).await.unwrap().is_none());
}

/// However long the last upload of a push takes, and however short the ages of a run that somebody asks for.
#[tokio::test]
async fn an_upload_keeps_what_came_before_it() {
    let node = World::new().node();
    let a = name("a");
    let first = node.push_blob(&a, &content(70, 100)).await.unwrap();
    node.collect().await;
    node.world.meta.advance(HOUR);
    let mut upload = node.blobs().begin_upload("a").await.unwrap();
    let now = Ages { untagged: Some(Duration::ZERO), unreferenced: Some(Duration::ZERO) };
    for part in 0..20 {
        upload.append(Some(part * 10), body_of(vec![7; 10])).await.unwrap();
        node.world.meta.advance(20 * HOUR);
        node.collect().await;
        node.gc.run_now(now, None).await.unwrap();
    }
    node.blobs().abort_upload(upload.id()).await.unwrap();
    node.world.meta.advance(UNREFERENCED - HOUR);
    node.collect().await;
    assert!(
        node.repositories.blob(&a, &first).await.unwrap().is_some(),
        "nobody asked, but its time began anew"
    );
}

/// What was needed for long is no older for it.
#[tokio::test]
async fn time_begins_when_nothing_needs_it_any_more() {
    let node = World::new().node();
    let (a, child) = (name("a"), image(1));
    let index = Image::index(&[&child]);
    let signature = Image::new(vec![content(70, 9)], 0, Some(&index));
    node.push(&a, &child, &[]).await;
    node.push(&a, &index, &["latest"]).await;
    node.push(&a, &signature, &[]).await;
    for _ in 0..3 {
        let tally = node.collect().await;
        assert_eq!((tally.waiting_manifests, tally.waiting_links), (0, 0));
        node.world.meta.advance(UNTAGGED);
    }
    node.repositories.delete_manifest(&a, &index.digest).await.unwrap();
    let tally = node.collect().await;
    assert_eq!((tally.manifests, tally.waiting_manifests), (0, 2));
    node.repositories.delete_manifest(&a, &child.digest).await.unwrap();
    let tally = node.collect().await;
    assert_eq!((tally.links, tally.waiting_links), (0, child.blobs.len() as u64));
}

/// Children of an index have no tag until it comes.
#[tokio::test]
async fn an_upload_that_goes_on_keeps_manifests_that_wait_for_their_index() {
    let node = World::new().node();
    let (a, b) = (name("a"), name("b"));
    node.push(&a, &image(1), &[]).await;
    node.push(&b, &image(2), &[]).await;
    let mut upload = node.blobs().begin_upload("a").await.unwrap();
    for part in 0..10 {
        upload.append(Some(part * 10), body_of(vec![7; 10])).await.unwrap();
        node.collect().await;
        node.world.meta.advance(20 * HOUR);
    }
    node.assert_whole(&a, &image(1)).await;
    assert!(!node.has(&b, &image(2)).await, "nobody pushes there");
}

/// Who asked for something after a backup was taken left no trace in it, so what is restored has all its time again.
#[tokio::test]
async fn time_begins_anew_when_metadata_is_restored() {
    let node = World::new().node();
    let a = name("a");
    node.push(&a, &image(1), &[]).await;
    let unneeded = node.push_blob(&a, &content(70, 100)).await.unwrap();
    let unlinked = node.blobs().put(body_of(content(71, 100)), None, &|_| Transaction::new()).await.unwrap();
    node.collect().await;
    node.world.meta.advance(UNTAGGED);
    speedy_core::blob::distrust(node.world.meta.as_ref()).await.unwrap();
    for wait in [HOUR, UNREFERENCED - 2 * HOUR] {
        node.world.meta.advance(wait);
        let tally = node.collect().await;
        assert_eq!((tally.manifests, tally.links, tally.blobs), (0, 0, 0), "{wait:?} later");
    }
    assert!(node.blobs().find(&unlinked.digest).await.unwrap().is_some());
    node.world.meta.advance(UNTAGGED);
    node.collect_all().await;
    assert!(node.blobs().find(&unneeded).await.unwrap().is_none());
    assert_eq!(node.world.keys("R/m/").await, Vec::<String>::new());
}

/// Between the commit of its bytes and the transaction that gives it to somebody nothing needs a blob.
#[tokio::test]
async fn a_blob_that_just_became_live_waits_for_whoever_links_it() {
    let node = World::new().node();
    let blob = node.blobs().put(body_of(content(1, 100)), None, &|_| Transaction::new()).await.unwrap();
    node.world.meta.advance(UNREFERENCED - HOUR);
    let tally = node.collect().await;
    assert_eq!((tally.blobs, tally.waiting_blobs), (0, 1));
    assert!(node.blobs().find(&blob.digest).await.unwrap().is_some());
    node.world.meta.advance(HOUR);
    assert_eq!(node.collect().await.blobs, 1);
}

/// A pull that found a blob alive has the grace to end.
#[tokio::test]
async fn the_bytes_of_a_dead_blob_stay_for_who_reads_them() {
    let node = World::new().node();
    let (a, layer) = (name("a"), content(1, 3500));
    let digest = node.push_blob(&a, &layer).await.unwrap();
    node.world.meta.advance(UNREFERENCED);
    let found = node.repositories.blob(&a, &digest).await.unwrap().unwrap();
    node.repositories.unlink(&a, &digest).await.unwrap();
    assert_eq!(node.collect().await.blobs, 1);
    let grace = Duration::from_secs(600);
    node.world.meta.advance(grace - Duration::from_secs(1));
    node.collect().await;
    assert_eq!(node.read(&found).await.unwrap(), layer);
    node.world.meta.advance(Duration::from_secs(1));
    node.collect().await;
    assert_eq!(node.world.fragments.len(), 0);
}

#[tokio::test]
async fn a_blob_lives_as_long_as_one_repository_has_it() {
    let node = World::new().node();
    let (a, b, image) = (name("a"), name("b"), image(1));
    node.push(&a, &image, &["x"]).await;
    node.push(&b, &image, &["x"]).await;
    node.repositories.delete_manifest(&a, &image.digest).await.unwrap();
    let tally = node.collect_all().await;
    assert_eq!((tally.links, tally.blobs, tally.repositories), (2, 0, 1));
    node.assert_whole(&b, &image).await;
    assert!(node.repositories.blob(&a, &Digest::sha256(&image.blobs[0])).await.unwrap().is_none());
}

/// The transaction of a manifest's put checks what its reads found, so a link that goes in between fails it.
#[tokio::test]
async fn a_put_whose_layer_goes_meanwhile_is_refused() {
    let node = World::new().node();
    let (a, b, image) = (name("a"), name("b"), image(1));
    for blob in &image.blobs {
        node.push_blob(&a, blob).await.unwrap();
        // Elsewhere it stays, so that the blob is live.
        node.push_blob(&b, blob).await.unwrap();
    }
    let meta = Arc::clone(&node.world.meta);
    meta.is_closed.store(true, Ordering::Relaxed);
    let put = tokio::spawn({
        let (node, a, image) = (node.clone(), a.clone(), image.clone());
        async move { node.put(&a, &image, &["latest"]).await }
    });
    // Up to its transaction, which is the first to come after the repository's record was read.
    let mut steps = 0;
    loop {
        tokio::task::yield_now().await;
        let waiting = meta.waiting.lock().pop();
        match waiting {
            Some(go) if steps < 5 => {
                go.send(()).unwrap();
                steps += 1;
            }
            Some(go) => {
                meta.is_closed.store(false, Ordering::Relaxed);
                let digest = Digest::sha256(&image.blobs[1]);
                assert!(node.repositories.unlink(&a, &digest).await.unwrap());
                go.send(()).unwrap();
                break;
            }
            None => {}
        }
    }
    let put = put.await.unwrap();
    assert_eq!(put, Err(PutError::Missing(vec![Digest::sha256(&image.blobs[1])])));
    assert!(!node.has(&a, &image).await);
}

#[tokio::test]
async fn what_a_crash_left_of_a_manifest_goes() {
    let world = World::new();
    let a = name("a");
    // So many layers that their references take several transactions.
    let wide = Image::new((0..150).map(|number| content(number, 5)).collect(), 0, None);
    for crash_at in [10, 14, 16, 18] {
        let node = world.node();
        for blob in &wide.blobs {
            node.push_blob(&a, blob).await.unwrap();
        }
        world.meta.is_closed.store(true, Ordering::Relaxed);
        let put = tokio::spawn({
            let (node, a, wide) = (node.clone(), a.clone(), wide.clone());
            async move { node.put(&a, &wide, &[]).await }
        });
        let mut steps = 0;
        while steps < crash_at && !put.is_finished() {
            tokio::task::yield_now().await;
            if let Some(go) = world.meta.waiting.lock().pop() {
                go.send(()).unwrap();
                steps += 1;
            }
        }
        put.abort();
        let _ = put.await;
        world.meta.is_closed.store(false, Ordering::Relaxed);
        world.meta.waiting.lock().clear();
    }
    let node = world.node();
    // And of a delete that could not read what it deleted.
    let long = Image::new(vec![content(900, 10)], 100_000, None);
    node.push(&a, &long, &["long"]).await;
    let stored = node.manifest(&a, &long.digest).await.unwrap();
    let StoredContent::Blob(blob) = &stored.content else { panic!("kept inline") };
    let layout = KeyRange::prefix([b"l/", &blob.id.as_bytes()[..]].concat());
    for entry in world.meta.scan(layout, 1000).await.unwrap().entries {
        let gone = Transaction::new().write(speedy_core::meta::Write::Delete(entry.key));
        assert!(world.meta.transact(gone).await.unwrap().is_committed());
    }
    assert!(node.repositories.delete_manifest(&a, &long.digest).await.unwrap());
    assert_eq!(world.keys("R/d/").await.len(), 1);
    node.collect_all().await;
    assert_eq!(world.keys("f/").await, Vec::<String>::new());
    world.assert_empty().await;
}

#[tokio::test]
async fn a_rehearsal_says_what_a_run_then_does_and_changes_nothing() {
    let node = World::new().node();
    let a = name("a");
    for number in 0..5 {
        node.push(&a, &image(number), &[]).await;
    }
    node.push(&a, &image(9), &["kept"]).await;
    node.push_blob(&name("b"), &content(70, 1234)).await.unwrap();
    let all = |node: &Node| {
        let meta = Arc::clone(&node.world.meta);
        async move { meta.scan(KeyRange::prefix(Bytes::new()), 10_000).await.unwrap().entries }
    };
    let now = Ages { untagged: Some(Duration::ZERO), unreferenced: Some(Duration::ZERO) };
    let before = all(&node).await;
    let told = node.gc.rehearse(now, None).await.unwrap();
    assert_eq!(all(&node).await, before);
    assert!(told.dry_run);
    assert_eq!((told.tally.manifests, told.tally.links, told.tally.blobs), (5, 11, 11));
    assert_eq!(told.tally.blob_bytes, 5 * 2510 + 1234);
    assert_eq!((told.items.len(), told.more_items), (5 + 11 + 11, 0));
    assert!(told.items.iter().all(|item| !item.why.is_empty() && item.bytes > 0));
    let done = node.gc.run_now(now, None).await.unwrap();
    for count in [
        |tally: &Tally| tally.manifests,
        |tally: &Tally| tally.links,
        |tally: &Tally| tally.blobs,
        |tally: &Tally| tally.blob_bytes,
        |tally: &Tally| tally.repositories,
    ] {
        assert_eq!(count(&told.tally), count(&done.tally));
    }
    assert!(!done.dry_run && done.items.is_empty());
    node.assert_whole(&a, &image(9)).await;
    // It goes on while another one collects: what it does is seen by nobody.
    let other = node.world.node();
    assert!(speedy_core::blob::Collector::new(other.blobs().clone()).lease().await.unwrap());
    assert_eq!(node.gc.rehearse(now, None).await.unwrap().tally.removed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_says_who_else_collects() {
    let node = World::new().node();
    let other = speedy_core::blob::Collector::new(node.blobs().clone()).at("over there");
    assert!(other.lease().await.unwrap());
    let refused = node.gc.run_now(node.gc.ages(), None).await.unwrap_err();
    assert!(refused.to_string().contains("at over there; ask that one"), "{refused}");
    assert!(refused.to_string().contains("if it was killed, try again in "), "{refused}");
    let former = speedy_core::blob::Collector::new(node.blobs().clone()).at(node.gc.place());
    other.release().await;
    assert!(former.lease().await.unwrap());
    let refused = node.gc.run_now(node.gc.ages(), None).await.unwrap_err();
    assert!(refused.to_string().contains("a process at this address"), "{refused}");
    former.release().await;
    assert!(other.lease().await.unwrap());
    let told = status(node.blobs(), Some(&node.gc)).await.unwrap();
    assert_eq!(told.at.as_deref(), Some("over there"));
    other.release().await;
    node.gc.run_now(node.gc.ages(), None).await.unwrap();
    let told = status(node.blobs(), None).await.unwrap();
    assert_eq!((told.at, told.phase, told.policy), (None, None, None));
    assert!(told.last.is_some());
    assert_eq!(node.gc.figures().cycles, 1);
}

/// Whoever takes a walk over goes on where it was, and does not look at everything again.
#[tokio::test]
async fn a_walk_goes_on_in_another_process() {
    let world = World::new();
    let first = world.node();
    let a = name("a");
    for number in 0..1000 {
        first.push_blob(&a, &content(number, 20)).await.unwrap();
    }
    // Into the middle of the links: three pages of them.
    world.meta.is_closed.store(true, Ordering::Relaxed);
    let walk = tokio::spawn({
        let gc = first.gc.clone();
        async move { gc.walk().await }
    });
    for _ in 0..1_000_000 {
        tokio::task::yield_now().await;
        let Some(go) = world.meta.waiting.lock().pop() else { continue };
        go.send(()).unwrap();
        if world.meta.inner.scan(KeyRange::prefix("R/i/"), 10_000).await.unwrap().entries.len() > 600 {
            break;
        }
    }
    walk.abort();
    let _ = walk.await;
    world.meta.is_closed.store(false, Ordering::Relaxed);
    world.meta.waiting.lock().clear();
    let told = status(first.blobs(), None).await.unwrap();
    assert_eq!(told.phase.as_deref(), Some("blobs of repositories"));
    let second = world.node();
    assert!(!second.gc.walk().await.unwrap(), "the dead one still holds the lease");
    world.meta.advance(2 * Duration::from_secs(60));
    assert!(second.gc.walk().await.unwrap());
    assert_eq!(world.keys("R/i/").await.len(), 1000, "all are marked");
    let last = status(second.blobs(), None).await.unwrap().last.unwrap();
    assert_eq!(last.began, told.began.unwrap(), "it is the same walk");
    let here = second.gc.figures().total.examined;
    assert!(here < 1000 - 512 + 1000 + 1000 + 100, "{here}: links from where it was, blobs, chunks");
}

#[tokio::test]
async fn a_process_that_drains_leaves_its_walk_to_others_at_once() {
    let node = World::new().node();
    for number in 0..100 {
        node.push_blob(&name("a"), &content(number, 20)).await.unwrap();
    }
    let options = GcOptions::default().interval(Some(Duration::from_millis(1))).rate(NonZeroU32::new(1));
    let (gc, drain) = (Gc::new(node.blobs().clone(), options, "here"), Drain::new(Duration::ZERO));
    let walking = tokio::spawn(gc.run_until(drain.clone()));
    while status(node.blobs(), None).await.unwrap().at.as_deref() != Some("here") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drain.start();
    tokio::time::timeout(Duration::from_secs(5), walking).await.unwrap().unwrap();
    assert_eq!(status(node.blobs(), None).await.unwrap().at, None);
    assert!(node.gc.walk().await.unwrap());
}

#[tokio::test]
async fn the_time_of_a_session_begins_anew_when_somebody_asks_about_it() {
    let world = World::new();
    let node = world.node();
    let docker = super::v1::Docker::of(&node);
    let id = node.blobs().begin_upload("a").await.unwrap().id();
    let key = || Bytes::from([&b"u/"[..], id.as_bytes()].concat());
    let version = || async { world.meta.get(key()).await.unwrap().map(|entry| entry.version) };
    let ask = |name: &str| {
        let path = format!("/v2/{name}/blobs/uploads/{id}");
        let docker = &docker;
        async move { docker.get(&path).await.0 }
    };
    let begun = version().await;
    // For a short rest nothing is written, so whoever brings bytes meets no other change.
    let mut writer = node.blobs().upload(id).await.unwrap();
    world.meta.advance(HOUR / 3);
    assert_eq!(ask("a").await, 204);
    assert_eq!(version().await, begun);
    writer.append(Some(0), body_of(content(1, 100))).await.unwrap();
    let grown = version().await;
    world.meta.advance(23 * HOUR);
    assert_eq!(ask("b").await, 404, "it is not of this repository");
    assert_eq!(version().await, grown);
    assert_eq!(ask("a").await, 204);
    assert_ne!(version().await, grown);
    for _ in 0..3 {
        world.meta.advance(23 * HOUR);
        assert_eq!(node.collect().await.uploads, 0);
        assert_eq!(ask("a").await, 204);
    }
    world.meta.advance(24 * HOUR);
    assert_eq!(node.collect().await.uploads, 1, "nobody has asked for a day");
    assert_eq!(ask("a").await, 404);
}
