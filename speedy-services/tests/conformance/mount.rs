use http::Method;

use crate::answer::Answer;
use crate::images::pattern;
use crate::suite::{Check, check};
use crate::target::{Target, blob_of, with};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(from_a_repository, "mount", "mount-independent"),
        check!(from_anywhere, "mount-anonymous"),
        check!(what_is_not_there, "mount-else", "mount-never-denied"),
    ]
}

async fn mount(t: &Target, query: &[(&str, &str)]) -> Answer {
    t.ask(Method::POST, &with(&t.uploads(), query)).send().await
}

async fn from_a_repository(t: &Target) {
    let (source, content) = (t.sibling("source"), pattern(3300));
    let digest = t.push_to(&source, &content).await;
    t.get(&t.blob(&digest)).await.error(404, "BLOB_UNKNOWN");
    t.clause("mount");
    // The second time it is there already.
    for _ in 0..2 {
        let mounted = mount(t, &[("mount", &digest.to_string()), ("from", &source)]).await.expect(201);
        let mounted = mounted.with("docker-content-digest", digest);
        t.get(mounted.header("location")).await.expect(200).bytes(&content);
    }
    t.get(&t.blob(&digest)).await.expect(200).bytes(&content);
    t.clause("mount-independent");
    t.delete(&blob_of(&source, &digest)).await.expect(202);
    t.get(&t.blob(&digest)).await.expect(200).bytes(&content);
    t.get(&blob_of(&source, &digest)).await.error(404, "BLOB_UNKNOWN");
}

async fn from_anywhere(t: &Target) {
    t.clause("mount-anonymous");
    // Of this run alone, so that it comes from where it was just pushed.
    let content = format!("somewhere in {}", t.repository());
    let digest = t.push_to(&t.sibling("somewhere"), &content).await;
    let mounted = mount(t, &[("mount", &digest.to_string())]).await.expect(201);
    t.get(mounted.header("location")).await.expect(200).bytes(&content);
}

async fn what_is_not_there(t: &Target) {
    let content = format!("nowhere, in {}", t.repository());
    let digest = t.digest(&content);
    let missing = digest.to_string();
    let (known, unknown) = (t.sibling("known"), t.sibling("unknown"));
    t.push_to(&known, "something else").await;
    let mut uploads = Vec::new();
    for (clause, query) in [
        ("mount-else", vec![("mount", &*missing), ("from", &*known)]),
        ("mount-else", vec![("mount", &*missing)]),
        ("mount-never-denied", vec![("mount", &*missing), ("from", &*unknown)]),
        ("mount-never-denied", vec![("mount", &*missing), ("from", "NO/../name")]),
        ("mount-never-denied", vec![("mount", &*missing), ("from", "")]),
        ("mount-never-denied", vec![("mount", &*missing), ("from", t.repository())]),
    ] {
        t.clause(clause);
        let begun = mount(t, &query).await.expect(202);
        uploads.push((clause, begun.header("location").to_owned()));
    }
    for (clause, location) in uploads {
        t.clause(clause);
        let put = with(&location, &[("digest", &missing)]);
        t.ask(Method::PUT, &put).body(content.clone()).send().await.expect(201);
        t.get(&t.blob(&digest)).await.expect(200).bytes(&content);
    }
}
