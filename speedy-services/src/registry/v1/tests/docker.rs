//! A client that does what Docker 1.5 did, in its order.

use std::collections::BTreeMap;
use std::io::Read;

use futures_util::stream;
use speedy_core::digest::{Algorithm, Hasher};

use super::*;

/// An image that the client has.
#[derive(Clone, Debug)]
pub(super) struct LocalImage {
    pub id: String,
    pub json: String,
    /// As it is sent: compressed.
    pub layer: Vec<u8>,
}

impl LocalImage {
    pub(super) fn new(seed: u8, parent: Option<&LocalImage>, tar: &[u8]) -> Self {
        let id = Digest::sha256(&[seed]).hex();
        let parent = parent.map(|parent| format!(r#""parent":"{}","#, parent.id)).unwrap_or_default();
        // Not as a library would write it: the bytes count.
        let json =
            format!("{{ {parent} \"id\":\"{id}\",\"created\":\"2015-02-10T00:00:00Z\" , \"n\":{seed}}}");
        Self { id, json, layer: gzip(tar) }
    }

    /// `n` images, each built on the one before.
    pub(super) fn chain(seed: u8, n: u8) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::new();
        for step in 0..n {
            let (name, content) = (format!("file-{step}"), noise(seed + step, 3000));
            let tar = tar_of(&[("etc/", b""), (&name, &content)]);
            chain.push(Self::new(seed + step, chain.last(), &tar));
        }
        chain
    }

    pub(super) fn payload(&self) -> String {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for part in [self.json.as_bytes(), b"\n", &self.layer] {
            hasher.update(part);
        }
        hasher.finish().to_string()
    }

    pub(super) fn tarsum(&self) -> String {
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&self.layer[..]).read_to_end(&mut tar).unwrap();
        tarsum(&self.json, &tar)
    }
}

/// TarSum version 0, by a library's reader of whole tars.
pub(super) fn tarsum(json: &str, tar: &[u8]) -> String {
    let mut sums = Vec::new();
    for entry in ::tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut pax: BTreeMap<String, String> = BTreeMap::new();
        if let Ok(Some(extensions)) = entry.pax_extensions() {
            for pair in extensions {
                let pair = pair.unwrap();
                pax.insert(pair.key().unwrap().to_owned(), pair.value().unwrap().to_owned());
            }
        }
        let of_pax = |key: &str, other: String| pax.get(key).cloned().unwrap_or(other);
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        let mtime = of_pax("mtime", header.mtime().unwrap().to_string());
        let mut summed = String::new();
        for (name, value) in [
            ("name", String::from_utf8(entry.path_bytes().into_owned()).unwrap()),
            ("mode", header.mode().unwrap().to_string()),
            ("uid", of_pax("uid", header.uid().unwrap().to_string())),
            ("gid", of_pax("gid", header.gid().unwrap().to_string())),
            ("size", entry.size().to_string()),
            ("mtime", mtime.split('.').next().unwrap().to_owned()),
            ("typeflag", char::from(header.as_bytes()[156]).to_string()),
            ("linkname", text(entry.link_name_bytes().as_deref())),
            ("uname", of_pax("uname", text(header.username_bytes()))),
            ("gname", of_pax("gname", text(header.groupname_bytes()))),
            ("devmajor", "0".to_owned()),
            ("devminor", "0".to_owned()),
        ] {
            summed += name;
            summed += &value;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        sums.push(Digest::sha256(&[summed.as_bytes(), &content].concat()).hex());
    }
    sums.sort();
    format!("tarsum+{}", Digest::sha256(format!("{json}{}", sums.concat()).as_bytes()))
}

/// The client, which speaks to one registry after the other: every call goes to the next of them.
pub(super) struct Docker<'a> {
    servers: Vec<&'a Server>,
    calls: std::cell::Cell<usize>,
    token: std::cell::RefCell<String>,
}

impl<'a> Docker<'a> {
    pub(super) fn new(servers: &[&'a Server]) -> Self {
        Self { servers: servers.to_vec(), calls: Default::default(), token: Default::default() }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let call = self.calls.replace(self.calls.get() + 1);
        let request = self.servers[call % self.servers.len()].request(method, path);
        let agent = "docker/1.5.0 go/go1.3.3 git-commit/a8a31ef kernel/3.13.0 os/linux arch/amd64";
        let request = request.header("user-agent", agent);
        match self.token.borrow().as_str() {
            "" => request,
            token => request.header("authorization", format!("Token {token}")),
        }
    }

    async fn ping(&self) {
        let pinged = self.call(Method::GET, "/v1/_ping").send().await.unwrap();
        assert_eq!(pinged.status(), 200);
        assert_eq!(header(&pinged, "x-docker-registry-standalone"), "true");
        assert!(!header(&pinged, "x-docker-registry-version").is_empty());
        let body: Value = pinged.json().await.unwrap();
        assert_eq!(body["standalone"], true);
    }

    /// The repository's list before and after a push.
    async fn announce(&self, path: &str, images: &Value) -> Response {
        let put = self.call(Method::PUT, path).header("x-docker-token", "true").json(images);
        put.send().await.unwrap()
    }

    /// Pushes the last image of a chain as `NAME:tag`, and answers how many layers it sent.
    pub(super) async fn push(&self, name: &str, tag: &str, chain: &[LocalImage]) -> usize {
        self.token.borrow_mut().clear();
        self.ping().await;
        assert_eq!(self.call(Method::GET, "/v1/users/").send().await.unwrap().status(), 200);
        let last = chain.last().unwrap();
        let announced = |image: &LocalImage| match image.id == last.id {
            true => json!({ "id": image.id, "Tag": tag }),
            false => json!({ "id": image.id }),
        };
        let list: Value = chain.iter().map(announced).collect();
        let answer = self.announce(&format!("/v1/repositories/{name}/"), &list).await;
        assert_eq!(answer.status(), 200);
        let token = header(&answer, "x-docker-token").to_owned();
        let full = if name.contains('/') { name.to_owned() } else { format!("library/{name}") };
        assert!(token.starts_with("Token signature="), "{token}");
        assert!(token.ends_with(&format!(",repository=\"{full}\",access=write")), "{token}");
        assert_eq!(header(&answer, "www-authenticate"), token);
        let endpoint = header(&answer, "x-docker-endpoints");
        assert!(self.servers.iter().any(|server| server.address.to_string() == endpoint), "{endpoint}");
        *self.token.borrow_mut() = token;

        let (mut sent, mut checksums) = (0, Vec::new());
        for image in chain {
            let path = format!("/v1/images/{}", image.id);
            let there = self.call(Method::GET, &format!("{path}/json")).send().await.unwrap().status();
            if there != 200 {
                sent += usize::from(self.push_image(&path, image).await);
                checksums.push(json!({ "id": image.id, "checksum": image.tarsum() }));
            }
            if image.id == last.id {
                let put = self.call(Method::PUT, &format!("/v1/repositories/{name}/tags/{tag}"));
                let put = put.header("content-type", "application/json").body(format!("\"{}\"", image.id));
                assert_eq!(put.send().await.unwrap().status(), 200);
            }
        }
        let answer =
            self.announce(&format!("/v1/repositories/{name}/images"), &Value::Array(checksums)).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.text().await.unwrap(), "");
        sent
    }

    /// Pushes an image that is not there; `false` where another client was faster.
    async fn push_image(&self, path: &str, image: &LocalImage) -> bool {
        let put = self.call(Method::PUT, &format!("{path}/json")).body(image.json.clone());
        let answer = put.header("content-type", "application/json").send().await.unwrap();
        if answer.status() != 200 {
            assert_eq!(error(answer).await, (409, "Image already exists".to_owned()));
            return false;
        }
        let runs: Vec<Result<Vec<u8>, std::io::Error>> =
            image.layer.chunks(700).map(|run| Ok(run.to_vec())).collect();
        let put = self
            .call(Method::PUT, &format!("{path}/layer"))
            .body(reqwest::Body::wrap_stream(stream::iter(runs)));
        assert_eq!(put.send().await.unwrap().status(), 200);
        let put = self.call(Method::PUT, &format!("{path}/checksum"));
        let put = put.header("x-docker-checksum", image.tarsum());
        let put = put.header("x-docker-checksum-payload", image.payload());
        assert_eq!(put.send().await.unwrap().status(), 200);
        true
    }

    /// Pulls `NAME:tag`: JSON and layer of each image, the last one first.
    pub(super) async fn pull(&self, name: &str, tag: &str) -> Vec<(String, Vec<u8>)> {
        self.token.borrow_mut().clear();
        self.ping().await;
        let get = self.call(Method::GET, &format!("/v1/repositories/{name}/images"));
        let answer = get.header("x-docker-token", "true").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let token = header(&answer, "x-docker-token").to_owned();
        assert!(token.ends_with("access=read"), "{token}");
        let list: Value = answer.json().await.unwrap();
        let listed = |id: &str| list.as_array().unwrap().iter().any(|image| image["id"] == id);
        *self.token.borrow_mut() = token;
        let tags = self.call(Method::GET, &format!("/v1/repositories/{name}/tags")).send().await.unwrap();
        let tags: BTreeMap<String, String> = tags.json().await.unwrap();
        let id = &tags[tag];
        assert!(listed(id));
        let ancestry = self.call(Method::GET, &format!("/v1/images/{id}/ancestry")).send().await.unwrap();
        assert_eq!(ancestry.status(), 200);
        let ancestry: Vec<String> = ancestry.json().await.unwrap();
        assert_eq!(ancestry[0], *id);
        let mut images = Vec::new();
        for id in ancestry {
            assert!(listed(&id));
            let answer = self.call(Method::GET, &format!("/v1/images/{id}/json")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let size: usize = header(&answer, "x-docker-size").parse().unwrap();
            let json = answer.text().await.unwrap();
            let answer = self.call(Method::GET, &format!("/v1/images/{id}/layer")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(header(&answer, "accept-ranges"), "bytes");
            let layer = answer.bytes().await.unwrap().to_vec();
            assert_eq!(layer.len(), size);
            images.push((json, layer));
        }
        images
    }
}
