use http::Method;

use crate::images::pattern;
use crate::suite::{Check, check};
use crate::target::{Target, with};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(
            post_then_put,
            "session",
            "session-id",
            "session-location",
            "session-docker",
            "put",
            "put-location",
            "put-digest",
        ),
        check!(single_post, "post", "put-location", "put-digest"),
        check!(other_bytes, "put-mismatch", "post-mismatch"),
        check!(put_without_digest, "put-undigested"),
        check!(pushed_again, "put-again"),
        check!(no_bytes, "empty-blob"),
    ]
}

async fn post_then_put(t: &Target) {
    let content = pattern(6500);
    let digest = t.digest(&content);
    t.clause("session");
    let begun = t.ask(Method::POST, &t.uploads()).send().await.expect(202);
    let location = begun.header("location").to_owned();
    assert!(!location.is_empty(), "{begun}");
    t.clause("session-location");
    assert!(location.starts_with("/v2/") && location.contains(t.repository()), "{begun}");
    t.clause("session-id");
    // With or without the slash at the end: clients write both.
    let again = t.ask(Method::POST, t.uploads().trim_end_matches('/')).send().await.expect(202);
    assert_ne!(again.header("location"), location);

    t.clause("session-docker");
    assert_eq!(begun.header("range"), "0-0", "{begun}");
    let id = begun.header("docker-upload-uuid").to_owned();
    assert!(!id.is_empty() && location.contains(&id), "{begun}");
    t.get(&location).await.expect(204).with("docker-upload-uuid", &id).with("range", "0-0");

    t.clause("put");
    let place = with(&location, &[("digest", &digest.to_string())]);
    let asking = t.ask(Method::PUT, &place).header("content-type", "application/octet-stream");
    let created = asking.body(content.clone()).send().await.expect(201);
    t.clause("put-location");
    t.get(created.header("location")).await.expect(200).bytes(&content);
    t.get(&t.blob(&digest)).await.expect(200).bytes(&content);
    t.clause("put-digest");
    created.with("docker-content-digest", digest);
}

async fn single_post(t: &Target) {
    let content = pattern(6500);
    let digest = t.digest(&content);
    t.clause("post");
    let place = with(&t.uploads(), &[("digest", &digest.to_string())]);
    let created = t.ask(Method::POST, &place).body(content.clone()).send().await.expect(201);
    t.clause("put-location");
    t.get(created.header("location")).await.expect(200).bytes(&content);
    t.clause("put-digest");
    created.with("docker-content-digest", digest);
}

async fn other_bytes(t: &Target) {
    let digest = t.digest("what was announced");
    let query = [("digest", &*digest.to_string())];
    t.clause("put-mismatch");
    let location = t.begin().await;
    let put = t.ask(Method::PUT, &with(&location, &query)).body("what came").send().await;
    put.error(400, "DIGEST_INVALID");
    t.get(&t.blob(&digest)).await.error(404, "BLOB_UNKNOWN");
    t.clause("post-mismatch");
    let post = t.ask(Method::POST, &with(&t.uploads(), &query)).body("what came").send().await;
    post.error(400, "DIGEST_INVALID");
    t.get(&t.blob(&digest)).await.error(404, "BLOB_UNKNOWN");
    t.get(&t.blob(&t.digest("what came"))).await.error(404, "BLOB_UNKNOWN");
}

async fn put_without_digest(t: &Target) {
    t.clause("put-undigested");
    let location = t.begin().await;
    for place in [
        location.clone(),
        with(&location, &[("digest", "")]),
        with(&location, &[("digest", "sha256:x")]),
        with(&location, &[("digest", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709")]),
    ] {
        t.ask(Method::PUT, &place).body("bytes").send().await.error(400, "DIGEST_INVALID");
    }
    // The upload is not spoilt by that.
    let place = with(&location, &[("digest", &t.digest("bytes").to_string())]);
    t.ask(Method::PUT, &place).body("bytes").send().await.expect(201);
}

async fn pushed_again(t: &Target) {
    t.clause("put-again");
    let digest = t.push("content").await;
    t.push("content").await;
    let query = [("digest", &*digest.to_string())];
    t.ask(Method::POST, &with(&t.uploads(), &query)).body("content").send().await.expect(201);
    let place = with(&t.begin().await, &query);
    for _ in 0..2 {
        let created = t.ask(Method::PUT, &place).body("content").send().await.expect(201);
        t.get(created.header("location")).await.expect(200).bytes("content");
    }
}

async fn no_bytes(t: &Target) {
    t.clause("empty-blob");
    let digest = t.push("").await;
    t.get(&t.blob(&digest)).await.expect(200).bytes("").with("docker-content-digest", digest);
    t.head(&t.blob(&digest)).await.expect(200).with("content-length", 0);
    t.delete(&t.blob(&digest)).await.expect(202);
    let place = with(&t.uploads(), &[("digest", &digest.to_string())]);
    t.ask(Method::POST, &place).send().await.expect(201);
    t.get(&t.blob(&digest)).await.expect(200).bytes("");
}
