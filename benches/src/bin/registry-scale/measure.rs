//! What is asked, and how long the answers take.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hyper::{Method, StatusCode};
use serde_json::Value;
use speedy_benches::client::Connection;
use speedy_benches::server::Server;
use speedy_core::digest::Digest;

use crate::content::{Content, MORE_TAGS, mixed};

/// Entries of a page.
const PAGE: u64 = 100;

/// A kind of request. One client, one connection, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Catalog(Part),
    Tags(Part),
    Manifest,
    Blob,
    Delete,
    SearchOne,
    SearchAll,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    First,
    Middle,
    Last,
}

impl Row {
    pub(crate) const ALL: [Self; 11] = [
        Self::Catalog(Part::First),
        Self::Catalog(Part::Middle),
        Self::Catalog(Part::Last),
        Self::Tags(Part::First),
        Self::Tags(Part::Middle),
        Self::Tags(Part::Last),
        Self::Manifest,
        Self::Blob,
        Self::Delete,
        Self::SearchOne,
        Self::SearchAll,
    ];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Catalog(Part::First) => "catalog, 100 names, first page",
            Self::Catalog(Part::Middle) => "catalog, 100 names, in the middle",
            Self::Catalog(Part::Last) => "catalog, 100 names, last page",
            Self::Tags(Part::First) => "100 tags, first page",
            Self::Tags(Part::Middle) => "100 tags, in the middle",
            Self::Tags(Part::Last) => "100 tags, last page",
            Self::Manifest => "GET of a manifest by its tag",
            Self::Blob => "HEAD of a blob",
            Self::Delete => "DELETE of a manifest by digest",
            Self::SearchOne => "search, one name matches",
            Self::SearchAll => "search, all names match",
        }
    }

    /// Of a number of requests for most rows, how many this one gets: some take long, and a manifest is deleted once.
    pub(crate) fn requests(self, requests: u64) -> u64 {
        match self {
            Self::Delete | Self::SearchAll => requests.div_ceil(4),
            _ => requests,
        }
    }
}

/// One store under measurement.
#[derive(Debug)]
pub(crate) struct Subject {
    content: Content,
    /// The images that are deleted, in their order, and how many of them are.
    doomed: Vec<u64>,
    deleted: usize,
    /// All of them: they are not asked for.
    gone: HashSet<u64>,
    asked: u64,
    /// Milliseconds of each request, by row.
    pub taken: Vec<Vec<f64>>,
    pub started: Vec<f64>,
    pub memory_at_start: Vec<f64>,
    pub memory_at_peak: Vec<f64>,
}

impl Subject {
    /// A store from which `before` manifests are gone, and `deletes` will go.
    pub(crate) fn new(content: Content, before: u64, deletes: u64) -> Result<Self> {
        let first = content.images_each();
        let images = content.tags - first;
        ensure!(
            before + deletes <= images / 2,
            "of {images} manifests {before} are deleted, and {deletes} more would be more than half"
        );
        // Each far from the one before, and none twice.
        let step = (images * 5 / 8..).find(|&step| shared_divisor(step, images) == 1);
        let step = step.context("there is a step")?;
        let order: Vec<u64> = (0..before + deletes).map(|number| first + number * step % images).collect();
        let gone = order.iter().copied().collect();
        let doomed = order.into_iter().skip(before as usize).collect();
        let taken = vec![Vec::new(); Row::ALL.len()];
        let (started, memory_at_start, memory_at_peak) = <_>::default();
        Ok(Self {
            content,
            doomed,
            deleted: 0,
            gone,
            asked: 0,
            taken,
            started,
            memory_at_start,
            memory_at_peak,
        })
    }

    /// One round over a server that has just started.
    pub(crate) async fn round(&mut self, server: &Server, requests: u64, counted: bool) -> Result<()> {
        let (started, memory) = (server.started(), server.memory());
        let mut connection = Connection::open(server.address()).await?;
        for (number, row) in Row::ALL.into_iter().enumerate() {
            let mut taken = Vec::new();
            for _ in 0..row.requests(requests) {
                let (method, path, status) = self.request(row);
                let began = Instant::now();
                let body = connection.ask(method, &path, status).await.context(row.text())?;
                taken.push(began.elapsed().as_secs_f64() * 1e3);
                self.check(row, &body)?;
            }
            if counted {
                self.taken[number].append(&mut taken);
            }
        }
        if counted {
            self.started.push(started.as_secs_f64());
            self.memory_at_start.push(memory as f64 / (1 << 20) as f64);
            self.memory_at_peak.push(server.take_peak_memory() as f64 / (1 << 20) as f64);
        }
        Ok(())
    }

    fn request(&mut self, row: Row) -> (Method, String, StatusCode) {
        let content = self.content;
        let path = match row {
            Row::Catalog(part) => {
                let last = position(part, content.repositories).map(|at| content.name(at));
                format!("/v2/_catalog?n={PAGE}{}", last.map_or(String::new(), |last| format!("&last={last}")))
            }
            Row::Tags(part) => {
                let last = position(part, content.images_each() + MORE_TAGS).map(|at| content.tag(at));
                let last = last.map_or(String::new(), |last| format!("&last={last}"));
                format!("/v2/{}/tags/list?n={PAGE}{last}", content.name(0))
            }
            Row::Manifest => {
                let image = self.another_image();
                format!("/v2/{}/manifests/{}", content.name_of(image), content.tag_of(image))
            }
            Row::Blob => {
                let image = self.another_image();
                let blob = image * content.blobs_each() + mixed(image) % content.blobs_each();
                let path = format!("/v2/{}/blobs/{}", content.name_of(image), content.blob(blob).digest);
                return (Method::HEAD, path, StatusCode::OK);
            }
            Row::Delete => {
                let image = self.doomed[self.deleted];
                self.deleted += 1;
                let digest = Digest::sha256(&content.manifest(image));
                let path = format!("/v2/{}/manifests/{digest}", content.name_of(image));
                return (Method::DELETE, path, StatusCode::ACCEPTED);
            }
            Row::SearchOne => "/v1/search?q=app-0000042".to_owned(),
            Row::SearchAll => "/v1/search?q=app-".to_owned(),
        };
        (Method::GET, path, StatusCode::OK)
    }

    /// An image that is never deleted, anywhere among them.
    fn another_image(&mut self) -> u64 {
        let first = self.content.images_each();
        loop {
            self.asked += 1;
            let image = first + mixed(self.asked) % (self.content.tags - first);
            if !self.gone.contains(&image) {
                return image;
            }
        }
    }

    /// Sees that an answer holds what it should.
    fn check(&self, row: Row, body: &[u8]) -> Result<()> {
        let list = |member: &str| -> Result<usize> {
            let value: Value = serde_json::from_slice(body)?;
            Ok(value[member].as_array().map_or(0, Vec::len))
        };
        let full = PAGE as usize;
        let is_right = match row {
            // The store that counts as empty has one page of names: there is nothing after the last but one.
            Row::Catalog(part) => list("repositories")? == position_page(part, self.content.repositories),
            Row::Tags(_) => list("tags")? == full,
            Row::SearchOne => list("results")? == 1,
            Row::SearchAll => list("results")? == 25,
            Row::Manifest => body.len() > 100,
            Row::Blob | Row::Delete => true,
        };
        ensure!(is_right, "{}: {}", row.text(), String::from_utf8_lossy(body));
        Ok(())
    }
}

fn shared_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { shared_divisor(b, a % b) }
}

/// The entry before a page of a list of `all`; none before the first.
fn position(part: Part, all: u64) -> Option<u64> {
    match part {
        Part::First => None,
        _ if all <= PAGE => None,
        Part::Middle => Some(all / 2),
        Part::Last => Some(all - PAGE - 1),
    }
}

/// How many entries such a page has.
fn position_page(part: Part, all: u64) -> usize {
    let left = all - position(part, all).map_or(0, |before| before + 1);
    left.min(PAGE) as usize
}
