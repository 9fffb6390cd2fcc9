use super::*;

async fn follow(server: &Server, first: &str, field: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), first.to_owned());
    loop {
        let response = server.get(&next).await;
        assert_eq!(response.status(), 200, "{next}");
        let link = header(&response, "link").to_owned();
        let body: Value = response.json().await.unwrap();
        pages.push(serde_json::from_value(body[field].clone()).unwrap());
        if link.is_empty() {
            return pages;
        }
        let (path, rel) = link.split_once(">; ").unwrap();
        assert_eq!(rel, "rel=\"next\"");
        next = path.strip_prefix('<').unwrap().to_owned();
        assert!(next.starts_with(first.split('?').next().unwrap()), "{next}");
    }
}

#[tokio::test]
async fn tags_come_in_lexical_order_and_in_pages() {
    let server = Server::start().await;
    let manifest = server.image("a/b", b"layer").await;
    for tag in ["v2", "latest", "V1", "v10", "_x", "0.1"] {
        assert_eq!(server.put_manifest("a/b", tag, OCI_MANIFEST, &manifest).await.status(), 201);
    }
    let path = "/v2/a/b/tags/list";
    let all = ["0.1", "V1", "_x", "latest", "v10", "v2"];
    assert_eq!(server.json(path).await, json!({ "name": "a/b", "tags": all }));
    for (n, lengths) in [(1, vec![1; 6]), (2, vec![2; 3]), (4, vec![4, 2]), (6, vec![6]), (9, vec![6])] {
        let pages = follow(&server, &format!("{path}?n={n}"), "tags").await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{n}");
        assert_eq!(pages.concat(), all, "{n}");
    }
    for (query, tags) in [
        ("n=0", &[][..]),
        ("last=_x", &all[3..]),
        ("last=a&n=1", &all[3..4]),
        ("last=v2", &[][..]),
        ("n=", &all[..]),
        ("n=99999999999999999999999", &all[..]),
    ] {
        assert_eq!(server.json(&format!("{path}?{query}")).await["tags"], json!(tags), "{query}");
    }
    assert_eq!(header(&server.get(&format!("{path}?n=0")).await, "link"), "");
    for n in ["-1", "x", "1.5", "0x1"] {
        let response = server.get(&format!("{path}?n={n}")).await;
        assert_eq!(error(response).await, code(400, "PAGINATION_NUMBER_INVALID"), "{n}");
    }
    let long = format!("{path}?last={}", "z".repeat(5000));
    assert_eq!(server.json(&long).await["tags"], json!([]));
    assert_eq!(error(server.get("/v2/no/such/tags/list").await).await, code(404, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn the_catalog_lists_what_has_manifests() {
    let server = Server::start().await;
    assert_eq!(server.json("/v2/_catalog").await, json!({ "repositories": [] }));
    for name in ["z", "a/b", "a", "a-b"] {
        server.push_image(name, "latest", b"layer").await;
    }
    server.push_blob("only-a-blob", b"layer").await;
    let all = ["a", "a-b", "a/b", "z"];
    assert_eq!(server.json("/v2/_catalog").await, json!({ "repositories": all }));
    assert_eq!(follow(&server, "/v2/_catalog?n=1", "repositories").await.concat(), all);
    assert_eq!(follow(&server, "/v2/_catalog?n=3", "repositories").await.concat(), all);
    assert_eq!(error(server.get("/v2/_catalog?n=-1").await).await, code(400, "PAGINATION_NUMBER_INVALID"));
}

#[tokio::test]
async fn referrers_come_and_go_with_their_manifests() {
    let server = Server::start().await;
    let subject = Digest::sha256(server.image("a", b"layer").await.as_bytes());
    let path = format!("/v2/a/referrers/{subject}");
    let none = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    assert_eq!(server.json(&path).await, none);
    assert_eq!(server.json(&format!("/v2/no/such/referrers/{subject}")).await, none);

    // The subject is not there yet, and that is well.
    let mut digests = Vec::new();
    for (kind, size) in [("application/vnd.x+json", 10), ("application/vnd.y", 20_000)] {
        let manifest = referrer(&subject, kind, size);
        let response = server
            .put_manifest(
                "a",
                kind.rsplit('.').next().unwrap().trim_end_matches("+json"),
                OCI_MANIFEST,
                &manifest,
            )
            .await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "oci-subject")),
            (201, subject.to_string().as_str())
        );
        let expected = json!({
            "mediaType": OCI_MANIFEST,
            "digest": Digest::sha256(manifest.as_bytes()).to_string(),
            "size": manifest.len(),
            "artifactType": kind,
            "annotations": { "note": "n".repeat(size) },
        });
        digests.push((Digest::sha256(manifest.as_bytes()), expected));
    }
    digests.sort_by_key(|(digest, _)| *digest);
    let response = server.get(&path).await;
    assert_eq!(header(&response, "content-type"), OCI_INDEX);
    let index: Value = response.json().await.unwrap();
    assert_eq!(
        index["manifests"],
        json!(digests.iter().map(|(_, descriptor)| descriptor).collect::<Vec<_>>())
    );

    for kind in ["application/vnd.x%2Bjson", "application/vnd.x+json"] {
        let filtered = server.get(&format!("{path}?artifactType={kind}")).await;
        assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
        let filtered: Value = filtered.json().await.unwrap();
        assert_eq!(filtered["manifests"].as_array().unwrap().len(), 1, "{kind}");
        assert_eq!(filtered["manifests"][0]["artifactType"], "application/vnd.x+json");
    }
    for (gone, (digest, _)) in digests.iter().enumerate() {
        assert_eq!(server.send(Method::DELETE, &format!("/v2/a/manifests/{digest}")).await.status(), 202);
        let index = server.json(&path).await;
        assert_eq!(index["manifests"].as_array().unwrap().len(), digests.len() - gone - 1);
    }
    assert_eq!(error(server.get("/v2/a/referrers/sha256:x").await).await, code(400, "DIGEST_INVALID"));
}

/// A manifest about `subject`, with an annotation of `size` bytes. Its config and layer are those of [`Server::image`].
fn referrer(subject: &Digest, kind: &str, size: usize) -> String {
    let mut manifest: Value =
        serde_json::from_str(&image_manifest(br#"{"architecture":"amd64","os":"linux"}"#, &[b"layer"]))
            .unwrap();
    manifest["artifactType"] = kind.into();
    manifest["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 1 });
    manifest["annotations"] = json!({ "note": "n".repeat(size) });
    manifest.to_string()
}

#[tokio::test]
async fn a_long_list_of_referrers_goes_on() {
    let server = Server::start().await;
    let subject = Digest::sha256(server.image("a", b"layer").await.as_bytes());
    for number in 0..5 {
        let kind = format!("application/vnd.{number}");
        let manifest = referrer(&subject, &kind, 300_000);
        assert_eq!(
            server.put_manifest("a", &format!("t{number}"), OCI_MANIFEST, &manifest).await.status(),
            201
        );
    }
    let (mut next, mut lengths) = (format!("/v2/a/referrers/{subject}"), Vec::new());
    while !next.is_empty() {
        let response = server.get(&next).await;
        let link = header(&response, "link").to_owned();
        next = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let index: Value = response.json().await.unwrap();
        lengths.push(index["manifests"].as_array().unwrap().len());
    }
    assert_eq!(lengths, [3, 2]);
}
