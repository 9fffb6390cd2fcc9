use serde_json::Value;

use super::serve::{Serve, header, send};
use super::{printed, speedy};

/// Begins an upload, and answers its id.
fn begin(serve: &Serve, repository: &str, content: &str) -> String {
    let location = header(&serve.ask(&format!("POST /v2/{repository}/blobs/uploads/")), "location");
    let length = content.len();
    let head =
        format!("PATCH {location} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}");
    let answer = send(&serve.listen, &format!("{head}\r\n\r\n{content}"));
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    location.rsplit_once('/').unwrap().1.to_owned()
}

#[test]
fn they_are_listed_and_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &[]);
    let tool = |words: &[&str]| speedy(&[&["uploads"], words, &["--admin", &serve.admin]].concat());
    assert_eq!(printed(&tool(&["list"]), 0), "no uploads\n");

    let first = begin(&serve, "team/app", "12345");
    let second = begin(&serve, "team/app", "");
    let third = begin(&serve, "other", "1");
    let listed: Value = serde_json::from_str(&printed(&tool(&["list", "--json"]), 0)).unwrap();
    let listed = listed.as_array().unwrap();
    let of = |id: &str| listed.iter().find(|upload| upload["id"] == id).unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!((&of(&first)["repository"], &of(&first)["bytes"]), (&"team/app".into(), &5.into()));
    assert!(of(&first)["age_seconds"].as_u64().unwrap() < 60);
    assert_eq!((&of(&second)["bytes"], &of(&third)["repository"]), (&0.into(), &"other".into()));
    let table = printed(&tool(&["list", "--repository", "other"]), 0);
    assert!(table.contains(&third) && !table.contains(&first) && table.contains("1 B"), "{table}");
    assert_eq!(printed(&tool(&["list", "--idle", "1h"]), 0), "no uploads\n");

    let told = printed(&tool(&["abort", &first]), 0);
    assert!(
        told.contains("team/app  given up, 5 B are freed") && told.contains("1 upload given up"),
        "{told}"
    );
    let gone = serve.ask(&format!("GET /v2/team/app/blobs/uploads/{first}"));
    assert!(gone.starts_with("HTTP/1.1 404 ") && gone.contains("BLOB_UPLOAD_UNKNOWN"), "{gone}");
    assert!(printed(&tool(&["abort", &first]), 3).contains("there is no such upload"));
    assert!(printed(&tool(&["abort", "--repository", "team/app"]), 0).contains("1 upload given up"));
    let left = printed(&tool(&["list"]), 0);
    assert!(left.contains(&third) && !left.contains(&second), "{left}");
}
