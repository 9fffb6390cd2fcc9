//! Requests that no good client sends: the right error, and nothing kept.

use super::*;

#[tokio::test]
async fn bad_requests_are_refused_and_leave_nothing() {
    let server = Server::start().await;
    let (id, other) = ("ab".repeat(32), "cd".repeat(32));
    let image = |part: &str| format!("/v1/images/{id}/{part}");
    let json = |extra: &str| format!("{{\"id\":\"{id}\"{extra}}}");
    let long_json = json(&format!(",\"x\":\"{}\"", "x".repeat(97 << 10)));
    let list = |entry: &str| format!("[{entry}]");
    let long_checksum = list(&format!("{{\"id\":\"{id}\",\"checksum\":\"{}\"}}", "c".repeat(257)));
    let get = |path: &str| (Method::GET, path.to_owned(), String::new());
    let put = |path: &str, body: &str| (Method::PUT, path.to_owned(), body.to_owned());
    let delete = |path: &str| (Method::DELETE, path.to_owned(), String::new());
    let table: Vec<((Method, String, String), u16, &str)> = vec![
        // Paths and methods.
        (get("/v1/"), 404, "endpoint"),
        (get("/v1/other"), 404, "endpoint"),
        (get("/v1/repositories/a/b"), 405, "PUT, DELETE"),
        (get("/v1/repositories/a/b/"), 405, "PUT, DELETE"),
        (put("/v1/search", ""), 405, "GET"),
        (put("/v1/_ping", ""), 405, "GET"),
        (delete(&image("json")), 405, "GET"),
        (delete("/v1/users/"), 405, "GET"),
        (put(&image("ancestry"), "[]"), 405, "GET"),
        (put("/v1/repositories/a/b/tags", "{}"), 405, "GET"),
        (get(&image("checksum")), 405, "PUT"),
        (get("/v1/images/%ff/json"), 400, "UTF-8"),
        // Names.
        (get("/v1/repositories/UPPER/tags"), 400, "repository name"),
        (get("/v1/repositories//tags"), 400, "empty"),
        (get("/v1/repositories/a%2F..%2Fb/tags"), 400, "repository name"),
        (get("/v1/repositories/a%00/tags"), 400, "repository name"),
        (get(&format!("/v1/repositories/{}/images", "a".repeat(250))), 400, "255"),
        (put("/v1/repositories/a_/", "[]"), 400, "repository name"),
        (delete("/v1/repositories/a//b/"), 400, "repository name"),
        (put("/v1/repositories/", "[]"), 400, "empty"),
        // What is not there.
        (get("/v1/repositories/a/b/images"), 404, "images not found"),
        (get("/v1/repositories/a/b/tags"), 404, "Repository not found"),
        (get("/v1/repositories/a/b/tags/t"), 404, "Tag not found"),
        (get("/v1/repositories/a/b/tags/.bad"), 404, "Tag not found"),
        (delete("/v1/repositories/a/b/tags/t"), 404, "Tag not found: t"),
        (delete("/v1/repositories/a/b/tags/.bad"), 404, "Tag not found"),
        (delete("/v1/repositories/a/b/tags"), 404, "Repository not found"),
        (delete("/v1/repositories/a/b/"), 404, "Repository not found"),
        (get(&image("json")), 404, "Image not found"),
        (get(&image("layer")), 404, "Image not found"),
        (get(&image("ancestry")), 404, "Image not found"),
        (get(&image("files")), 404, "Image not found"),
        (get(&image("diff")), 404, "Image not found"),
        (put(&image("layer"), "layer"), 404, "Image not found"),
        (get("/v1/images/short/json"), 404, "Image not found"),
        (get(&format!("/v1/images/{}/layer", id.to_uppercase())), 404, "Image not found"),
        // Ids in a PUT.
        (put("/v1/images/short/json", "{}"), 400, "64 lower-case"),
        (put(&format!("/v1/images/{}/json", id.to_uppercase()), "{}"), 400, "64 lower-case"),
        (put(&format!("/v1/images/{id}0/layer"), "x"), 400, "64 lower-case"),
        // The JSON of an image.
        (put(&image("json"), ""), 400, "Invalid JSON"),
        (put(&image("json"), "no json"), 400, "Invalid JSON"),
        (put(&image("json"), "[]"), 400, "Invalid JSON"),
        (put(&image("json"), "null"), 400, "Invalid JSON"),
        (put(&image("json"), &json("")[..20]), 400, "Invalid JSON"),
        (put(&image("json"), &"[".repeat(90_000)), 400, "Invalid JSON"),
        (put(&image("json"), &json(&format!(",\"x\":{}", "[".repeat(1000)))), 400, "Invalid JSON"),
        (put(&image("json"), "{}"), 400, "Missing key"),
        (put(&image("json"), "{\"id\":null}"), 400, "invalid id"),
        (put(&image("json"), &format!("{{\"id\":\"{other}\"}}")), 400, "invalid id"),
        (put(&image("json"), &json(&format!(",\"parent\":\"{other}\""))), 400, "non existing parent"),
        (put(&image("json"), &json(&format!(",\"parent\":\"{id}\""))), 400, "non existing parent"),
        (put(&image("json"), &json(",\"parent\":\"x\"")), 400, "non existing parent"),
        (put(&image("json"), &json(",\"parent\":7")), 400, "invalid parent"),
        (put(&image("json"), &long_json), 413, "98304"),
        // Lists.
        (put("/v1/repositories/a/b/", ""), 400, "Error Decoding JSON"),
        (put("/v1/repositories/a/b/", "{}"), 400, "Invalid data"),
        (put("/v1/repositories/a/b/", "\"x\""), 400, "Invalid data"),
        (put("/v1/repositories/a/b/", "[7]"), 400, "Invalid data"),
        (put("/v1/repositories/a/b/", "[{}]"), 400, "Invalid data"),
        (put("/v1/repositories/a/b/", &list(&format!("[\"{id}\",null]"))), 400, "Invalid data"),
        (put("/v1/repositories/a/b/", &list("{\"id\":7}")), 400, "Invalid data"),
        (put("/v1/repositories/a/b/", &list("{\"id\":\"x\"}")), 400, "64 lower-case"),
        (
            put("/v1/repositories/a/b/images", &list(&format!("{{\"id\":\"{id}\",\"checksum\":7}}"))),
            400,
            "Invalid data",
        ),
        (put("/v1/repositories/a/b/images", &long_checksum), 400, "256"),
        (put("/v1/repositories/a/b/images", &" ".repeat((4 << 20) + 1)), 413, "4194304"),
        // Tags.
        (put("/v1/repositories/a/b/tags/.bad", &format!("\"{id}\"")), 400, "tag"),
        (put(&format!("/v1/repositories/a/b/tags/{}", "t".repeat(129)), &format!("\"{id}\"")), 400, "tag"),
        (put("/v1/repositories/a/b/tags/t", ""), 400, "Invalid data"),
        (put("/v1/repositories/a/b/tags/t", &id), 400, "Invalid data"),
        (put("/v1/repositories/a/b/tags/t", &format!("[\"{id}\"]")), 400, "Invalid data"),
        (put("/v1/repositories/a/b/tags/t", "\"x\""), 404, "Image not found"),
        (put("/v1/repositories/a/b/tags/t", &format!("\"{id}\"")), 404, "Image not found"),
        (put("/v1/repositories/a/b/tags/t", &" ".repeat(5000)), 413, "4096"),
        // Properties and users.
        (put("/v1/repositories/a/b/properties", ""), 400, "Invalid data"),
        (put("/v1/repositories/a/b/properties", "[]"), 400, "Invalid data"),
        (put("/v1/repositories/a/b/properties", "{}"), 400, "Invalid data"),
        (put("/v1/repositories/a/b/properties", "{\"access\":\"secret\"}"), 400, "Invalid data"),
        ((Method::POST, "/v1/users/".into(), "no json".into()), 400, "Error Decoding JSON"),
        ((Method::POST, "/v1/users".into(), " ".repeat(70_000)), 413, "65536"),
        // Checksums without an image, and of none.
        (put(&image("checksum"), ""), 400, "Missing Image's checksum"),
        (get("/v1/search?q=a&n=x"), 400, "not a number"),
    ];
    for ((method, path, body), status, words) in table {
        let answer = server.request(method.clone(), &path).body(body.clone()).send().await.unwrap();
        assert_eq!(header(&answer, "allow").is_empty(), status != 405, "{path}");
        let (found, text) = error(answer).await;
        assert_eq!(found, status, "{method} {path} {body:.80}: {text}");
        assert!(text.contains(words), "{method} {path} {body:.80}: {text}");
    }
    assert_eq!((server.keys("V/").await, server.keys("f/").await), (0, 0));
    assert_eq!(server.blobs.budget().available(), server.blobs.budget().total());
}

#[tokio::test]
async fn requests_that_no_library_sends() {
    let server = Server::start().await;
    let id = "ab".repeat(32);
    for (request, status) in [
        ("GET /v1/../v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 404),
        ("GET /v1/repositories/../../etc/passwd/tags HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".into(), 400),
        ("PUT /v1/repositories/a/b/ HTTP/1.0\r\ncontent-length: 2\r\n\r\n[]".into(), 400),
        ("PUT /v1/repositories/a/b/ HTTP/1.1\r\nhost: a/b\"\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]".into(), 400),
        (format!("PUT /v1/images/{id}/json HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"), 413),
        (format!("PUT /v1/images/{id}/json HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n"), 400),
    ] {
        let answer = server.raw(request.as_bytes()).await;
        assert!(answer.contains(&format!(" {status} ")), "{request}\n{answer}");
    }
    assert_eq!(server.keys("V/").await, 0);
}

#[tokio::test]
async fn images_are_built_on_so_many_others_and_no_more() {
    let server = Server::start().await;
    let id = |number: usize| Digest::sha256(&number.to_be_bytes()).hex();
    let mut last = 200;
    for number in 0..=1001 {
        let parent = if number == 0 { String::new() } else { id(number - 1) };
        let json = format!("{{\"id\":\"{}\",\"parent\":\"{parent}\"}}", id(number));
        last = server.put(&format!("/v1/images/{}/json", id(number)), json).await.status().as_u16();
        assert!(last == 200 || number == 1001, "{number}");
    }
    assert_eq!(last, 400);
}

#[tokio::test]
async fn a_list_longer_than_a_transaction_is_taken_whole() {
    let server = Server::start().await;
    let ids: Vec<String> = (0..333u32).map(|number| Digest::sha256(&number.to_be_bytes()).hex()).collect();
    // Twice in a row, as for several tags: the checksum of either counts.
    let list = |checksum: Option<&str>| -> Value {
        let image = |id: &String| json!({ "id": id, "checksum": checksum });
        ids.iter().map(image).chain(ids.iter().map(|id| json!({ "id": id, "Tag": "t" }))).collect()
    };
    for checksum in [None, Some("sha256:00"), None] {
        assert_eq!(server.put("/v1/repositories/a/b/", list(checksum).to_string()).await.status(), 200);
    }
    let listed = server.json("/v1/repositories/a/b/images").await;
    assert_eq!(listed.as_array().unwrap().len(), 333);
    assert!(listed.as_array().unwrap().iter().all(|image| image["checksum"] == "sha256:00"), "it is kept");
    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/b/images").await.status(), 204);
    assert_eq!(server.json("/v1/repositories/a/b/images").await, json!([]));
    assert_eq!(server.send(Method::DELETE, "/v1/repositories/a/b/").await.status(), 200);
    assert_eq!(server.keys("V/").await, 0);
}
