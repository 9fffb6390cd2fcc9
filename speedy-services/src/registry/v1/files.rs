//! What is in a layer, and what an image changes of those that it is built on. Both are read from the layers each time:
//! no client of Docker asks for them, people do.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use speedy_core::blob::{BlobError, BlobInfo, BlobReader};
use speedy_core::budget::{Budget, Reservation};
use speedy_core::request::carried;
use tokio::sync::mpsc;

use super::error::ApiError;
use super::images::Images;
use super::names::ImageId;
use super::tar::{Entry, LayerReader, Visit};
use super::{Call, empty, json as json_response};
use crate::registry::access::Action;

/// Bytes of a layer that are read at once: what they unpack to is held until it is sent.
const SLICE: usize = 16 * 1024;
/// Of those, so many are read before it is looked at how much came of them: they may unpack to a thousand times as much.
const PIECE: usize = 128;
/// What may come of a slice before it is told and the rest of it read, counted as in [`Files`].
const ENOUGH: usize = 128 * 1024;
/// The longest name that is told.
const MOST_NAME: usize = 64 * 1024;
/// What an entry of a diff is counted at beside its name: the map's place and the numbers.
const ENTRY_BYTES: u64 = 256;
/// Memory that a diff reserves at a time.
const RESERVE: u64 = 256 << 10;

/// A file of a layer: name, kind, whether it is deleted, size, mtime, mode, uid and gid, as the list says it.
struct File {
    name: String,
    deleted: bool,
    rest: Value,
}

impl File {
    /// The file that an entry is; `None` for what only union file systems see.
    fn of(entry: &Entry) -> Option<Self> {
        let text = String::from_utf8_lossy(&entry.name);
        let path = text.strip_prefix("./").unwrap_or(&text).trim_matches('/');
        let path = if path == "." { "" } else { path };
        let (directory, name) = path.rsplit_once('/').map_or(("", path), |(front, name)| (front, name));
        if name.starts_with(".wh..wh.") {
            return None;
        }
        let kept = name.strip_prefix(".wh.");
        let directory = if directory.is_empty() { String::new() } else { format!("/{directory}") };
        let kind = match entry.kind {
            0 | b'0' => "f",
            b'1' => "l",
            b'2' => "s",
            b'3' => "c",
            b'4' => "b",
            b'5' => "d",
            b'6' => "i",
            b'7' => "t",
            _ => "u",
        };
        Some(Self {
            name: format!("{directory}/{}", kept.unwrap_or(name)),
            deleted: kept.is_some(),
            rest: json!([kind, kept.is_some(), entry.size, entry.mtime, entry.mode, entry.uid, entry.gid]),
        })
    }

    /// With its name in front.
    fn line(self) -> Value {
        let mut all = vec![Value::String(self.name)];
        all.extend(self.rest.as_array().cloned().unwrap_or_default());
        Value::Array(all)
    }
}

/// The files of the slice of a layer that was read last.
struct Files {
    list: Vec<File>,
    /// What they take, each counted at [`ENTRY_BYTES`] beside its name.
    bytes: usize,
    budget: Budget,
    /// For what extends the header of the next entry.
    extended: Option<Reservation>,
    /// There was no memory for that.
    is_short: bool,
}

impl Files {
    fn new(budget: Budget) -> Self {
        Self { list: Vec::new(), bytes: 0, budget, extended: None, is_short: false }
    }

    /// Those that have come since the last call.
    fn take(&mut self) -> Vec<File> {
        self.bytes = 0;
        std::mem::take(&mut self.list)
    }
}

impl Visit for Files {
    fn hold(&mut self, bytes: u64) -> Result<(), String> {
        self.extended = None;
        self.extended = self.budget.try_reserve(bytes);
        self.is_short = self.extended.is_none();
        if self.is_short {
            Err("the memory budget has no room for the names of its files".into())
        } else {
            Ok(())
        }
    }

    fn begin(&mut self, entry: Entry) -> Result<(), String> {
        self.extended = None;
        if entry.name.len() > MOST_NAME {
            return Err(format!("a name has {} bytes", entry.name.len()));
        }
        let file = File::of(&entry);
        self.bytes += file.as_ref().map_or(0, |file| file.name.len() + ENTRY_BYTES as usize);
        self.list.extend(file);
        Ok(())
    }

    fn data(&mut self, _bytes: &[u8]) {}

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Reads the files of a layer, some at a time.
struct Listing {
    blob: BlobReader,
    rest: Bytes,
    /// `None` once it is at its end.
    layer: Option<LayerReader<Files>>,
}

impl Listing {
    fn of(images: &Images, layer: &BlobInfo) -> Result<Self, BlobError> {
        let blob = images.blobs().read(layer, 0..layer.size)?;
        let files = Files::new(images.blobs().budget().clone());
        Ok(Self { blob, rest: Bytes::new(), layer: Some(LayerReader::new(files)) })
    }

    /// The next files, at least one; none at the end.
    async fn next(&mut self) -> Result<Vec<File>, ListError> {
        while let Some(layer) = self.layer.take() {
            if self.rest.is_empty() {
                match self.blob.next().await {
                    Some(run) => self.rest = run?,
                    None => return layer.finish().map(|files| files.list).map_err(ListError::Format),
                }
            }
            let slice = self.rest.slice(..self.rest.len().min(SLICE));
            let read = tokio::task::spawn_blocking(move || add_some(layer, &slice));
            let ended = |error| BlobError::Unavailable(format!("reading a layer ended: {error}"));
            let (mut layer, taken) = read.await.map_err(ended)?;
            self.rest.advance(taken);
            if let Some(reason) = layer.failure().map(str::to_owned) {
                let is_short = layer.visitor().is_some_and(|files| files.is_short);
                return Err(if is_short {
                    BlobError::Unavailable(reason).into()
                } else {
                    ListError::Format(reason)
                });
            }
            let files = layer.visitor().map(Files::take).unwrap_or_default();
            self.layer = Some(layer);
            if !files.is_empty() {
                return Ok(files);
            }
        }
        Ok(Vec::new())
    }
}

/// Reads on in a slice until it is at its end, or enough came of it; answers how much of it was read.
fn add_some(mut layer: LayerReader<Files>, slice: &[u8]) -> (LayerReader<Files>, usize) {
    let mut taken = 0;
    for piece in slice.chunks(PIECE) {
        layer = layer.add(piece);
        taken += piece.len();
        if layer.visitor().is_some_and(|files| files.bytes >= ENOUGH) {
            break;
        }
    }
    (layer, taken)
}

#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error("Layer format not supported: {0}")]
    Format(String),
    #[error(transparent)]
    Storage(#[from] BlobError),
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Format(_) => Self::bad_request(error.to_string()),
            ListError::Storage(error) => error.into(),
        }
    }
}

/// `GET` of the files of an image's layer. The answer is sent as the layer is read.
pub(super) async fn files(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let images = call.images();
    let layer = images.image(id).await?.layer;
    let mut listing = Listing::of(&images, &layer)?;
    // Whether it is a tar at all is known with its first entry.
    let first = listing.next().await?;
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if call.head.method == Method::GET {
        let idle = call.registry.0.options.download_idle;
        *response.body_mut() = Body::from_stream(told(listing, first, idle));
    }
    Ok(response)
}

/// The text of a list, some files at a time.
///
/// A task of its own reads on. It gives up, and gives back what it holds, when nobody takes what it has read for `idle`.
fn told(
    mut listing: Listing,
    first: Vec<File>,
    idle: Duration,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
    let (sender, receiver) = mpsc::channel::<(Bytes, bool)>(1);
    tokio::spawn(carried(async move {
        let (mut files, mut mark) = (first, '[');
        loop {
            let is_last = files.is_empty();
            let mut text = String::new();
            for file in files {
                text.push(mark);
                text.push_str(&file.line().to_string());
                mark = ',';
            }
            if is_last {
                text.push_str(if mark == '[' { "[]" } else { "]" });
            }
            let sent = tokio::time::timeout(idle, sender.send((Bytes::from(text), is_last))).await;
            if is_last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
            files = match listing.next().await {
                Ok(files) => files,
                Err(error) => {
                    tracing::warn!(%error, "a list of files broke off");
                    return;
                }
            };
        }
    }));
    stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some((text, is_last)) => Some((Ok(text), (!is_last).then_some(receiver))),
            None => Some((Err(io::Error::other("the list of files broke off")), None)),
        }
    })
}

/// `GET` of what an image's layer deletes, changes and creates. The layers below it are read until all is known. One
/// request at a time: it may read a whole image.
pub(super) async fn diff(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let images = call.images();
    let ancestry = images.ancestry(id).await?;
    let _one = call.registry.0.diffs.lock().await;
    let mut memory = Memory { budget: images.blobs().budget().clone(), reserved: None, used: 0 };
    let mut open: HashMap<String, Value> = HashMap::new();
    let (mut deleted, mut changed, mut created) = (Map::new(), Map::new(), Map::new());
    let mut listing = Listing::of(&images, &images.image(id).await?.layer)?;
    loop {
        let files = listing.next().await?;
        if files.is_empty() {
            break;
        }
        for file in files {
            memory.hold(file.name.len())?;
            match file.deleted {
                true => drop(deleted.insert(file.name, file.rest)),
                false => drop(open.insert(file.name, file.rest)),
            }
        }
    }
    for below in ancestry.get(1..).unwrap_or_default() {
        if open.is_empty() {
            break;
        }
        let mut listing = Listing::of(&images, &images.image(below).await?.layer)?;
        loop {
            let files = listing.next().await?;
            if files.is_empty() {
                break;
            }
            for file in files {
                if let MapEntry::Occupied(found) = open.entry(file.name) {
                    let (name, rest) = found.remove_entry();
                    // What was deleted below and is here again is new.
                    let side = if file.deleted { &mut created } else { &mut changed };
                    side.insert(name, rest);
                }
            }
        }
    }
    created.extend(open);
    Ok(json_response(StatusCode::OK, &json!({ "deleted": deleted, "changed": changed, "created": created })))
}

/// Counts what a diff holds.
struct Memory {
    budget: Budget,
    reserved: Option<Reservation>,
    used: u64,
}

impl Memory {
    fn hold(&mut self, name: usize) -> Result<(), ApiError> {
        self.used += name as u64 + ENTRY_BYTES;
        if self.used <= self.reserved.as_ref().map_or(0, Reservation::bytes) {
            return Ok(());
        }
        // Waiting with memory in hand could be waiting for oneself.
        let more = self.budget.try_reserve(RESERVE.max(name as u64)).ok_or_else(|| {
            BlobError::Unavailable("the memory budget has no room for the files of this layer".into())
        })?;
        match &mut self.reserved {
            Some(reserved) => reserved.merge(more),
            None => self.reserved = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few KiB that unpack to megabytes of headers are told bit by bit, for whoever asked may not listen.
    #[test]
    fn what_a_slice_unpacks_to_is_not_held_at_once() {
        use std::io::Write;

        let mut header = ::tar::Header::new_ustar();
        header.set_path("a-file-with-a-name-as-long-as-they-are").unwrap();
        header.set_size(0);
        header.set_cksum();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&header.as_bytes().repeat(20_000)).unwrap();
        let packed = packed.finish().unwrap();
        let (mut layer, mut rest, mut files, mut most) =
            (LayerReader::new(Files::new(Budget::new(1 << 20))), &packed[..], 0, 0);
        while !rest.is_empty() {
            let (mut read, taken) = add_some(layer, &rest[..rest.len().min(SLICE)]);
            let found = read.visitor().unwrap();
            let (bytes, list) = (found.bytes, found.take());
            let names: usize = list.iter().map(|file| file.name.len() + ENTRY_BYTES as usize).sum();
            assert_eq!((bytes, found.bytes), (names, 0));
            (files, most) = (files + list.len(), most.max(bytes));
            (layer, rest) = (read, &rest[taken..]);
        }
        // What the decoder holds back comes with the end.
        assert_eq!(files + layer.finish().unwrap().list.len(), 20_000);
        assert!(most < 2 * ENOUGH, "{most} bytes at once, of {} that are packed", packed.len());
    }

    /// What waits for its entry is held as long as nobody takes the list.
    #[test]
    fn names_that_wait_for_their_entry_are_counted() {
        let header = |kind: u8, size: u64| {
            let mut header = ::tar::Header::new_gnu();
            header.set_entry_type(::tar::EntryType::new(kind));
            header.set_size(size);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let budget = Budget::new(100_000);
        let held = || budget.total() - budget.available();
        let mut layer =
            LayerReader::new(Files::new(budget.clone())).add(&header(b'L', 51_200)).add(&[b'n'; 51_200]);
        assert_eq!((layer.failure(), held()), (None, 51_200));
        let mut layer = layer.add(&header(b'0', 0));
        assert_eq!((layer.failure(), held()), (None, 0));
        assert_eq!(layer.visitor().unwrap().take()[0].name.len(), 1 + 51_200);
        let others = budget.try_reserve(51_200).unwrap();
        let mut layer = layer.add(&header(b'L', 51_200));
        assert!(layer.failure().unwrap().contains("no room"));
        assert!(layer.visitor().unwrap().is_short);
        assert_eq!(held(), others.bytes());
    }

    #[test]
    fn names_are_those_of_the_file_system() {
        let file = |name: &str| {
            File::of(&Entry { name: name.into(), kind: b'0', ..Entry::default() })
                .map(|file| (file.name, file.deleted))
        };
        for (name, expected, deleted) in [
            (".", "/", false),
            ("./", "/", false),
            ("etc/", "/etc", false),
            ("./etc/passwd", "/etc/passwd", false),
            ("/etc/passwd", "/etc/passwd", false),
            ("etc/.wh.passwd", "/etc/passwd", true),
            (".wh.etc", "/etc", true),
        ] {
            assert_eq!(file(name), Some((expected.to_owned(), deleted)), "{name}");
        }
        assert_eq!(file(".wh..wh.plnk"), None);
        assert_eq!(file("a/.wh..wh..opq"), None);
    }
}
