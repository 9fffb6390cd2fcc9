//! Two registries over one metadata store, used at once: what clients see is what one registry that does one thing after
//! the other could have answered.

use std::collections::HashSet;
use std::time::Instant;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::*;

/// What a client did to a tag, and saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Did {
    /// Made it point to the manifest of this number.
    Put(u8),
    Delete,
    /// Found that manifest there, or none.
    Get(Option<u8>),
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    began: Instant,
    ended: Instant,
    did: Did,
}

/// Whether there is an order of the operations in which each answers as one register would, and in which none comes before
/// another one that had ended when it began (Wing and Gong, 1993; with Lowe's memory of what was tried, 2017).
fn is_linearizable(operations: &[Operation]) -> bool {
    let all = (1u64 << operations.len()) - 1;
    let mut tried = HashSet::new();
    let mut open = vec![(0u64, None)];
    while let Some((done, value)) = open.pop() {
        if done == all {
            return true;
        }
        if !tried.insert((done, value)) {
            continue;
        }
        let left = || operations.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        let Some(first_end) = left().map(|(_, operation)| operation.ended).min() else { continue };
        for (at, operation) in left().filter(|(_, operation)| operation.began <= first_end) {
            let next = match operation.did {
                Did::Put(number) => Some(number),
                Did::Delete => None,
                Did::Get(found) if found == value => value,
                Did::Get(_) => continue,
            };
            open.push((done | 1 << at, next));
        }
    }
    false
}

#[test]
fn the_checker_tells_orders_that_can_be_from_others() {
    let start = Instant::now();
    let at = |began: u64, ended: u64, did| Operation {
        began: start + Duration::from_millis(began),
        ended: start + Duration::from_millis(ended),
        did,
    };
    let (one, two) = (Did::Put(1), Did::Put(2));
    assert!(is_linearizable(&[at(0, 10, one), at(0, 10, two), at(11, 12, Did::Get(Some(1)))]));
    assert!(!is_linearizable(&[at(0, 1, one), at(2, 3, two), at(4, 5, Did::Get(Some(1)))]));
    // Once one reader has seen the new value, no later one sees the old.
    let write = [at(0, 1, one), at(2, 20, two)];
    let (new, old) = (at(3, 4, Did::Get(Some(2))), at(5, 6, Did::Get(Some(1))));
    assert!(!is_linearizable(&[write[0], write[1], new, old]));
    assert!(is_linearizable(&[write[0], write[1], new]) && is_linearizable(&[write[0], write[1], old]));
    assert!(!is_linearizable(&[at(0, 1, one), at(2, 3, Did::Delete), at(4, 5, Did::Get(Some(1)))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_changed_through_both_is_one_register() {
    let one = Server::start().await;
    let servers = [one.sibling().await, one];
    let mut manifests = Vec::new();
    for number in 0..40u8 {
        manifests.push(servers[0].image("a", &[number; 10]).await);
    }
    let digests: Vec<String> =
        manifests.iter().map(|manifest| Digest::sha256(manifest.as_bytes()).to_string()).collect();
    for round in 0..30u64 {
        let tag = format!("round-{round}");
        let path = format!("/v2/a/manifests/{tag}");
        let history = Mutex::new(Vec::new());
        let client = |number: usize| {
            let (history, manifests, digests, servers) = (&history, &manifests, &digests, &servers);
            let (tag, path) = (&tag, &path);
            async move {
                for step in 0..5 {
                    // Any mixture; another one each round.
                    let choice = round * 7 + number as u64 * 13 + step as u64 * 5;
                    let server = &servers[(choice % 2) as usize];
                    let value = (number * 5 + step) as u8;
                    let began = Instant::now();
                    let did = match choice % 7 {
                        0..=2 => {
                            let put =
                                server.put_manifest("a", tag, OCI_MANIFEST, &manifests[usize::from(value)]);
                            assert_eq!(put.await.status(), 201);
                            Did::Put(value)
                        }
                        3 => {
                            let status = server.send(Method::DELETE, path).await.status().as_u16();
                            match status {
                                202 => Did::Delete,
                                404 => Did::Get(None),
                                other => panic!("a delete of a tag answers {other}"),
                            }
                        }
                        _ => {
                            let answer = server.get(path).await;
                            let found = (answer.status() == 200).then(|| {
                                let digest = header(&answer, "docker-content-digest");
                                digests.iter().position(|known| known == digest).unwrap() as u8
                            });
                            Did::Get(found)
                        }
                    };
                    history.lock().push(Operation { began, ended: Instant::now(), did });
                }
            }
        };
        join_all((0..8).map(client)).await;
        let history = history.into_inner();
        assert!(is_linearizable(&history), "no order explains what clients saw: {history:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_through_both_holds_exactly_what_was_acknowledged() {
    let one = Server::start().await;
    let servers = [one.sibling().await, one];
    for round in 0..10u8 {
        let location = servers[0].begin("a").await;
        let mut content: Vec<u8> = Vec::new();
        for step in 0..8u8 {
            let start = content.len();
            let patch = |number: usize| {
                let bytes = vec![round ^ (step << 3) ^ ((number as u8) << 7); 700 + usize::from(step) * 300];
                let range = format!("{start}-{}", start + bytes.len() - 1);
                let request =
                    servers[number].request(Method::PATCH, &location).header("content-range", range);
                async move { (request.body(bytes.clone()).send().await.unwrap().status().as_u16(), bytes) }
            };
            let answers = join_all((0..2).map(patch)).await;
            let taken: Vec<_> = answers.iter().filter(|(status, _)| *status == 202).collect();
            assert!(taken.len() <= 1, "both were told that their bytes are at {start}");
            for (status, _) in &answers {
                assert!(matches!(status, 202 | 409 | 416 | 429 | 503), "{status}");
            }
            match taken.first() {
                Some((_, bytes)) => content.extend_from_slice(bytes),
                // Each was in the other's way, and part of one may be there: the session says how much.
                None => {
                    let range = header(&servers[1].get(&location).await, "range").to_owned();
                    let held: usize = range.split_once('-').unwrap().1.parse().unwrap();
                    let held = if held == 0 { 0 } else { held + 1 };
                    let (_, bytes) = &answers[0];
                    let (_, other) = &answers[1];
                    assert!(held >= start && held <= start + bytes.len().max(other.len()), "{range}");
                    if held > start {
                        // Whose they are comes out at the end.
                        let digest =
                            |of: &[u8]| Digest::sha256(&[&content[..], &of[..held - start]].concat());
                        let (first, second) = (digest(bytes), digest(other));
                        let mut statuses = Vec::new();
                        for digest in [first, second] {
                            let path = format!("{location}?digest={digest}");
                            statuses.push(servers[0].send(Method::PUT, &path).await.status().as_u16());
                        }
                        assert!(statuses.contains(&201), "{statuses:?}");
                        content.clear();
                        break;
                    }
                }
            }
        }
        if content.is_empty() {
            continue;
        }
        let digest = Digest::sha256(&content);
        let path = format!("{location}?digest={digest}");
        assert_eq!(servers[1].send(Method::PUT, &path).await.status(), 201);
        let found = servers[0].get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap();
        assert!(found == content, "the blob has other bytes than were acknowledged");
    }
}
