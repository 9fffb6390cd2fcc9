//! Requests that are answered before their body has been read.

use std::time::Instant;

use super::*;

/// Writes a head and then bytes until they are all taken or the connection is cut, and reads beside, as clients do that
/// listen while they write. Gives what was read and how much was written.
pub(super) async fn told_while_writing(server: &Server, head: &str, bytes: usize) -> (String, usize) {
    let (mut read, mut write) = TcpStream::connect(server.address).await.unwrap().into_split();
    let writing = async {
        write.write_all(head.as_bytes()).await.unwrap();
        let mut written = 0;
        while written < bytes && write.write_all(&[b'x'; 65536]).await.is_ok() {
            written += 65536;
        }
        written
    };
    let reading = async {
        let mut told = Vec::new();
        // That the connection is cut in the end does not take away what came before.
        let _ = read.read_to_end(&mut told).await;
        String::from_utf8_lossy(&told).into_owned()
    };
    let both = async { tokio::join!(reading, writing) };
    tokio::time::timeout(Duration::from_secs(40), both).await.expect("the server ends it")
}

#[tokio::test]
async fn an_answer_does_not_wait_for_a_body_that_nobody_wants() {
    let server = Server::start().await;
    let unknown = format!("PATCH /v2/a/blobs/uploads/{}", "0".repeat(32));
    for (line, length, sent, status) in [
        ("PUT /v2/a/manifests/x", 99_999_999_999_u64, "{}", 413),
        ("PUT /v2/a/manifests/x", 99_999_999_999, "", 413),
        ("PUT /v2/A/manifests/x", 1_000_000, "{}", 400),
        (&*unknown, 1_000_000_000, "{}", 404),
        ("POST /v2/a/blobs/uploads/?digest=sha256:zz", 1_000_000_000, "{}", 400),
    ] {
        let begun = Instant::now();
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: {OCI_MANIFEST}\r\ncontent-length: {length}\r\n\r\n{sent}"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes(), "{line}");
        assert!(took < Duration::from_millis(1000), "{line}: answered after {took:?}");
        // Then the client has a while to hear of it, and no longer.
        let rest = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut answer)).await;
        rest.expect("the connection is closed").unwrap();
        let closes = String::from_utf8_lossy(&answer).contains("connection: close\r\n");
        assert_eq!(closes, length > 8 << 20, "{line}");
    }
}

#[tokio::test]
async fn a_client_that_writes_much_hears_the_answer_all_the_same() {
    let server = Server::start().await;
    let length = 300 << 20;
    let head = format!(
        "PATCH /v2/a/blobs/uploads/{} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n",
        "0".repeat(32)
    );
    let (told, written) = told_while_writing(&server, &head, length).await;
    assert!(told.starts_with("HTTP/1.1 404 ") && told.contains("BLOB_UPLOAD_UNKNOWN"), "{told}");
    assert!(written < 40 << 20, "{written} bytes were taken for nothing");
}

#[tokio::test]
async fn a_connection_goes_on_after_a_body_that_was_dropped() {
    let server = Server::start().await;
    let body = "x".repeat(1 << 20);
    let head =
        format!("POST /v2/A/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let last = "GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let told = server.raw(format!("{head}{body}{last}").as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("HTTP/1.1 200 "), "{told}");
}
