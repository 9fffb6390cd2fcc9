//! Read-only mode and the limits on clients, as v1 clients hear of them.

use super::*;
use crate::registry::Limits;

#[tokio::test]
async fn a_read_only_registry_refuses_every_change_and_serves_every_read() {
    let server = Server::start().await;
    server.push_v2_image("a/b").await;
    server.registry.set_read_only(Some("new disks until 18:00".into())).await.unwrap();
    let before = server.keys("").await;
    let id = "0".repeat(64);
    for (method, path) in [
        (Method::PUT, "/v1/repositories/a/b/".to_owned()),
        (Method::PUT, format!("/v1/images/{id}/json")),
        (Method::PUT, format!("/v1/images/{id}/layer")),
        (Method::PUT, "/v1/repositories/a/b/tags/latest".to_owned()),
        (Method::DELETE, "/v1/repositories/a/b/".to_owned()),
    ] {
        let response = server.request(method.clone(), &path).body("[]").send().await.unwrap();
        assert_eq!(response.status(), 405, "{method} {path}");
        assert_eq!(response.headers()["allow"], "GET, HEAD", "{method} {path}");
        let told: Value = response.json().await.unwrap();
        let expected = "the registry is read-only at the moment: new disks until 18:00";
        assert_eq!(told, json!({ "error": expected }), "{method} {path}");
    }
    assert_eq!(server.keys("").await, before);
    for path in ["/v1/_ping", "/v1/search?q=a"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_is_larger_than_blobs_may_be_is_refused() {
    let limits = Limits::default().blob(Some(10));
    let server = Server::with(RegistryOptions::default().limits(limits)).await;
    let response = server.put(&format!("/v1/images/{}/json", "0".repeat(64)), vec![b' '; 11]).await;
    assert_eq!(response.status(), 413);
}
