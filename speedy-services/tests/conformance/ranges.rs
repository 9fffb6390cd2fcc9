use std::ops::Range;

use http::Method;

use crate::answer::Answer;
use crate::images::pattern;
use crate::suite::{Check, check};
use crate::target::Target;

/// Bytes of the blob that is read.
const SIZE: usize = 5000;

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(one_range, "range", "range-open", "range-suffix", "range-cut", "range-told"),
        check!(no_byte, "range-none"),
        check!(no_range, "range-ignored", "if-range"),
    ]
}

async fn read(t: &Target, place: &str, range: &str) -> Answer {
    t.ask(Method::GET, place).header("range", range).send().await
}

async fn one_range(t: &Target) {
    let content = pattern(SIZE);
    let digest = t.push(&content).await;
    let place = t.blob(&digest);
    let ranges: [(&str, &str, Range<usize>); 9] = [
        ("range", "bytes=0-0", 0..1),
        ("range", "bytes=999-1000", 999..1001),
        ("range", "bytes=0-4999", 0..SIZE),
        ("range-open", "bytes=2500-", 2500..SIZE),
        ("range-open", "bytes=4999-", 4999..SIZE),
        ("range-suffix", "bytes=-10", 4990..SIZE),
        ("range-suffix", "bytes=-9999", 0..SIZE),
        ("range-cut", "bytes=4000-9999", 4000..SIZE),
        ("range-cut", "bytes=0-18446744073709551615", 0..SIZE),
    ];
    for (clause, range, expected) in ranges {
        t.clause(clause);
        let (first, last) = (expected.start, expected.end - 1);
        let answer = read(t, &place, range).await.expect(206).bytes(&content[expected]);
        answer
            .with("content-range", format!("bytes {first}-{last}/{SIZE}"))
            .with("docker-content-digest", digest);
    }
    t.clause("range-told");
    t.head(&place).await.expect(200).with("accept-ranges", "bytes");
}

async fn no_byte(t: &Target) {
    t.clause("range-none");
    let digest = t.push(pattern(SIZE)).await;
    for range in ["bytes=5000-", "bytes=5000-5000", "bytes=9999-10000", "bytes=500-0", "bytes=-0"] {
        let answer = read(t, &t.blob(&digest), range).await.with("content-range", format!("bytes */{SIZE}"));
        answer.error(416, "RANGE_INVALID");
    }
    let empty = t.push("").await;
    read(t, &t.blob(&empty), "bytes=0-").await.with("content-range", "bytes */0").error(416, "RANGE_INVALID");
}

async fn no_range(t: &Target) {
    let content = pattern(SIZE);
    let place = t.blob(&t.push(&content).await);
    t.clause("range-ignored");
    for range in ["bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=a-b", "bytes=0x1-2", "0-1", "bytes"] {
        read(t, &place, range).await.expect(200).bytes(&content);
    }
    // A range of what has no body is none.
    t.ask(Method::HEAD, &place)
        .header("range", "bytes=0-1")
        .send()
        .await
        .expect(200)
        .with("content-length", SIZE);
    t.clause("if-range");
    let etag = t.head(&place).await.header("etag").to_owned();
    for (tag, status) in [(etag.as_str(), 206), ("\"another\"", 200)] {
        let asking = t.ask(Method::GET, &place).header("range", "bytes=0-1").header("if-range", tag);
        asking.send().await.expect(status);
    }
}
