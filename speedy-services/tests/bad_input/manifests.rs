//! JSON that is no manifest, and manifests of what is not there.

use super::case::{Case, Expected, with_body};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn case(name: &str, media_type: &str, body: impl AsRef<[u8]>, status: u16, code: &'static str) -> Case {
    let headers =
        if media_type.is_empty() { String::new() } else { format!("content-type: {media_type}\r\n") };
    let request = with_body("PUT /v2/kept/manifests/bad", &headers, body);
    Case::new(format!("manifest: {name}"), request, Expected::Error(status, code))
}

/// An image manifest with these members beside `schemaVersion`.
fn image(members: &str) -> String {
    format!("{{\"schemaVersion\":2,{members}}}")
}

fn descriptor(digest: &str, size: &str) -> String {
    format!("{{\"mediaType\":\"application/octet-stream\",\"digest\":{digest},\"size\":{size}}}")
}

pub(crate) fn cases() -> Vec<Case> {
    let quoted = format!("\"{DIGEST}\"");
    let config = format!("\"config\":{}", descriptor(&quoted, "0"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested =
        image(&format!("{config},\"annotations\":{}", "{\"a\":".repeat(500) + "1" + &"}".repeat(500)));
    let invalid =
        |name: &str, media_type: &str, body: &[u8]| case(name, media_type, body, 400, "MANIFEST_INVALID");
    let mut cases = Vec::new();
    for (name, body) in [
        ("nothing", ""),
        ("blank", "   \n"),
        ("no JSON", "no json"),
        ("a number", "1"),
        ("null", "null"),
        ("true", "true"),
        ("a text", "\"x\""),
        ("a list", "[]"),
        ("an empty object", "{}"),
        ("an object that is not closed", "{\"schemaVersion\":2"),
        ("more after the object", "{\"schemaVersion\":2}{}"),
        ("a comment", "{/* x */\"schemaVersion\":2}"),
        ("single quotes", "{'schemaVersion':2}"),
        ("a comma too many", "{\"schemaVersion\":2,}"),
        ("a NaN", "{\"schemaVersion\":NaN}"),
        ("a version twice", "{\"schemaVersion\":2,\"schemaVersion\":2}"),
        ("version 1", "{\"schemaVersion\":1,\"fsLayers\":[]}"),
        ("version 3", "{\"schemaVersion\":3}"),
        ("a negative version", "{\"schemaVersion\":-2}"),
        ("a version with a fraction", "{\"schemaVersion\":2.0}"),
        ("a huge version", "{\"schemaVersion\":99999999999999999999}"),
        ("a version as text", "{\"schemaVersion\":\"2\"}"),
        ("a lone surrogate", "{\"schemaVersion\":2,\"x\":\"\\ud800\"}"),
        ("a control character in a text", "{\"schemaVersion\":2,\"mediaType\":\"a\u{1}b\"}"),
    ] {
        cases.push(invalid(name, IMAGE, body.as_bytes()));
    }
    cases.push(invalid("100,000 lists in each other", IMAGE, deep.as_bytes()));
    cases.push(invalid("500 objects in each other", IMAGE, nested.as_bytes()));
    cases.push(invalid(
        "bytes that are no UTF-8",
        IMAGE,
        b"{\"schemaVersion\":2,\"mediaType\":\"\xff\xfe\"}",
    ));
    let unknown_member = [&b"{\"schemaVersion\":2,\"x\":\"\xff\","[..], config.as_bytes(), b"}"].concat();
    cases.push(invalid("no UTF-8 in an unknown member", IMAGE, &unknown_member));
    cases.push(invalid("a byte order mark", IMAGE, "\u{feff}{\"schemaVersion\":2}".as_bytes()));
    cases.push(invalid(
        "UTF-16",
        IMAGE,
        &"{\"schemaVersion\":2}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
    ));
    cases.push(invalid("NULs", IMAGE, &[0; 1000]));
    for (name, members) in [
        ("no config", "\"layers\":[]".to_owned()),
        ("a config that is a list", "\"config\":[]".to_owned()),
        ("a config that is null", "\"config\":null".to_owned()),
        ("a config without a digest", "\"config\":{\"mediaType\":\"x\",\"size\":0}".to_owned()),
        ("a config without a size", format!("\"config\":{{\"mediaType\":\"x\",\"digest\":{quoted}}}")),
        ("a digest that is short", format!("\"config\":{}", descriptor("\"sha256:abc\"", "0"))),
        ("a digest that is a number", format!("\"config\":{}", descriptor("7", "0"))),
        (
            "a digest of an unknown kind",
            format!("\"config\":{}", descriptor("\"md5:d41d8cd98f00b204e9800998ecf8427e\"", "0")),
        ),
        (
            "a digest with a path",
            format!("\"config\":{}", descriptor("\"sha256:../../../../etc/passwd\"", "0")),
        ),
        ("a negative size", format!("\"config\":{}", descriptor(&quoted, "-1"))),
        ("a size with a fraction", format!("\"config\":{}", descriptor(&quoted, "1.5"))),
        ("a size as text", format!("\"config\":{}", descriptor(&quoted, "\"0\""))),
        ("a size above 64 bits", format!("\"config\":{}", descriptor(&quoted, "18446744073709551616"))),
        ("layers that are an object", format!("{config},\"layers\":{{}}")),
        ("a layer that is null", format!("{config},\"layers\":[null]")),
        ("one digest with two sizes", format!("{config},\"layers\":[{}]", descriptor(&quoted, "7"))),
        ("manifests in an image", format!("{config},\"manifests\":[]")),
        ("layers in capitals", format!("{config},\"Layers\":[]")),
        ("layers twice, once in capitals", format!("{config},\"layers\":[],\"LAYERS\":[]")),
        ("layers with a long s", format!("{config},\"layer\u{17f}\":[]")),
        ("a subject in capitals", format!("{config},\"Subject\":null")),
        (
            "a digest in capitals",
            format!(
                "{config},\"layers\":[{{\"mediaType\":\"x\",\"digest\":{quoted},\"Digest\":{quoted},\"size\":0}}]"
            ),
        ),
        ("another media type inside", format!("{config},\"mediaType\":\"{INDEX}\"")),
        ("a media type that is a number", format!("{config},\"mediaType\":7")),
        ("a bad subject", format!("{config},\"subject\":{}", descriptor("\"x\"", "0"))),
        ("a subject that is a text", format!("{config},\"subject\":{quoted}")),
        ("an artifact type of 256 bytes", format!("{config},\"artifactType\":\"{}\"", "x".repeat(256))),
        ("an annotation that is a number", format!("{config},\"annotations\":{{\"a\":1}}")),
    ] {
        cases.push(invalid(name, IMAGE, image(&members).as_bytes()));
    }
    cases.push(invalid("an index with layers", INDEX, image("\"layers\":[]").as_bytes()));
    cases.push(invalid("an index with a bad entry", INDEX, image("\"manifests\":[{}]").as_bytes()));
    let fine = image(&config);
    cases.push(invalid("no type at all", "", fine.as_bytes()));
    for media_type in [
        "application/json",
        "text/html",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
        "*/*",
        ";",
        "application/vnd.oci.image.manifest.v1+json, application/json",
    ] {
        cases.push(invalid(&format!("Content-Type {media_type}"), media_type, fine.as_bytes()));
    }
    cases.push(case("a config that is not there", IMAGE, &fine, 400, "MANIFEST_BLOB_UNKNOWN"));
    let entry = format!("\"manifests\":[{}]", descriptor(&quoted, "0"));
    cases.push(case("an entry that is not there", INDEX, image(&entry), 400, "MANIFEST_BLOB_UNKNOWN"));
    cases.push(case("more than 4 MiB", IMAGE, vec![b' '; (4 << 20) + 1], 413, "SIZE_INVALID"));
    let request =
        with_body(&format!("PUT /v2/kept/manifests/{DIGEST}"), &format!("content-type: {IMAGE}\r\n"), &fine);
    cases.push(Case::new(
        "a manifest under another's digest",
        request,
        Expected::Error(400, "DIGEST_INVALID"),
    ));
    cases.push(Case::new(
        "chunks of a manifest that are none",
        format!(
            "PUT /v2/kept/manifests/bad HTTP/1.1\r\nhost: x\r\ncontent-type: {IMAGE}\r\n\
             transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"
        ),
        Expected::Error(400, "MANIFEST_INVALID"),
    ));
    let tags: String = (0..17).map(|tag| format!("&tag=t{tag}")).collect();
    let target = format!("PUT /v2/kept/manifests/{DIGEST}?x{tags}");
    let request = with_body(&target, &format!("content-type: {IMAGE}\r\n"), &fine);
    cases.push(Case::new("17 tags at once", request, Expected::Error(414, "TAG_INVALID")));
    cases
}
