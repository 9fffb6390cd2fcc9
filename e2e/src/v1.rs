//! A client of Docker Registry v1: the calls that Docker 1.5 made, in its order.

use anyhow::{Context, Result, ensure};
use reqwest::blocking::{Body, RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::check::same;
use crate::registry::Registry;

/// An image of one layer, on top of another or not.
#[derive(Debug, Clone)]
pub struct V1Image {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What the client sends as its JSON.
    pub json: String,
    /// The bytes of its layer.
    pub layer: Vec<u8>,
}

impl V1Image {
    /// An image of this layer, on top of `parent`.
    pub fn new(layer: Vec<u8>, parent: Option<&V1Image>) -> Self {
        let parent = parent.map_or("", |parent| parent.id.as_str());
        let id = hex::encode(Sha256::new().chain_update(&layer).chain_update(parent).finalize());
        let json = json!({ "id": id, "parent": parent, "created": "2015-02-10T00:00:00Z" }).to_string();
        Self { id, json, layer }
    }

    fn payload(&self) -> String {
        let sum =
            Sha256::new().chain_update(&self.json).chain_update("\n").chain_update(&self.layer).finalize();
        format!("sha256:{}", hex::encode(sum))
    }
}

/// Pushes the last of `images`, each built on the one before, as `NAME:tag`; every call goes to the next of the
/// registries. Gives how many layers were sent.
///
/// # Errors
/// When an answer is not what Docker goes on after.
pub fn push_v1(fronts: &[Registry], name: &str, tag: &str, images: &[V1Image]) -> Result<usize> {
    let mut calls = fronts.iter().cycle();
    let mut call = |method: Method, path: &str| -> Result<RequestBuilder> {
        let front = calls.next().context("there is no registry to ask")?;
        Ok(front.client().request(method, front.url(path)).header("x-docker-token", "true"))
    };
    let ping = expect(call(Method::GET, "/v1/_ping")?, StatusCode::OK)?;
    ensure!(ping.headers().contains_key("x-docker-registry-standalone"), "a ping without its header");
    let list: Value = images.iter().map(|image| json!({ "id": image.id })).collect();
    let put = call(Method::PUT, &format!("/v1/repositories/{name}/"))?.body(list.to_string());
    let begun = expect(put, StatusCode::OK)?;
    let endpoint = begun.headers().get("x-docker-endpoints").context("no X-Docker-Endpoints")?.to_str()?;
    ensure!(fronts.iter().any(|front| front.host() == endpoint), "the endpoint {endpoint} is nowhere");
    ensure!(begun.headers().contains_key("x-docker-token"), "no token");
    let (mut sent, mut checksums) = (0, Vec::new());
    for image in images {
        let path = format!("/v1/images/{}", image.id);
        if call(Method::GET, &format!("{path}/json"))?.send()?.status() != StatusCode::OK {
            expect(call(Method::PUT, &format!("{path}/json"))?.body(image.json.clone()), StatusCode::OK)?;
            // Chunked, since the length is not said.
            let layer = Body::new(std::io::Cursor::new(image.layer.clone()));
            expect(call(Method::PUT, &format!("{path}/layer"))?.body(layer), StatusCode::OK)?;
            let put = call(Method::PUT, &format!("{path}/checksum"))?;
            expect(put.header("x-docker-checksum-payload", image.payload()), StatusCode::OK)?;
            sent += 1;
        }
        checksums.push(json!({ "id": image.id, "checksum": image.payload() }));
    }
    let last = images.last().context("an image without layers")?;
    let put = call(Method::PUT, &format!("/v1/repositories/{name}/tags/{tag}"))?;
    expect(put.body(format!("\"{}\"", last.id)), StatusCode::OK)?;
    let put = call(Method::PUT, &format!("/v1/repositories/{name}/images"))?;
    expect(put.body(Value::Array(checksums).to_string()), StatusCode::NO_CONTENT)?;
    Ok(sent)
}

/// Pulls `NAME:tag` and compares every byte with `images`, of which it is the last.
///
/// # Errors
/// When something is missing or differs.
pub fn pull_v1(front: &Registry, name: &str, tag: &str, images: &[V1Image]) -> Result<()> {
    let get =
        |path: &str| -> Result<Response> { expect(front.client().get(front.url(path)), StatusCode::OK) };
    let listed: Value = get(&format!("/v1/repositories/{name}/images"))?.json()?;
    let tags: Value = get(&format!("/v1/repositories/{name}/tags"))?.json()?;
    let id = tags[tag].as_str().context("the tag is not there")?;
    let ancestry: Vec<String> = get(&format!("/v1/images/{id}/ancestry"))?.json()?;
    let expected: Vec<&str> = images.iter().rev().map(|image| image.id.as_str()).collect();
    same("the ancestry", &expected, &ancestry.iter().map(String::as_str).collect())?;
    for image in images {
        let entry =
            listed.as_array().and_then(|list| list.iter().find(|entry| entry["id"] == image.id.as_str()));
        ensure!(entry.is_some(), "{} is not listed", image.id);
        let json = get(&format!("/v1/images/{}/json", image.id))?.text()?;
        same("the JSON of an image", &image.json, &json)?;
        let layer = get(&format!("/v1/images/{}/layer", image.id))?.bytes()?;
        ensure!(layer[..] == image.layer[..], "the layer of {} has other bytes", image.id);
        let middle = image.layer.len() / 2;
        let range = front.client().get(front.url(&format!("/v1/images/{}/layer", image.id)));
        let range = range.header("range", format!("bytes={middle}-"));
        let part = expect(range, StatusCode::PARTIAL_CONTENT)?.bytes()?;
        ensure!(part[..] == image.layer[middle..], "half of the layer of {} has other bytes", image.id);
    }
    Ok(())
}

/// Removes a repository of v1.
///
/// # Errors
/// When it is not there.
pub fn delete_v1(front: &Registry, name: &str) -> Result<()> {
    expect(front.client().delete(front.url(&format!("/v1/repositories/{name}/"))), StatusCode::OK).map(drop)
}

fn expect(request: RequestBuilder, status: StatusCode) -> Result<Response> {
    let answer = request.send()?;
    let (found, url) = (answer.status(), answer.url().clone());
    if found == status {
        return Ok(answer);
    }
    anyhow::bail!("{url} answers {found} in place of {status}: {}", answer.text()?)
}
