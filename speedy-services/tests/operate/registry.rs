use std::time::{Duration, Instant};

use super::serve::{Serve, ask, header, send};

/// It listens at once, so it answers at once: clients try again, and load balancers look elsewhere.
#[test]
fn a_registry_without_metadata_refuses_until_it_is_there() {
    // A port that nobody listens on, while it is held here.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let meta = held.local_addr().unwrap().to_string();
    drop(held);
    let registry = Serve::start_role("registry", &["--meta", &meta, "--image", &meta]);
    let began = Instant::now();
    let answer = ask(&registry.listen, "GET /v2/a/manifests/latest");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(header(&answer, "retry-after").parse::<u64>().is_ok(), "{answer}");
    let push =
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let answer = send(&registry.listen, push);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let lacks = ask(&registry.admin, "GET /readyz");
    assert!(lacks.starts_with("HTTP/1.1 503") && lacks.contains("the metadata store"), "{lacks}");
}
