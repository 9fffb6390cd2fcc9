use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn a_session_goes_on_in_chunks() {
    let server = Server::start().await;
    let content = pattern(5500);
    let digest = Digest::sha256(&content);
    let begun = server.send(Method::POST, "/v2/a/blobs/uploads/").await;
    let location = header(&begun, "location").to_owned();
    assert_eq!(header(&begun, "range"), "0-0");
    assert!(location.ends_with(header(&begun, "docker-upload-uuid")), "{location}");

    for (range, bytes) in [("0-1999", 0..2000), ("bytes 2000-2000/*", 2000..2001), ("2001-3999", 2001..4000)]
    {
        let end = bytes.end - 1;
        let request = server.request(Method::PATCH, &location).header("content-range", range);
        let response = request.body(content[bytes].to_vec()).send().await.unwrap();
        assert_eq!(response.status(), 202, "{range}");
        assert_eq!(header(&response, "range"), format!("0-{end}"));
        assert_eq!(header(&response, "location"), location);
    }
    let status = server.get(&location).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3999"));

    // A gap, an overlap, in a chunk and in the last one: nothing of it is taken.
    for (method, range, bytes) in [
        (Method::PATCH, "5000-5499", 5000..5500),
        (Method::PATCH, "3000-4999", 3000..5000),
        (Method::PUT, "5000-5499", 5000..5500),
    ] {
        let path = format!("{location}?digest={digest}");
        let request = server.request(method, &path).header("content-range", range);
        let response = request.body(content[bytes].to_vec()).send().await.unwrap();
        assert_eq!(header(&response, "range"), "0-3999", "{range}");
        assert_eq!(header(&response, "location"), location);
        assert_eq!(error(response).await, code(416, "RANGE_INVALID"), "{range}");
    }
    let request = server.request(Method::PUT, &format!("{location}?digest={digest}"));
    let last =
        request.header("content-range", "4000-5499").body(content[4000..].to_vec()).send().await.unwrap();
    assert_eq!(last.status(), 201);
    assert_eq!(header(&last, "location"), format!("/v2/a/blobs/{digest}"));
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap(), content);
    assert_eq!(error(server.get(&location).await).await, code(404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn a_whole_blob_comes_in_one_request_or_in_two() {
    let server = Server::start().await;
    for (number, content) in [pattern(0), pattern(10), pattern(9999)].into_iter().enumerate() {
        let digest = Digest::sha256(&content);
        let path = format!("/v2/one-{number}/blobs/uploads/?digest={digest}");
        let one = server.request(Method::POST, &path).body(content.clone()).send().await.unwrap();
        assert_eq!(one.status(), 201);
        assert_eq!(header(&one, "location"), format!("/v2/one-{number}/blobs/{digest}"));

        let location = server.begin("two").await;
        let put = server.request(Method::PUT, &format!("{location}?digest={digest}")).body(content.clone());
        assert_eq!(put.send().await.unwrap().status(), 201);
        for name in [format!("one-{number}"), "two".to_owned()] {
            let got = server.get(&format!("/v2/{name}/blobs/{digest}")).await;
            assert_eq!(got.bytes().await.unwrap(), content);
        }
    }
}

#[tokio::test]
async fn a_stream_of_unknown_length_is_taken() {
    let server = Server::start().await;
    let content = pattern(7777);
    let runs = content.chunks(100).map(|run| Ok(Bytes::copy_from_slice(run))).collect();
    let location = server.begin("a").await;
    let response = server.request(Method::PATCH, &location).body(chunked(runs)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-7776"));
    let digest = Digest::sha256(&content);
    assert_eq!(server.send(Method::PUT, &format!("{location}?digest={digest}")).await.status(), 201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn another_registry_takes_an_upload_up() {
    let server = Server::start().await;
    let content = pattern(6000);
    let location = server.begin("a").await;
    let patch = server.request(Method::PATCH, &location).body(content[..2500].to_vec()).send().await.unwrap();
    assert_eq!(patch.status(), 202);
    let other = server.sibling().await;
    let status = other.get(&location).await;
    assert_eq!(header(&status, "range"), "0-2499");
    let digest = Digest::sha256(&content);
    let put = other.request(Method::PUT, &format!("{location}?digest={digest}"));
    assert_eq!(put.body(content[2500..].to_vec()).send().await.unwrap().status(), 201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_kept_and_gone_on_with() {
    let server = Server::start().await;
    let content = pattern(6000);
    let location = server.begin("a").await;
    // Less than was announced, and then the client is gone.
    let mut request =
        format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 6000\r\n\r\n").into_bytes();
    request.extend_from_slice(&content[..3500]);
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    connection.write_all(&request).await.unwrap();
    connection.shutdown().await.unwrap();
    drop(connection);

    let mut held = String::new();
    for _ in 0..200 {
        held = header(&server.get(&location).await, "range").to_owned();
        if held == "0-3499" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(held, "0-3499");
    let digest = Digest::sha256(&content);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
    let put = server.request(Method::PUT, &format!("{location}?digest={digest}"));
    let rest = put.header("content-range", "3500-5999").body(content[3500..].to_vec()).send().await.unwrap();
    assert_eq!(rest.status(), 201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn a_body_that_rests_too_long_is_given_up() {
    let idle = RegistryOptions::default().body_idle(Duration::from_millis(200));
    let server = Server::with(idle).await;
    let location = server.begin("a").await;
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhello");
    let answer = server.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(header(&server.get(&location).await, "range"), "0-4");
}

#[tokio::test]
async fn of_two_writers_one_is_told_and_nothing_is_torn() {
    let server = Server::start().await;
    for round in 0..10u8 {
        let location = server.begin("a").await;
        let contents: Vec<Vec<u8>> = (0..4).map(|writer| vec![round * 4 + writer; 2500]).collect();
        let patches = contents.iter().map(|content| {
            let runs = content.chunks(50).map(|run| Ok(Bytes::copy_from_slice(run))).collect();
            server
                .request(Method::PATCH, &location)
                .header("content-range", "0-2499")
                .body(chunked(runs))
                .send()
        });
        let mut won = Vec::new();
        for (response, content) in join_all(patches).await.into_iter().zip(&contents) {
            let response = response.unwrap();
            match response.status().as_u16() {
                202 => won.push(content),
                409 => assert_eq!(error(response).await, code(409, "BLOB_UPLOAD_INVALID")),
                // One that came after another had ended.
                _ => assert_eq!(error(response).await, code(416, "RANGE_INVALID")),
            }
        }
        let [winner] = won[..] else { panic!("{} writers won", won.len()) };
        let digest = Digest::sha256(winner);
        assert_eq!(server.send(Method::PUT, &format!("{location}?digest={digest}")).await.status(), 201);
        assert_eq!(
            &server.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap()[..],
            &winner[..]
        );
    }
}

#[tokio::test]
async fn a_finish_whose_answer_was_lost_can_be_repeated() {
    let server = Server::start().await;
    let location = server.begin("a").await;
    let digest = Digest::sha256(b"content");
    let path = format!("{location}?digest={digest}");
    for _ in 0..2 {
        let response = server.request(Method::PUT, &path).body("content").send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "location"), format!("/v2/a/blobs/{digest}"));
    }
}

#[tokio::test]
async fn a_cancelled_session_is_gone() {
    let server = Server::start().await;
    let location = server.begin("a").await;
    server.request(Method::PATCH, &location).body("bytes").send().await.unwrap();
    assert_eq!(server.send(Method::DELETE, &location).await.status(), 204);
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        let response = server.send(method.clone(), &location).await;
        assert_eq!(error(response).await, code(404, "BLOB_UPLOAD_UNKNOWN"), "{method}");
    }
    assert_eq!(server.keys("u/").await, 0);
}

#[tokio::test]
async fn a_session_that_an_operator_gives_up_is_unknown_to_who_writes_to_it() {
    for method in [Method::PATCH, Method::PUT] {
        let server = Server::start().await;
        let location = server.begin("a").await;
        let id = location.rsplit_once('/').unwrap().1.parse().unwrap();
        let (runs, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(body));
        let query = if method == Method::PUT {
            format!("?digest={}", Digest::sha256(&pattern(40_000)))
        } else {
            String::new()
        };
        let request = server.request(method.clone(), &format!("{location}{query}")).body(body).send();
        let request = tokio::spawn(request);
        // A row of 16 fragments and some that no row names yet.
        runs.send(Ok(Bytes::from(pattern(20_000)))).await.unwrap();
        while header(&server.get(&location).await, "range") == "0-0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(server.blobs.abort_upload(id).await.unwrap().is_some());
        // Where the answer comes before the rest, the rest has nowhere to go.
        let _ = runs.send(Ok(Bytes::from(pattern(40_000).split_off(20_000)))).await;
        drop(runs);
        let refused = request.await.unwrap().unwrap();
        assert_eq!((header(&refused, "location"), header(&refused, "range")), ("", ""), "{method}");
        assert_eq!(error(refused).await, code(404, "BLOB_UPLOAD_UNKNOWN"), "{method}");
        assert_eq!(server.get(&location).await.status(), 404);
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    let server = Server::start().await;
    let location = server.begin("a").await;
    let elsewhere = location.replacen("/v2/a/", "/v2/b/", 1);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        assert_eq!(error(server.send(method, &elsewhere).await).await, code(404, "BLOB_UPLOAD_UNKNOWN"));
    }
    assert_eq!(server.get(&location).await.status(), 204);
}
