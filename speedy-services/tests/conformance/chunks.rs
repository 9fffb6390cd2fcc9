use http::Method;

use crate::answer::Answer;
use crate::images::pattern;
use crate::suite::{Check, check};
use crate::target::{Target, with};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(one_after_the_other, "chunk", "chunk-status", "chunk-close"),
        check!(last_in_the_put, "chunk", "chunk-last", "chunk-close"),
        check!(
            out_of_order,
            "chunk-first",
            "chunk-order",
            "chunk-order-last",
            "chunk-told",
            "chunk-resume",
            "chunk-status"
        ),
        check!(other_bytes, "chunk-digest"),
        check!(ranges_that_are_wrong, "chunk-length", "chunk-malformed"),
        check!(stream, "stream", "chunk-close"),
        check!(no_such_upload, "session-unknown", "session-own"),
        check!(at_another_registry, "session-anywhere"),
        check!(cancelled, "cancel", "cancel-gone", "session-unknown"),
    ]
}

async fn patch(t: &Target, location: &str, range: &str, bytes: &[u8]) -> Answer {
    let asking = t.ask(Method::PATCH, location).header("content-range", range);
    asking.header("content-type", "application/octet-stream").body(bytes.to_vec()).send().await
}

/// Closes an upload and reads what it became.
async fn close(t: &Target, location: &str, content: &[u8]) {
    let place = with(location, &[("digest", &t.digest(content).to_string())]);
    let created = t.ask(Method::PUT, &place).send().await.expect(201);
    let created = created.with("docker-content-digest", t.digest(content));
    t.get(created.header("location")).await.expect(200).bytes(content);
}

async fn one_after_the_other(t: &Target) {
    let content = pattern(6500);
    let mut location = t.begin().await;
    for (range, held) in [("0-2999", 3000), ("3000-3000", 3001), ("3001-6499", 6500)] {
        t.clause("chunk");
        let first = range.split('-').next().unwrap().parse().unwrap();
        let taken = patch(t, &location, range, &content[first..held]).await.expect(202);
        location = taken.header("location").to_owned();
        let taken = taken.with("range", format!("0-{}", held - 1));
        assert!(!location.is_empty(), "{taken}");
        t.clause("chunk-status");
        let stands = t.get(&location).await.expect(204).with("range", format!("0-{}", held - 1));
        assert!(stands.has("location"), "{stands}");
    }
    t.clause("chunk-close");
    close(t, &location, &content).await;
}

async fn last_in_the_put(t: &Target) {
    let content = pattern(4100);
    t.clause("chunk");
    let taken = patch(t, &t.begin().await, "0-2999", &content[..3000]).await.expect(202);
    t.clause("chunk-last");
    let place = with(taken.header("location"), &[("digest", &t.digest(&content).to_string())]);
    let asking = t.ask(Method::PUT, &place).header("content-range", "3000-4099");
    let created = asking.body(content[3000..].to_vec()).send().await.expect(201);
    t.clause("chunk-close");
    t.get(created.header("location")).await.expect(200).bytes(&content);
}

async fn out_of_order(t: &Target) {
    let content = pattern(4000);
    let location = t.begin().await;
    t.clause("chunk-first");
    patch(t, &location, "1-1000", &content[1..1001]).await.error(416, "RANGE_INVALID");
    patch(t, &location, "0-1999", &content[..2000]).await.expect(202);
    t.clause("chunk-order");
    for (range, bytes) in [("2001-2999", 2001..3000), ("1999-2999", 1999..3000), ("0-1999", 0..2000)] {
        let refused = patch(t, &location, range, &content[bytes]).await;
        refused.error(416, "RANGE_INVALID");
        t.clause("chunk-told");
        let refused = refused.with("range", "0-1999");
        t.get(refused.header("location")).await.expect(204).with("range", "0-1999");
        t.clause("chunk-status");
        t.get(&location).await.expect(204).with("range", "0-1999");
    }
    t.clause("chunk-order-last");
    for (range, bytes) in [("3000-3999", 3000..4000), ("0-3999", 0..4000)] {
        let place = with(&location, &[("digest", &t.digest(&content).to_string())]);
        let asking = t.ask(Method::PUT, &place).header("content-range", range);
        asking.body(content[bytes].to_vec()).send().await.error(416, "RANGE_INVALID");
    }
    t.clause("chunk-resume");
    let stands = t.get(&location).await.expect(204).with("range", "0-1999");
    let rest = patch(t, stands.header("location"), "2000-3999", &content[2000..]).await.expect(202);
    close(t, rest.header("location"), &content).await;
}

async fn other_bytes(t: &Target) {
    t.clause("chunk-digest");
    let content = pattern(2500);
    let taken = patch(t, &t.begin().await, "0-2499", &content).await.expect(202);
    // The digest of the last chunk is not that of the whole.
    let place = with(taken.header("location"), &[("digest", &t.digest("last").to_string())]);
    t.ask(Method::PUT, &place).body("last").send().await.error(400, "DIGEST_INVALID");
    t.get(&t.blob(&t.digest("last"))).await.error(404, "BLOB_UNKNOWN");
}

async fn ranges_that_are_wrong(t: &Target) {
    let location = t.begin().await;
    t.clause("chunk-length");
    for range in ["0-3", "0-99"] {
        patch(t, &location, range, b"12345").await.error(400, "SIZE_INVALID");
    }
    t.clause("chunk-malformed");
    for range in ["4-0", "x", "0", "0-", "-4", "bytes */5", "0-99999999999999999999"] {
        patch(t, &location, range, b"12345").await.error(416, "RANGE_INVALID");
    }
    // Nothing of it was taken.
    patch(t, &location, "0-4", b"12345").await.expect(202).with("range", "0-4");
    close(t, &location, b"12345").await;
}

async fn stream(t: &Target) {
    t.clause("stream");
    let content = pattern(5500);
    let mut location = t.begin().await;
    for bytes in [&content[..2500], &content[2500..]] {
        let runs: Vec<Result<Vec<u8>, std::io::Error>> =
            bytes.chunks(700).map(|run| Ok(run.to_vec())).collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(runs));
        let taken = t.ask(Method::PATCH, &location).body(body).send().await.expect(202);
        location = taken.header("location").to_owned();
    }
    t.get(&location).await.expect(204).with("range", "0-5499");
    t.clause("chunk-close");
    close(t, &location, &content).await;
}

/// Demands that there is no such upload, whatever is wanted of it.
async fn is_unknown(t: &Target, location: &str) {
    let digest = t.digest("bytes");
    let put = with(location, &[("digest", &digest.to_string())]);
    for (method, place) in
        [(Method::GET, location), (Method::PATCH, location), (Method::PUT, &put), (Method::DELETE, location)]
    {
        let body = if method == Method::PATCH || method == Method::PUT { "bytes" } else { "" };
        t.ask(method, place).body(body).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

async fn no_such_upload(t: &Target) {
    t.clause("session-unknown");
    for id in ["00000000000000000000000000000000", "00000000-0000-4000-8000-000000000000", "x"] {
        is_unknown(t, &format!("{}{id}", t.uploads())).await;
    }
    let location = t.begin().await;
    close(t, &location, b"").await;
    t.get(&location).await.error(404, "BLOB_UPLOAD_UNKNOWN");
    t.clause("session-own");
    let location = t.begin().await;
    is_unknown(t, &location.replace(t.repository(), &t.sibling("other"))).await;
    t.get(&location).await.expect(204);
}

async fn at_another_registry(t: &Target) {
    t.clause("session-anywhere");
    let content = pattern(7500);
    let location = t.begin().await;
    let chunks = ["0-2499", "2500-4999", "5000-7499"];
    for (number, (range, bytes)) in chunks.iter().zip(content.chunks(2500)).enumerate() {
        let at = (number + 1) % t.registries();
        let asking = t.ask_of(at, Method::PATCH, &location).header("content-range", range);
        asking.body(bytes.to_vec()).send().await.expect(202);
    }
    for number in 0..t.registries() {
        t.ask_of(number, Method::GET, &location).send().await.expect(204).with("range", "0-7499");
    }
    close(t, &location, &content).await;
}

async fn cancelled(t: &Target) {
    for content in [&b""[..], b"some bytes", &pattern(5000)] {
        let location = t.begin().await;
        if !content.is_empty() {
            t.ask(Method::PATCH, &location).body(content.to_vec()).send().await.expect(202);
        }
        t.clause("cancel");
        let gone = t.delete(&location).await.expect(204);
        assert!(gone.body().is_empty(), "{gone}");
        t.clause("cancel-gone");
        is_unknown(t, &location).await;
        t.get(&t.blob(&t.digest(content))).await.error(404, "BLOB_UNKNOWN");
        t.clause("session-unknown");
        t.delete(&location).await.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}
