//! What Docker 1.5 does, from its first call to its last.

use std::time::Duration;

use speedy_core::blob::BlobError;

use super::*;

fn content(chain: &[LocalImage]) -> Vec<(String, Vec<u8>)> {
    chain.iter().rev().map(|image| (image.json.clone(), image.layer.clone())).collect()
}

async fn server_has(server: &Server, image: &LocalImage) -> bool {
    server.blobs.find(&Digest::sha256(&image.layer)).await.unwrap().is_some()
}

#[tokio::test]
async fn push_again_pull_tag_and_delete() {
    let server = Server::start().await;
    let docker = Docker::new(&[&server]);
    let chain = LocalImage::chain(1, 3);
    assert_eq!(docker.push("me/app", "1.0", &chain).await, 3);
    assert_eq!(docker.push("me/app", "1.0", &chain).await, 0);
    assert_eq!(docker.pull("me/app", "1.0").await, content(&chain));

    // A fourth image on top, in another repository, sends one layer; the tag may move.
    let longer = LocalImage::chain(1, 4);
    assert_eq!(docker.push("other", "latest", &longer).await, 1);
    assert_eq!(docker.push("other", "latest", &longer[..2]).await, 0);
    assert_eq!(docker.pull("other", "latest").await, content(&longer[..2]));
    assert_eq!(server.json("/v1/repositories/other/tags").await, json!({ "latest": longer[1].id }));
    assert_eq!(server.json("/v1/repositories/library/other/tags/latest").await, json!(longer[1].id));
    let about = server.json("/v1/repositories/other/json").await;
    assert_eq!((&about["docker_version"], &about["os"]), (&json!("1.5.0"), &json!("linux")));
    assert!(about["last_update"].as_u64().is_some());
    assert_eq!(server.json("/v1/repositories/me/app/tags/1.0/json").await["kernel"], "3.13.0");
    assert_eq!(server.json("/v1/repositories/me/app/tags/none/json").await["last_update"], Value::Null);

    let path = "/v1/repositories/other/tags/latest";
    assert_eq!(server.send(Method::DELETE, path).await.status(), 200);
    assert_eq!(error(server.get(path).await).await, (404, "Tag not found".into()));
    assert_eq!(error(server.send(Method::DELETE, path).await).await.0, 404);
    assert_eq!(server.json("/v1/repositories/other/tags").await, json!({}));
    let checksums = server.json("/v1/repositories/me/app/images").await;
    let listed = json!({ "id": chain[0].id, "checksum": chain[0].tarsum() });
    assert!(checksums.as_array().unwrap().contains(&listed), "{checksums}");
}

#[tokio::test]
async fn deletes_free_what_nothing_else_holds() {
    let server = Server::start().await;
    let docker = Docker::new(&[&server]);
    let (chain, longer) = (LocalImage::chain(1, 3), LocalImage::chain(1, 5));
    docker.push("a/short", "latest", &chain).await;
    docker.push("a/long", "latest", &longer).await;
    assert_eq!(server.keys("f/").await, 5);
    let held = server.blobs.find(&Digest::sha256(&chain[0].layer)).await.unwrap().unwrap().info;
    assert!(matches!(server.blobs.delete(held.id).await, Err(BlobError::Invalid(_))));

    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/long/").await.status(), 200);
    assert_eq!((server.keys("f/").await, server.keys("V/i/").await), (3, 3));
    assert_eq!(error(server.get(&format!("/v1/images/{}/json", longer[4].id)).await).await.0, 404);
    assert_eq!(error(server.get("/v1/repositories/a/long/tags").await).await.0, 404);
    assert_eq!(docker.pull("a/short", "latest").await, content(&chain));

    // Without its list the repository holds what its tag needs, and that is all.
    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/short/images").await.status(), 204);
    assert_eq!(server.json("/v1/repositories/a/short/images").await, json!([]));
    assert_eq!(server.keys("f/").await, 3);
    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/short/tags/latest").await.status(), 200);
    assert_eq!(server.keys("f/").await, 0);
    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/short/tags").await.status(), 200);
    assert_eq!(server.keys("V/").await, 0, "something of v1 is left");
    server.blobs.delete(held.id).await.unwrap();
    assert_eq!(docker.push("a/short", "latest", &chain).await, 3);
    assert_eq!(docker.pull("a/short", "latest").await, content(&chain));
}

#[tokio::test]
async fn two_registries_serve_one_push() {
    let one = Server::start().await;
    let two = one.sibling().await;
    let docker = Docker::new(&[&one, &two]);
    let chain = LocalImage::chain(1, 4);
    assert_eq!(docker.push("app", "latest", &chain).await, 4);
    assert_eq!(docker.pull("app", "latest").await, content(&chain));
    assert_eq!(Docker::new(&[&two]).push("app", "latest", &chain).await, 0);
    assert_eq!(two.send(Method::DELETE, "/v1/repositories/app/").await.status(), 200);
    assert_eq!(one.keys("V/").await, 0);
}

#[tokio::test]
async fn several_clients_push_the_same_at_once() {
    let one = Server::start().await;
    let two = one.sibling().await;
    let chain = LocalImage::chain(1, 5);
    let clients = [Docker::new(&[&one]), Docker::new(&[&two]), Docker::new(&[&one, &two])];
    let names = ["a/one", "a/two", "a/three"];
    let pushes = clients.iter().zip(names).map(|(client, name)| client.push(name, "latest", &chain));
    futures_util::future::join_all(pushes).await;
    for name in names {
        assert_eq!(clients[0].pull(name, "latest").await, content(&chain));
    }
    // Each layer is stored and held once, whoever was first.
    assert_eq!((one.keys("V/i/").await, one.keys("f/").await), (5, 5));
    for image in &chain {
        assert!(server_has(&one, image).await);
    }
    let deletes = names.map(|name| format!("/v1/repositories/{name}/"));
    let deletes =
        deletes.iter().zip([&one, &two, &one]).map(|(path, server)| server.send(Method::DELETE, path));
    for answer in futures_util::future::join_all(deletes).await {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!((one.keys("V/").await, one.keys("f/").await), (0, 0));
}

#[tokio::test]
async fn a_layer_that_v2_has_is_stored_once() {
    let server = Server::start().await;
    let docker = Docker::new(&[&server]);
    let chain = LocalImage::chain(1, 1);
    let digest = server.push_v2_blob("v2/app", &chain[0].layer).await;
    let (chunks, before) = (server.chunks().await, server.blobs.find(&digest).await.unwrap().unwrap().info);
    assert_eq!(docker.push("v1/app", "latest", &chain).await, 1);
    tokio::time::timeout(Duration::from_secs(10), async {
        while server.chunks().await != chunks {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the second copy of the bytes is dropped");
    assert_eq!(server.blobs.find(&digest).await.unwrap().unwrap().info, before);

    // And the other way round: v2 mounts nothing that it can't see, and stores nothing twice.
    let other = LocalImage::chain(7, 1);
    docker.push("v1/app", "other", &other).await;
    let path = format!("/v2/v2/app/blobs/{}", Digest::sha256(&other[0].layer));
    assert_eq!(server.get(&path).await.status(), 404);
    let info = server.blobs.find(&Digest::sha256(&other[0].layer)).await.unwrap().unwrap().info;
    server.push_v2_blob("v2/app", &other[0].layer).await;
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), other[0].layer);
    let after = server.blobs.find(&Digest::sha256(&other[0].layer)).await.unwrap().unwrap().info;
    assert_eq!(after.id, info.id);
}

#[tokio::test]
async fn the_interfaces_list_their_own() {
    let server = Server::start().await;
    Docker::new(&[&server]).push("a/app", "v1", &LocalImage::chain(1, 1)).await;
    server.push_v2_image("a/app").await;
    server.push_v2_image("a/only-v2").await;
    assert_eq!(server.json("/v2/_catalog").await["repositories"], json!(["a/app", "a/only-v2"]));
    assert_eq!(server.json("/v2/a/app/tags/list").await["tags"], json!(["latest"]));
    let tags = server.json("/v1/repositories/a/app/tags").await;
    assert_eq!(tags.as_object().unwrap().keys().collect::<Vec<_>>(), ["v1"]);
    assert_eq!(server.get("/v1/repositories/a/only-v2/tags").await.status(), 404);
    // A repository of v2 outlives that of v1 with its name.
    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/app/").await.status(), 200);
    assert_eq!(server.json("/v2/a/app/tags/list").await["tags"], json!(["latest"]));
}

#[tokio::test]
async fn users_properties_and_endpoints() {
    let server = Server::start().await;
    for path in ["/_ping", "/v1/_ping", "/v1/users", "/v1/users/"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let account = json!({ "username": "me", "password": "secret", "email": "me@example.com" }).to_string();
    let posted = server.request(Method::POST, "/v1/users/").body(account.clone()).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), posted.text().await.unwrap()), (201, "\"User Created\"".into()));
    assert_eq!(server.put("/v1/users/me/", account).await.status(), 204);
    assert_eq!(server.put("/v1/repositories/a/b/auth", "").await.status(), 200);

    let path = "/v1/repositories/a/b/properties";
    assert_eq!(server.json(path).await, json!({ "access": "public" }));
    for access in ["private", "public", "private"] {
        assert_eq!(server.put(path, json!({ "access": access }).to_string()).await.status(), 200);
        assert_eq!(server.json(path).await, json!({ "access": access }));
    }

    let put = |headers: &[(&'static str, &str)]| {
        let mut put = server.request(Method::PUT, "/v1/repositories/a/b/").body("[]");
        for (name, value) in headers {
            put = put.header(*name, *value);
        }
        put.send()
    };
    let plain = put(&[]).await.unwrap();
    assert_eq!(header(&plain, "x-docker-endpoints"), server.address.to_string());
    assert_eq!(header(&plain, "x-docker-token"), "", "nobody asked for one");
    let proxied = put(&[
        ("x-forwarded-host", "registry.example.com"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "8443"),
    ]);
    assert_eq!(header(&proxied.await.unwrap(), "x-docker-endpoints"), "registry.example.com:8443");
    let tokens = [put(&[("x-docker-token", "true")]), put(&[("x-docker-token", "true")])];
    let [first, second] = tokens;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_ne!(header(&first, "x-docker-token"), header(&second, "x-docker-token"));
}

#[tokio::test]
async fn without_v1_its_paths_are_unknown() {
    let server = Server::with(RegistryOptions::default().v1(false)).await;
    for path in ["/_ping", "/v1/_ping", "/v1/search?q=a", "/v1/users/", "/v1/repositories/a/b/tags"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["errors"][0]["code"], "UNSUPPORTED");
    }
    assert_eq!(server.put("/v1/repositories/a/b/", "[]").await.status(), 404);
    assert_eq!(server.get("/v2/").await.status(), 200);
    assert_eq!(server.keys("V/").await, 0);
}
