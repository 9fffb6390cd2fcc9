//! Layers: ranges, what is in them, and uploads that break off.

use std::time::Duration;

use super::*;

async fn with_image(tar: &[u8]) -> (Server, LocalImage) {
    let server = Server::start().await;
    let image = LocalImage::new(1, None, tar);
    assert_eq!(Docker::new(&[&server]).push("a/b", "latest", std::slice::from_ref(&image)).await, 1);
    (server, image)
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on() {
    let (server, image) = with_image(&tar_of(&[("file", &noise(1, 5000))])).await;
    let path = format!("/v1/images/{}/layer", image.id);
    let size = image.layer.len();
    for (range, part) in
        [("bytes=100-199", 100..200), ("bytes=4000-", 4000..size), ("bytes=-10", size - 10..size)]
    {
        let answer = server.request(Method::GET, &path).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), 206, "{range}");
        let expected = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(header(&answer, "content-range"), expected);
        assert_eq!(answer.bytes().await.unwrap(), image.layer[part]);
    }
    let beyond =
        server.request(Method::GET, &path).header("range", format!("bytes={size}-")).send().await.unwrap();
    assert_eq!(header(&beyond, "content-range"), format!("bytes */{size}"));
    assert_eq!(error(beyond).await.0, 416);
    let head = server.send(Method::HEAD, &path).await;
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, &*size.to_string()));
}

#[tokio::test]
async fn files_and_changes_are_read_from_the_layers() {
    let base = LocalImage::new(
        1,
        None,
        &tar_of(&[("./", b""), ("./etc/", b""), ("./etc/a", b"1"), ("./gone", b"2")]),
    );
    let second = LocalImage::new(2, Some(&base), &tar_of(&[("etc/.wh.b", b""), ("x/", b"")]));
    let top =
        tar_of(&[("etc/a", b"new"), (".wh.gone", b""), ("etc/b", b"3"), ("y", b""), (".wh..wh.plnk/1", b"")]);
    let third = LocalImage::new(3, Some(&second), &top);
    let server = Server::start().await;
    let chain = [base, second, third];
    Docker::new(&[&server]).push("a/b", "latest", &chain).await;

    let files = server.json(&format!("/v1/images/{}/files", chain[0].id)).await;
    let names: Vec<&str> = files.as_array().unwrap().iter().map(|file| file[0].as_str().unwrap()).collect();
    assert_eq!(names, ["/", "/etc", "/etc/a", "/gone"]);
    assert_eq!(files[2], json!(["/etc/a", "f", false, 1, 1_423_526_400, 0o644, 0, 0]));
    assert_eq!(files[1][1], "d");
    let diff = server.json(&format!("/v1/images/{}/diff", chain[2].id)).await;
    let names =
        |side: &str| -> Vec<&str> { diff[side].as_object().unwrap().keys().map(String::as_str).collect() };
    assert_eq!((names("deleted"), names("changed")), (vec!["/gone"], vec!["/etc/a"]));
    assert_eq!(names("created"), ["/.wh..wh.plnk/1", "/etc/b", "/y"]);
    assert_eq!(diff["changed"]["/etc/a"], json!(["f", false, 3, 1_423_526_400, 0o644, 0, 0]));
    for part in ["files", "diff"] {
        assert_eq!(
            server.send(Method::HEAD, &format!("/v1/images/{}/{part}", chain[2].id)).await.status(),
            200
        );
    }
    assert_eq!(server.blobs.budget().available(), server.blobs.budget().total());
}

#[tokio::test]
async fn a_list_of_many_files_is_whole() {
    let names: Vec<String> = (0..5000).map(|number| format!("directory/file-{number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let (server, image) = with_image(&tar_of(&files)).await;
    let listed = server.json(&format!("/v1/images/{}/files", image.id)).await;
    let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|file| file[0].as_str().unwrap()).collect();
    assert_eq!(listed, names.iter().map(|name| format!("/{name}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_layer_and_one_that_is_no_tar() {
    let server = Server::start().await;
    for (seed, layer) in [(1, &b""[..]), (2, b"this is no tar, but a layer all the same")] {
        let image = LocalImage { layer: layer.to_vec(), ..LocalImage::new(seed, None, b"") };
        let path = format!("/v1/images/{}", image.id);
        assert_eq!(server.put(&format!("{path}/json"), image.json.clone()).await.status(), 200);
        assert_eq!(server.put(&format!("{path}/layer"), layer).await.status(), 200);
        let put = server.request(Method::PUT, &format!("{path}/checksum"));
        let put = put.header("x-docker-checksum-payload", image.payload());
        assert_eq!(put.send().await.unwrap().status(), 200);
        let answer = server.get(&format!("{path}/layer")).await;
        assert_eq!((answer.status().as_u16(), &answer.bytes().await.unwrap()[..]), (200, layer));
        let files = server.get(&format!("{path}/files")).await;
        if layer.is_empty() {
            assert_eq!(files.json::<Value>().await.unwrap(), json!([]));
        } else {
            let (status, text) = error(files).await;
            assert!(status == 400 && text.starts_with("Layer format not supported"), "{text}");
            assert_eq!(error(server.get(&format!("{path}/diff")).await).await.0, 400);
        }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_or_stalls_leaves_nothing() {
    let options = RegistryOptions::default().body_idle(Duration::from_millis(300));
    let server = Server::with(options).await;
    let image = &LocalImage::chain(1, 1)[0];
    let path = format!("/v1/images/{}", image.id);
    assert_eq!(server.put(&format!("{path}/json"), image.json.clone()).await.status(), 200);
    let head = format!("PUT {path}/layer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let stalled = server.raw(format!("{head}5\r\nhello\r\n").as_bytes()).await;
    assert!(stalled.starts_with("HTTP/1.1 408 "), "{stalled}");
    assert!(stalled.contains(r#"{"error":"no byte of the body came"#), "{stalled}");
    let broken = server.raw(format!("{head}zz\r\n").as_bytes()).await;
    assert!(broken.starts_with("HTTP/1.1 400 "), "{broken}");
    let mut gone = TcpStream::connect(server.address).await.unwrap();
    gone.write_all(format!("{head}5\r\nhello\r\n").as_bytes()).await.unwrap();
    drop(gone);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((server.keys("f/").await, server.keys("d/").await), (0, 0));
    assert_eq!(server.blobs.budget().available(), server.blobs.budget().total());
    // The push goes on where it broke off.
    assert_eq!(Docker::new(&[&server]).push("a/b", "latest", std::slice::from_ref(image)).await, 1);
}

#[tokio::test]
async fn another_json_takes_the_layer_away() {
    let server = Server::start().await;
    let chain = LocalImage::chain(1, 2);
    let path = format!("/v1/images/{}", chain[0].id);
    assert_eq!(server.put(&format!("{path}/json"), chain[0].json.clone()).await.status(), 200);
    assert_eq!(server.put(&format!("{path}/layer"), chain[0].layer.clone()).await.status(), 200);
    assert_eq!(server.put(&format!("{path}/layer"), "another one").await.status(), 200);
    assert_eq!(server.keys("f/").await, 1, "the layer before is let go of");
    assert_eq!(server.put(&format!("{path}/json"), format!(" {}", chain[0].json)).await.status(), 200);
    assert_eq!(server.keys("f/").await, 0);
    let put = server.request(Method::PUT, &format!("{path}/checksum"));
    let put = put.header("x-docker-checksum-payload", chain[0].payload());
    assert_eq!(error(put.send().await.unwrap()).await.0, 400, "its checksum was of the other JSON");

    // With an image on top its place is fixed.
    assert_eq!(
        server.put(&format!("/v1/images/{}/json", chain[1].id), chain[1].json.clone()).await.status(),
        200
    );
    let again = server.put(&format!("{path}/json"), chain[0].json.clone()).await;
    assert_eq!(error(again).await.0, 409);
    let same = server.put(&format!("{path}/json"), format!(" {}", chain[0].json)).await;
    assert_eq!(same.status(), 200);
}

#[tokio::test]
async fn an_upload_that_an_operator_gives_up_is_a_conflict() {
    let server = Server::start().await;
    let image = LocalImage::new(1, None, &tar_of(&[("file", &noise(1, 60_000))]));
    let path = format!("/v1/images/{}", image.id);
    assert_eq!(server.put(&format!("{path}/json"), image.json.clone()).await.status(), 200);
    let (runs, body) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(body));
    let put = tokio::spawn(server.request(Method::PUT, &format!("{path}/layer")).body(body).send());
    runs.send(Ok(image.layer[..30_000].to_vec().into())).await.unwrap();
    let upload = loop {
        let uploads = server.blobs.uploads(None, 10).await.unwrap();
        if let Some(upload) = uploads.iter().find(|upload| upload.offset > 0) {
            break upload.id;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(server.blobs.abort_upload(upload).await.unwrap().is_some());
    // Where the answer comes before the rest, the rest has nowhere to go.
    let _ = runs.send(Ok(image.layer[30_000..].to_vec().into())).await;
    drop(runs);
    let refused = error(put.await.unwrap().unwrap()).await;
    assert_eq!(refused, (409, "this upload was given up meanwhile; send the layer again".into()));
}
