//! `If-Match` and `If-None-Match` on reads and on changes.

use super::*;

async fn conditional(server: &Server, method: Method, path: &str, header: (&str, &str)) -> Response {
    let request = server.request(method, path).header(header.0, header.1);
    request.header("content-type", OCI_MANIFEST).send().await.unwrap()
}

#[tokio::test]
async fn a_tag_moves_only_from_what_the_client_says() {
    let server = Server::start().await;
    let first = server.push_image("a", "t", b"one").await;
    let second = server.image("a", b"two").await;
    let (path, of_first) = ("/v2/a/manifests/t", format!("\"{first}\""));
    let put = |name: &'static str, value: String| {
        let request = server.request(Method::PUT, path).header("content-type", OCI_MANIFEST);
        request.header(name, value).body(second.clone()).send()
    };
    for (name, value) in [
        ("if-match", format!("\"{}\"", Digest::sha256(b"x"))),
        ("if-match", format!("W/{of_first}")),
        ("if-none-match", "*".to_owned()),
        ("if-none-match", of_first.clone()),
    ] {
        let refused = put(name, value.clone()).await.unwrap();
        assert_eq!(error(refused).await, code(412, "PRECONDITION_FAILED"), "{name}: {value}");
        assert_eq!(header(&server.get(path).await, "etag"), of_first, "{name}: {value}");
    }
    assert_eq!(put("if-match", of_first.clone()).await.unwrap().status(), 201);
    // It has been moved: whoever did not see that does not undo it.
    assert_eq!(put("if-match", of_first.clone()).await.unwrap().status(), 412);
    let new = server.request(Method::PUT, "/v2/a/manifests/new").header("content-type", OCI_MANIFEST);
    assert_eq!(new.header("if-match", "*").body(second.clone()).send().await.unwrap().status(), 412);
    let new = server.request(Method::PUT, "/v2/a/manifests/new").header("content-type", OCI_MANIFEST);
    assert_eq!(new.header("if-none-match", "*").body(second.clone()).send().await.unwrap().status(), 201);

    let by_digest = format!("/v2/a/manifests/{}", Digest::sha256(second.as_bytes()));
    let put = |value: &'static str| {
        let request = server.request(Method::PUT, &by_digest).header("content-type", OCI_MANIFEST);
        request.header("if-none-match", value).body(second.clone()).send()
    };
    assert_eq!(put("*").await.unwrap().status(), 412);
    assert_eq!(put("\"x\"").await.unwrap().status(), 201);
}

#[tokio::test]
async fn of_many_that_create_a_tag_one_does() {
    let server = Server::start().await;
    let manifests = futures_util::future::join_all((0..8).map(|number: u8| server.image_of(number))).await;
    let puts = manifests.iter().map(|manifest| {
        let request = server.request(Method::PUT, "/v2/a/manifests/t").header("content-type", OCI_MANIFEST);
        request.header("if-none-match", "*").body(manifest.clone()).send()
    });
    let answers = futures_util::future::join_all(puts).await;
    let mut statuses: Vec<u16> =
        answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn nothing_is_deleted_that_is_not_what_the_client_says() {
    let server = Server::start().await;
    let manifest = server.push_image("a", "t", b"one").await;
    let layer = Digest::sha256(b"one");
    for path in [
        "/v2/a/manifests/t".to_owned(),
        format!("/v2/a/manifests/{manifest}"),
        // Its manifest is gone by then, which held it.
        format!("/v2/a/blobs/{layer}"),
    ] {
        let other = format!("\"{}\"", Digest::sha256(b"x"));
        for header in [("if-match", &*other), ("if-none-match", "*")] {
            let refused = conditional(&server, Method::DELETE, &path, header).await;
            assert_eq!(refused.status(), 412, "{path} {header:?}");
        }
        assert_eq!(server.get(&path).await.status(), 200, "{path}");
        assert_eq!(
            conditional(&server, Method::DELETE, &path, ("if-match", "*")).await.status(),
            202,
            "{path}"
        );
        // Without them it would be 404, and so it is.
        assert_eq!(
            conditional(&server, Method::DELETE, &path, ("if-match", "*")).await.status(),
            404,
            "{path}"
        );
        assert_eq!(
            conditional(&server, Method::DELETE, &path, ("if-match", &other)).await.status(),
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_read_is_what_the_client_wants_or_has() {
    let server = Server::start().await;
    let manifest = server.push_image("a", "t", b"one").await;
    let layer = Digest::sha256(b"one");
    for (path, digest) in
        [("/v2/a/manifests/t".to_owned(), manifest), (format!("/v2/a/blobs/{layer}"), layer)]
    {
        let (own, other) = (format!("\"{digest}\""), format!("\"{}\"", Digest::sha256(b"x")));
        for (header, expected) in [
            (("if-match", &*own), 200),
            (("if-match", "*"), 200),
            (("if-match", &*other), 412),
            (("if-none-match", &*own), 304),
            (("if-none-match", &*other), 200),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let answer = conditional(&server, method, &path, header).await;
                assert_eq!(answer.status(), expected, "{path} {header:?}");
            }
        }
        // Several headers are one list.
        let twice = server.request(Method::GET, &path).header("if-none-match", &other);
        assert_eq!(twice.header("if-none-match", &own).send().await.unwrap().status(), 304, "{path}");
    }
    assert_eq!(conditional(&server, Method::GET, "/v2/a/manifests/x", ("if-match", "*")).await.status(), 404);
}
