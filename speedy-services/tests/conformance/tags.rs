use serde_json::Value;

use crate::images::OCI_MANIFEST;
use crate::suite::{Check, check};
use crate::target::{Target, with};

/// In bytewise order.
const TAGS: [&str; 7] = ["0.1", "V1", "_x", "latest", "v1", "v10", "v2"];

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(all_of_them, "tags", "tags-order", "tags-empty", "tags-absent"),
        check!(in_pages, "tags-n", "tags-zero", "tags-last", "tags-link", "tags-n-bad"),
        check!(the_catalog, "catalog"),
    ]
}

fn place(t: &Target) -> String {
    format!("/v2/{}/tags/list", t.repository())
}

async fn names(t: &Target, place: &str, field: &str) -> Vec<String> {
    let answer = t.get(place).await.expect(200);
    assert!(answer.header("content-type").starts_with("application/json"), "{answer}");
    serde_json::from_value(answer.json()[field].clone()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Pushes an image under all tags, not in their order.
async fn push(t: &Target) {
    let manifest = t.pushed_image("a", None).await;
    for at in [3, 0, 6, 5, 1, 4, 2] {
        t.store(&manifest, OCI_MANIFEST, Some(TAGS[at])).await;
    }
}

async fn all_of_them(t: &Target) {
    t.clause("tags-absent");
    t.get(&place(t)).await.error(404, "NAME_UNKNOWN");
    push(t).await;
    t.clause("tags");
    let answer = t.get(&place(t)).await.expect(200).json();
    assert_eq!(answer["name"], t.repository());
    t.clause("tags-order");
    assert_eq!(names(t, &place(t), "tags").await, TAGS);
    t.clause("tags-empty");
    for tag in TAGS {
        t.delete(&t.manifest(tag)).await.expect(202);
    }
    assert_eq!(t.get(&place(t)).await.expect(200).json()["tags"], Value::Array(Vec::new()));
}

/// Follows the links of a list to its end: the names of each page.
async fn follow(t: &Target, first: &str, field: &str) -> Vec<Vec<String>> {
    let (mut next, mut pages) = (Some(first.to_owned()), Vec::new());
    while let Some(place) = next {
        let answer = t.get(&place).await.expect(200);
        next = answer.next().map(str::to_owned);
        pages.push(serde_json::from_value(answer.json()[field].clone()).unwrap());
        assert!(pages.len() < 10_000, "the links have no end");
    }
    pages
}

async fn in_pages(t: &Target) {
    push(t).await;
    for (n, lengths) in [(1, vec![1; 7]), (3, vec![3, 3, 1]), (6, vec![6, 1]), (7, vec![7]), (100, vec![7])] {
        let first = with(&place(t), &[("n", &n.to_string())]);
        t.clause("tags-n");
        assert_eq!(names(t, &first, "tags").await.len(), lengths[0], "n={n}");
        t.clause("tags-link");
        let pages = follow(t, &first, "tags").await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "n={n}");
        assert_eq!(pages.concat(), TAGS, "n={n}");
    }
    t.clause("tags-zero");
    let none = t.get(&with(&place(t), &[("n", "0")])).await.expect(200);
    assert!(none.json()["tags"].as_array().is_some_and(Vec::is_empty) && !none.has("link"), "{none}");
    t.clause("tags-last");
    for (query, expected) in [
        (vec![("last", "_x")], &TAGS[3..]),
        (vec![("last", "a")], &TAGS[3..]),
        (vec![("last", "v1"), ("n", "1")], &TAGS[5..6]),
        (vec![("last", "v2")], &TAGS[7..]),
        (vec![("last", "zzz"), ("n", "5")], &TAGS[7..]),
        (vec![("last", "")], &TAGS[..]),
    ] {
        assert_eq!(names(t, &with(&place(t), &query), "tags").await, expected, "{query:?}");
    }
    t.clause("tags-n-bad");
    for n in ["-1", "x", "1.5", "0x1", "1 "] {
        t.get(&with(&place(t), &[("n", n)])).await.error(400, "PAGINATION_NUMBER_INVALID");
    }
}

async fn the_catalog(t: &Target) {
    t.clause("catalog");
    let mut own: Vec<String> = ["z", "a/b", "a", "a-b"].iter().map(|name| t.sibling(name)).collect();
    for name in &own {
        let manifest = t.of(&t.index(&[]));
        let place = format!("/v2/{name}/manifests/{}", manifest.digest);
        let asking = t.ask(http::Method::PUT, &place).header("content-type", crate::images::OCI_INDEX);
        asking.body(manifest.text).send().await.expect(201);
    }
    own.sort_unstable();
    // The registry may have others.
    let after = with("/v2/_catalog", &[("last", t.repository()), ("n", "3")]);
    assert_eq!(names(t, &after, "repositories").await, own[..3]);
    let after = with("/v2/_catalog", &[("last", &own[2]), ("n", "1")]);
    assert_eq!(names(t, &after, "repositories").await, own[3..]);
    let pages = follow(t, &with("/v2/_catalog", &[("n", "1000")]), "repositories").await.concat();
    assert!(own.iter().all(|name| pages.contains(name)) && pages.is_sorted(), "{pages:?}");
    t.get("/v2/_catalog?n=-1").await.error(400, "PAGINATION_NUMBER_INVALID");
}
