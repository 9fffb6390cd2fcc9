//! Checksums: what they are, and what becomes of an image whose checksum is wrong.

use futures_util::{StreamExt, TryStreamExt, stream};
use proptest::prelude::*;
use speedy_core::blob::{Body, body_of};

use super::super::sums::{Sums, summed};
use super::docker::tarsum;
use super::*;

async fn sums(body: Body, json: &str, budget: &Budget) -> Sums {
    let (body, sums) = summed(body, json.as_bytes(), budget);
    body.try_collect::<Vec<_>>().await.unwrap();
    let sums = sums.lock().take();
    sums.expect("the body has ended")
}

async fn tarsum_of(layer: &[u8], json: &str) -> Result<String, String> {
    let sums = sums(body_of(layer.to_vec()), json, &Budget::default()).await;
    sums.tarsum.map(|digest| format!("tarsum+{digest}"))
}

fn header_of(name: &str, size: u64, edit: impl Fn(&mut ::tar::Header)) -> Vec<u8> {
    let mut header = ::tar::Header::new_ustar();
    header.set_path_absolute(name).unwrap();
    header.set_size(size);
    header.set_mtime(0);
    edit(&mut header);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// The two sums that Docker's own tests have for tars which can be made here.
#[tokio::test]
async fn the_known_sums_come_out() {
    // A megabyte of zeros, its type written as Go wrote it, and no end after it.
    let mut zeros = header_of("/testdata0", 1 << 20, |header| {
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.as_mut_bytes()[156] = 0;
    });
    zeros.resize(512 + (1 << 20), 0);
    let expected = "tarsum+sha256:8bf12d7e67c51ee2e8306cba569398b1b9f419969521a12ffb9d8875e8836738";
    assert_eq!(tarsum_of(&zeros, "").await.as_deref(), Ok(expected));
    assert_eq!(tarsum_of(&gzip(&zeros), "").await.as_deref(), Ok(expected));

    // Extended attributes are not summed.
    let attributes = b"30 SCHILY.xattr.user.NOT=CALC\n";
    let mut file = header_of("PaxHeaders.0/xattrs.txt", 30, |header| header.as_mut_bytes()[156] = b'x');
    file.extend_from_slice(attributes);
    file.resize(1024, 0);
    file.extend(header_of("xattrs.txt", 4, |header| {
        header.set_mode(0);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_username("slartibartfast").unwrap();
        header.set_groupname("users").unwrap();
        header.as_mut_bytes()[156] = b'0';
    }));
    file.extend_from_slice(b"test");
    file.resize(512 * 6, 0);
    let expected = "tarsum+sha256:c12bb6f1303a9ddbf4576c52da74973c00d14c109bcfa76b708d5da1154a07fa";
    assert_eq!(tarsum_of(&file, "").await.as_deref(), Ok(expected));

    // An empty tar has the sum of the JSON.
    let expected = format!("tarsum+{}", Digest::sha256(b"{}"));
    assert_eq!(tarsum_of(&[0; 1024], "{}").await.as_ref(), Ok(&expected));
    assert_eq!(tarsum_of(b"", "{}").await.as_ref(), Ok(&expected));
}

#[tokio::test]
async fn long_names_and_extended_headers_are_read() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let tar = tar_of(&[(&long, b"content"), ("short", b"")]);
    assert_eq!(tarsum_of(&tar, "j").await, Ok(tarsum("j", &tar)));

    let mut builder = ::tar::Builder::new(Vec::new());
    let fields: [(&str, &[u8]); 4] = [
        ("path", b"pax/na\xc3\xafve"),
        ("uid", b"3000000"),
        ("mtime", b"1350244992.023960108"),
        ("uname", b"me"),
    ];
    builder.append_pax_extensions(fields).unwrap();
    let mut header = ::tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(7);
    header.set_mtime(5);
    header.set_path("plain").unwrap();
    header.set_cksum();
    builder.append(&header, &b"abc"[..]).unwrap();
    let tar = builder.into_inner().unwrap();
    assert_eq!(tarsum_of(&tar, "j").await, Ok(tarsum("j", &tar)));
    assert_ne!(tarsum_of(&tar, "j").await, tarsum_of(&tar, "k").await);
}

#[tokio::test]
async fn the_order_of_entries_does_not_matter_and_all_else_does() {
    let (one, two) = (tar_of(&[("a", b"1"), ("b", b"2")]), tar_of(&[("b", b"2"), ("a", b"1")]));
    assert_eq!(tarsum_of(&one, "").await, tarsum_of(&two, "").await);
    for other in
        [tar_of(&[("a", b"1"), ("b", b"3")]), tar_of(&[("a", b"1"), ("c", b"2")]), tar_of(&[("a", b"1")])]
    {
        assert_ne!(tarsum_of(&one, "").await, tarsum_of(&other, "").await);
    }
}

#[tokio::test]
async fn what_is_no_tar_has_no_sum_and_says_why() {
    let tar = tar_of(&[("file", &noise(1, 5000))]);
    let mut damaged = tar.clone();
    damaged[10] ^= 1;
    let mut broken = gzip(&tar);
    let length = broken.len();
    broken[length / 2] ^= 0xff;
    let sparse = header_of("s", 0, |header| header.as_mut_bytes()[156] = b'S');
    let huge = header_of("x", 1 << 30, |header| header.as_mut_bytes()[156] = b'x');
    // Headers that extend an entry which never comes: a gigabyte of them is a megabyte of gzip.
    let path = format!("65536 path={}\n", "p".repeat(65_536 - 12));
    let one = [&header_of("x", 65_536, |header| header.as_mut_bytes()[156] = b'x'), path.as_bytes()].concat();
    let forever = gzip(&one.repeat(100));
    for (layer, reason) in [
        (b"no tar at all, but long enough to be looked at as one".repeat(20), "no tar"),
        (b"short".to_vec(), "in the middle"),
        (damaged, "header is damaged"),
        (tar[..700].to_vec(), "in the middle"),
        (gzip(&tar)[..length - 2000].to_vec(), "compression is damaged"),
        (sparse, "sparse"),
        (huge, "extended headers of an entry have"),
        (forever, "extended headers of an entry have"),
    ] {
        let error = tarsum_of(&layer, "").await.unwrap_err();
        assert!(error.contains(reason), "{error} / {reason}");
    }
    // Damage that unpacks all the same is damage of what is in it.
    assert_ne!(tarsum_of(&broken, "").await, tarsum_of(&tar, "").await);
    // What follows the end of the tar does not count.
    let followed = [&tar[..], b"rubbish"].concat();
    assert_eq!(tarsum_of(&followed, "").await, tarsum_of(&tar, "").await);
}

/// Long names and extended headers wait for their entry in memory, and are counted as soon as they are more than usual.
#[tokio::test]
async fn extended_headers_are_counted_in_the_budget() {
    let record =
        |length: usize| format!("{length} path={}\n", "p".repeat(length - 7 - length.to_string().len()));
    let extended = |length: usize| {
        let header = header_of("x", length as u64, |header| header.as_mut_bytes()[156] = b'x');
        let mut tar = [&header[..], record(length).as_bytes()].concat();
        tar.resize(tar.len().next_multiple_of(512), 0);
        [tar, header_of("file", 0, |_| {})].concat()
    };
    let budget = Budget::new(200_000);
    for (length, fits) in [(10_000, true), (100_000, true), (300_000, false), (1_000, true)] {
        let found = sums(body_of(extended(length).repeat(3)), "", &budget).await.tarsum;
        assert_eq!(found.is_ok(), fits, "{length}: {found:?}");
        assert_eq!(budget.available(), budget.total());
    }
}

#[tokio::test]
async fn sums_are_counted_in_the_budget() {
    let names: Vec<String> = (0..3000).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let tar = tar_of(&files);
    let budget = Budget::new(1 << 20);
    assert!(sums(body_of(tar.clone()), "", &budget).await.tarsum.is_ok());
    assert_eq!(budget.available(), budget.total());
    let _held = budget.reserve((1 << 20) - 100_000).await;
    let spent = sums(body_of(tar.clone()), "", &budget).await;
    assert!(spent.tarsum.unwrap_err().contains("memory"));
    assert_eq!(
        spent.payload,
        Digest::sha256(&[b"\n", &tar[..]].concat()),
        "the other one is made all the same"
    );
}

#[tokio::test]
async fn a_wrong_checksum_is_refused() {
    let server = Server::start().await;
    let image = &LocalImage::chain(1, 1)[0];
    let path = format!("/v1/images/{}", image.id);
    let put = |headers: &[(&'static str, String)]| {
        let mut put = server.request(Method::PUT, &format!("{path}/checksum"));
        for (name, value) in headers {
            put = put.header(*name, value);
        }
        async move { put.send().await.unwrap() }
    };
    let (tar, payload) = ("x-docker-checksum", "x-docker-checksum-payload");
    let wrong = Digest::sha256(b"other").to_string();
    assert_eq!(error(put(&[(tar, image.tarsum())]).await).await, (404, "Image not found".into()));
    assert_eq!(server.put(&format!("{path}/json"), image.json.clone()).await.status(), 200);
    assert_eq!(error(put(&[(tar, image.tarsum())]).await).await.0, 400);
    assert_eq!(error(server.get(&format!("{path}/json")).await).await.0, 400, "it is being uploaded");
    assert_eq!(server.put(&format!("{path}/layer"), image.layer.clone()).await.status(), 200);
    for headers in [
        vec![(payload, wrong.clone())],
        vec![(tar, wrong.clone())],
        vec![(tar, format!("tarsum+{wrong}"))],
        vec![(tar, image.tarsum()), (payload, wrong.clone())],
        vec![(tar, format!("tarsum+{wrong}")), (payload, image.payload())],
    ] {
        assert_eq!(error(put(&headers).await).await, (400, "Checksum mismatch".into()), "{headers:?}");
    }
    for headers in [vec![], vec![(tar, String::new())]] {
        assert_eq!(error(put(&headers).await).await, (400, "Missing Image's checksum".into()));
    }
    assert_eq!(error(put(&[(tar, "tarsum.v1+sha256:00".into())]).await).await.0, 400);
    assert_eq!(error(put(&[(payload, "rubbish".into())]).await).await.0, 400);
    assert_eq!(
        error(server.get(&format!("{path}/ancestry")).await).await.0,
        400,
        "it is still being uploaded"
    );
    let tag = server.put("/v1/repositories/a/b/tags/t", format!("\"{}\"", image.id)).await;
    assert_eq!(error(tag).await, (400, "Image is being uploaded, retry later".into()));

    // The tarsum alone, as the oldest clients have it; then the same once more, and another one.
    assert_eq!(put(&[(tar, image.tarsum())]).await.status(), 200);
    assert_eq!(put(&[(payload, image.payload())]).await.status(), 200);
    assert_eq!(error(put(&[(payload, wrong)]).await).await, (409, "Cannot set this image checksum".into()));
    assert_eq!(server.json(&format!("{path}/ancestry")).await, json!([image.id]));
    // A complete image never changes.
    let again = server.put(&format!("{path}/json"), image.json.clone()).await;
    assert_eq!(error(again).await, (409, "Image already exists".into()));
    assert_eq!(server.put(&format!("{path}/layer"), image.layer.clone()).await.status(), 200);
    let other = server.put(&format!("{path}/layer"), "other bytes").await;
    assert_eq!(error(other).await, (409, "Image already exists".into()));
    assert_eq!(server.get(&format!("{path}/layer")).await.bytes().await.unwrap(), image.layer);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a layer is cut into runs, and whether it is compressed, its sums are the same.
    #[test]
    fn cuts_do_not_matter(
        files in prop::collection::vec(("[a-z]{1,120}", 0usize..3000), 0..12),
        cuts in prop::collection::vec(1usize..900, 1..20),
        packed: bool,
    ) {
        let contents: Vec<Vec<u8>> = files.iter().map(|(_, length)| noise(3, *length)).collect();
        let files: Vec<(&str, &[u8])> =
            files.iter().zip(&contents).map(|((name, _), content)| (name.as_str(), &content[..])).collect();
        let tar = tar_of(&files);
        let layer = if packed { gzip(&tar) } else { tar.clone() };
        let mut runs = Vec::new();
        let mut rest = &layer[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (run, after) = rest.split_at((*cut).min(rest.len()));
            runs.push(Ok(bytes::Bytes::copy_from_slice(run)));
            rest = after;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(sums(stream::iter(runs).boxed(), "json", &Budget::default()));
        prop_assert_eq!(found.payload, Digest::sha256(&[b"json\n", &layer[..]].concat()));
        prop_assert_eq!(found.tarsum.map(|sum| format!("tarsum+{sum}")), Ok(tarsum("json", &tar)));
    }

    /// Any bytes at all are read to an end.
    #[test]
    fn no_layer_is_too_odd(
        mut layer in prop::collection::vec(any::<u8>(), 0..3000),
        kind in 0..3,
        at in 0usize..2000,
        byte: u8,
    ) {
        match kind {
            0 => {}
            1 => layer = gzip(&layer),
            _ => {
                layer = tar_of(&[("some-file", &layer), ("other", b"x")]);
                let at = at % layer.len();
                layer[at] = byte;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(sums(body_of(layer.clone()), "", &Budget::default()));
        prop_assert_eq!(found.payload, Digest::sha256(&[b"\n", &layer[..]].concat()));
    }
}
