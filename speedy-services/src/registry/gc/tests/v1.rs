//! A client of Docker Registry v1, over the routes that a real one takes, for the tests of what becomes of its images.

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::registry::{Registry, RegistryOptions, router};

/// An image as the client has it.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) id: String,
    pub(super) parent: Option<usize>,
    pub(super) json: String,
    pub(super) layer: Bytes,
}

/// Images that are built on each other as these numbers say: each on the one with that number, or on none. Some have the
/// same layer.
pub(super) fn family(parents: &[Option<usize>]) -> Vec<Local> {
    let mut all: Vec<Local> = Vec::new();
    for (number, parent) in parents.iter().enumerate() {
        let id = Digest::sha256(&number.to_be_bytes()).to_string().split_off("sha256:".len());
        let json = match parent {
            Some(parent) => json!({ "id": id, "parent": all[*parent].id }),
            None => json!({ "id": id }),
        };
        let layer = content(500 + number as u64 % 3, 900 + 400 * (number % 3));
        all.push(Local { id, parent: *parent, json: json.to_string(), layer });
    }
    all
}

/// The numbers of an image and of all that it is built on, the lowest first.
pub(super) fn chain(family: &[Local], of: usize) -> Vec<usize> {
    let mut chain: Vec<usize> = std::iter::successors(Some(of), |at| family[*at].parent).collect();
    chain.reverse();
    chain
}

#[derive(Clone, Debug)]
pub(super) struct Docker(Router);

impl Docker {
    pub(super) fn of(node: &Node) -> Self {
        Self(router(Registry::new(node.blobs().clone(), RegistryOptions::default())))
    }

    pub(super) async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, Bytes) {
        self.send_with(method, path, body, None).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Body>,
        header: Option<(&str, String)>,
    ) -> (u16, Bytes) {
        let mut request = Request::builder().method(method).uri(path).header("host", "registry.test");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = self.0.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        // A download that breaks off has no end.
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        (status, body)
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Bytes) {
        self.send(Method::GET, path, Body::empty()).await
    }

    /// Tells what is going to be pushed, or was.
    pub(super) async fn announce(&self, name: &str, images: &[&Local], part: &str) -> u16 {
        let list: Vec<_> = images.iter().map(|image| json!({ "id": image.id })).collect();
        let list = serde_json::Value::from(list).to_string();
        self.send(Method::PUT, &format!("/v1/repositories/{name}/{part}"), list).await.0
    }

    /// Asks for an image: 200 where it is complete.
    pub(super) async fn ask(&self, image: &Local) -> u16 {
        self.get(&format!("/v1/images/{}/json", image.id)).await.0
    }

    pub(super) async fn put_json(&self, image: &Local) -> u16 {
        self.send(Method::PUT, &format!("/v1/images/{}/json", image.id), image.json.clone()).await.0
    }

    pub(super) async fn put_layer(&self, image: &Local, body: impl Into<Body>) -> u16 {
        self.send(Method::PUT, &format!("/v1/images/{}/layer", image.id), body).await.0
    }

    pub(super) async fn put_checksum(&self, image: &Local) -> u16 {
        let payload = Digest::sha256(&[image.json.as_bytes(), b"\n", &image.layer].concat()).to_string();
        let path = format!("/v1/images/{}/checksum", image.id);
        self.send_with(Method::PUT, &path, "", Some(("x-docker-checksum-payload", payload))).await.0
    }

    /// Pushes an image that is not there; the first status that is not well, if any.
    pub(super) async fn push_image(&self, image: &Local) -> Result<(), (&'static str, u16)> {
        let fine = |what, status| if status == 200 { Ok(()) } else { Err((what, status)) };
        match self.put_json(image).await {
            // Another client was faster.
            409 => return Ok(()),
            status => fine("json", status)?,
        }
        loop {
            match self.put_layer(image, image.layer.clone()).await {
                200 => break,
                409 => return Ok(()),
                // The blob of these bytes died just now. It can't again: it is new then.
                503 => {}
                status => fine("layer", status)?,
            }
        }
        fine("checksum", self.put_checksum(image).await)
    }

    pub(super) async fn tag(&self, name: &str, tag: &str, image: &Local) -> u16 {
        let path = format!("/v1/repositories/{name}/tags/{tag}");
        self.send(Method::PUT, &path, format!("\"{}\"", image.id)).await.0
    }

    pub(super) async fn untag(&self, name: &str, tag: &str) -> u16 {
        self.send(Method::DELETE, &format!("/v1/repositories/{name}/tags/{tag}"), "").await.0
    }

    /// The id that a tag points to.
    pub(super) async fn tagged(&self, name: &str, tag: &str) -> Option<String> {
        let (status, body) = self.get(&format!("/v1/repositories/{name}/tags/{tag}")).await;
        (status == 200).then(|| serde_json::from_slice(&body).unwrap())
    }

    /// Pulls an image with all that it is built on, and compares every byte.
    pub(super) async fn pull(&self, family: &[Local], of: usize) -> Result<(), String> {
        let mut ids: Vec<&str> = chain(family, of).iter().map(|at| family[*at].id.as_str()).collect();
        ids.reverse();
        let (status, body) = self.get(&format!("/v1/images/{}/ancestry", family[of].id)).await;
        if status != 200 {
            return Err(format!("ancestry: {status}"));
        }
        assert_eq!(serde_json::from_slice::<Vec<String>>(&body).unwrap(), ids);
        for at in chain(family, of) {
            let image = &family[at];
            let (status, json) = self.get(&format!("/v1/images/{}/json", image.id)).await;
            let (other, layer) = self.get(&format!("/v1/images/{}/layer", image.id)).await;
            if (status, other) != (200, 200) || layer.len() < image.layer.len() {
                return Err(format!("{at}: {status}, {other}, {} bytes", layer.len()));
            }
            assert_eq!((&json[..], &layer), (image.json.as_bytes(), &image.layer));
        }
        Ok(())
    }
}
