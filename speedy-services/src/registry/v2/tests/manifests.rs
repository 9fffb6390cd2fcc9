use futures_util::future::join_all;
use speedy_core::digest::Algorithm;

use super::*;
use crate::registry::manifest::{DOCKER_LIST, DOCKER_MANIFEST};

#[tokio::test]
async fn a_manifest_comes_back_as_it_came() {
    let server = Server::start().await;
    let oci = server.image("a/b", b"layer").await;
    // Unknown fields, odd blanks and the lack of a mediaType are all kept.
    let odd = oci.replacen('{', "{ \"x-unknown\" : [1, {}],\n", 1) + "\n";
    let untyped = oci.replacen(&format!("\"mediaType\":\"{OCI_MANIFEST}\","), "", 1);
    let docker = oci.replacen(OCI_MANIFEST, DOCKER_MANIFEST, 1);
    let list = index(&[&oci]);
    let docker_list = list.replacen(OCI_INDEX, DOCKER_LIST, 1);
    let nested =
        json!({ "schemaVersion": 2, "manifests": [descriptor(OCI_INDEX, list.as_bytes())] }).to_string();
    for (media_type, manifest) in [
        (OCI_MANIFEST, &oci),
        (OCI_MANIFEST, &odd),
        (OCI_MANIFEST, &untyped),
        (DOCKER_MANIFEST, &docker),
        (OCI_INDEX, &list),
        (DOCKER_LIST, &docker_list),
        (OCI_INDEX, &nested),
    ] {
        let digest = Digest::sha256(manifest.as_bytes());
        let put = server.put_manifest("a/b", "latest", media_type, manifest).await;
        assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
        assert_eq!(header(&put, "docker-content-digest"), digest.to_string());
        assert_eq!(header(&put, "location"), format!("/v2/a/b/manifests/{digest}"));
        for reference in ["latest".to_owned(), digest.to_string()] {
            let path = format!("/v2/a/b/manifests/{reference}");
            let get = server.request(Method::GET, &path).header("accept", "text/plain").send().await.unwrap();
            let head = server.send(Method::HEAD, &path).await;
            for response in [&get, &head] {
                assert_eq!(response.status(), 200);
                assert_eq!(header(response, "content-type"), media_type);
                assert_eq!(header(response, "content-length"), manifest.len().to_string());
                assert_eq!(header(response, "docker-content-digest"), digest.to_string());
                assert_eq!(header(response, "etag"), format!("\"{digest}\""));
            }
            assert_eq!(get.text().await.unwrap(), *manifest);
            let etag = format!("\"{digest}\"");
            let again =
                server.request(Method::GET, &path).header("if-none-match", etag).send().await.unwrap();
            assert_eq!(again.status(), 304);
        }
    }
}

#[tokio::test]
async fn what_a_manifest_names_must_be_there() {
    let server = Server::start().await;
    let config = server.push_blob("a", b"config").await;
    server.push_blob("b", b"layer").await;
    let manifest = image_manifest(b"config", &[b"layer", b"other"]);
    let response = server.put_manifest("a", "v", OCI_MANIFEST, &manifest).await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    let missing: Vec<&str> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .inspect(|error| assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN"))
        .map(|error| error["detail"]["digest"].as_str().unwrap())
        .collect();
    // The layer is in another repository only.
    assert_eq!(missing, [Digest::sha256(b"layer").to_string(), Digest::sha256(b"other").to_string()]);
    assert_eq!(server.get("/v2/a/manifests/v").await.status(), 404);
    assert_eq!((server.keys("R/m/").await, server.keys("f/").await), (0, 0));

    // An index may be sparse, but what it names is not made up: a size that is wrong is found out.
    let sparse = index(&[&manifest]);
    assert_eq!(server.put_manifest("a", "sparse", OCI_INDEX, &sparse).await.status(), 201);
    let there = server.push_image("a", "there", b"there").await;
    let wrong = json!({ "mediaType": OCI_MANIFEST, "digest": there.to_string(), "size": 1 });
    let wrong = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [wrong] }).to_string();
    let response = server.put_manifest("a", "wrong", OCI_INDEX, &wrong).await;
    assert_eq!(error(response).await, code(400, "MANIFEST_INVALID"));

    // A layer that may not be distributed need not be there; a cache lists layers as manifests.
    let foreign = json!({
        "schemaVersion": 2,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"config"),
        "layers": [
            descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"elsewhere"),
            descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", b"there"),
        ],
    });
    assert_eq!(server.put_manifest("a", "f", OCI_MANIFEST, &foreign.to_string()).await.status(), 201);
    let layers = [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"config")];
    let cache = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": layers });
    assert_eq!(server.put_manifest("a", "cache", OCI_INDEX, &cache.to_string()).await.status(), 201);

    let mut wrong: Value = serde_json::from_str(&image_manifest(b"config", &[])).unwrap();
    wrong["config"]["size"] = 5.into();
    let response = server.put_manifest("a", "v", OCI_MANIFEST, &wrong.to_string()).await;
    assert_eq!(error(response).await, code(400, "MANIFEST_INVALID"));
    assert_eq!(server.get(&format!("/v2/a/blobs/{config}")).await.status(), 200);
}

#[tokio::test]
async fn a_put_by_digest_must_have_that_digest() {
    let server = Server::start().await;
    let manifest = server.image("a", b"layer").await;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, manifest.as_bytes());
        let put = server.put_manifest("a", &digest.to_string(), OCI_MANIFEST, &manifest).await;
        assert_eq!(
            (put.status().as_u16(), header(&put, "docker-content-digest")),
            (201, digest.to_string().as_str())
        );
        let get = server.get(&format!("/v2/a/manifests/{digest}")).await;
        assert_eq!(header(&get, "docker-content-digest"), digest.to_string());
        assert_eq!(get.text().await.unwrap(), manifest);
        let other = Digest::of(algorithm, b"other");
        let put = server.put_manifest("a", &other.to_string(), OCI_MANIFEST, &manifest).await;
        assert_eq!(error(put).await, code(400, "DIGEST_INVALID"));
    }
    // Tags beside the digest.
    let digest = Digest::sha256(manifest.as_bytes());
    let put = server.put_manifest("a", &format!("{digest}?tag=x&tag=y"), OCI_MANIFEST, &manifest).await;
    let tags: Vec<_> = put.headers().get_all("oci-tag").iter().collect();
    assert_eq!(put.status(), 201);
    assert_eq!(tags, ["x", "y"]);
    assert_eq!(server.json("/v2/a/tags/list").await["tags"], json!(["x", "y"]));
}

#[tokio::test]
async fn a_tag_moves_and_goes() {
    let server = Server::start().await;
    let first = server.push_image("a", "latest", b"one").await;
    server.push_image("a", "other", b"one").await;
    let second = server.push_image("a", "latest", b"two").await;
    let latest = server.get("/v2/a/manifests/latest").await;
    assert_eq!(header(&latest, "docker-content-digest"), second.to_string());
    assert_eq!(server.get(&format!("/v2/a/manifests/{first}")).await.status(), 200);

    assert_eq!(server.send(Method::DELETE, "/v2/a/manifests/latest").await.status(), 202);
    assert_eq!(error(server.get("/v2/a/manifests/latest").await).await, code(404, "MANIFEST_UNKNOWN"));
    assert_eq!(error(server.send(Method::DELETE, "/v2/a/manifests/latest").await).await.0, 404);
    assert_eq!(server.get(&format!("/v2/a/manifests/{second}")).await.status(), 200);
    assert_eq!(server.json("/v2/a/tags/list").await["tags"], json!(["other"]));
}

#[tokio::test]
async fn a_manifest_goes_with_its_tags_and_what_held_its_blobs() {
    let server = Server::start().await;
    let manifest = server.image("a", b"layer").await;
    let digest = Digest::sha256(manifest.as_bytes());
    for number in 0..100 {
        assert_eq!(
            server.put_manifest("a", &format!("t{number}"), OCI_MANIFEST, &manifest).await.status(),
            201
        );
    }
    let kept = server.push_image("a", "kept", b"other").await;
    let (references, path) = (server.keys("f/").await, format!("/v2/a/manifests/{digest}"));
    assert_eq!(server.send(Method::DELETE, &path).await.status(), 202);
    assert_eq!(error(server.get(&path).await).await, code(404, "MANIFEST_UNKNOWN"));
    assert_eq!(error(server.send(Method::DELETE, &path).await).await, code(404, "MANIFEST_UNKNOWN"));
    assert_eq!(server.json("/v2/a/tags/list").await["tags"], json!(["kept"]));
    assert_eq!(server.get(&format!("/v2/a/manifests/{kept}")).await.status(), 200);
    assert_eq!((server.keys("R/x/").await, server.keys("f/").await), (1, references - 2));
}

#[tokio::test]
async fn large_manifests_are_kept_too() {
    let server = Server::start().await;
    let manifest = server.image("a", b"layer").await;
    for size in [65_537usize, 1 << 20, 4 << 20] {
        let padded = manifest.clone() + &" ".repeat(size - manifest.len());
        let digest = Digest::sha256(padded.as_bytes());
        let put = server.put_manifest("a", "large", OCI_MANIFEST, &padded).await;
        assert_eq!(put.status(), 201, "{size}");
        let head = server.send(Method::HEAD, "/v2/a/manifests/large").await;
        assert_eq!(header(&head, "content-length"), size.to_string());
        let get = server.get("/v2/a/manifests/large").await;
        assert_eq!(header(&get, "content-type"), OCI_MANIFEST);
        assert!(get.text().await.unwrap() == padded, "{size}");
        // Its bytes are no blob of the repository.
        assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
        assert_eq!(server.keys("R/n/").await, 0);
        assert_eq!(server.send(Method::DELETE, &format!("/v2/a/manifests/{digest}")).await.status(), 202);
        assert_eq!((server.keys("f/").await, server.keys("R/m/").await), (0, 0));
    }
    let over = manifest.clone() + &" ".repeat((4 << 20) + 1 - manifest.len());
    let put = server.put_manifest("a", "over", OCI_MANIFEST, &over).await;
    assert_eq!(error(put).await, code(413, "SIZE_INVALID"));
    let runs = over.as_bytes().chunks(100_000).map(|run| Ok(Bytes::copy_from_slice(run))).collect();
    let request = server.request(Method::PUT, "/v2/a/manifests/over").header("content-type", OCI_MANIFEST);
    assert_eq!(error(request.body(chunked(runs)).send().await.unwrap()).await, code(413, "SIZE_INVALID"));
}

#[tokio::test]
async fn two_puts_of_one_tag_both_succeed() {
    let server = Server::start().await;
    let mut manifests = Vec::new();
    for number in 0..12u8 {
        manifests.push(server.image("a", &[number]).await);
    }
    let puts = manifests.iter().map(|manifest| server.put_manifest("a", "latest", OCI_MANIFEST, manifest));
    for response in join_all(puts).await {
        assert_eq!(response.status(), 201);
    }
    let latest = server.get("/v2/a/manifests/latest").await.text().await.unwrap();
    assert!(manifests.contains(&latest));
    assert_eq!((server.keys("R/t/").await, server.keys("R/x/").await), (1, 1));
    assert_eq!(server.keys("R/m/").await, 12);
}
