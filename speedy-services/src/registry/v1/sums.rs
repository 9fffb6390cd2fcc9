//! The two checksums of an image, made while its layer is uploaded: of the bytes that came, and of what is in them.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use speedy_core::blob::Body;
use speedy_core::budget::{Budget, Reservation};
use speedy_core::digest::{Algorithm, Digest, Hasher};
use speedy_core::payload::BodyError;

use super::tar::{Entry, LayerReader, Visit};

/// Entries of a layer whose sums are held at once, at 32 bytes each.
const MOST_ENTRIES: usize = 1 << 20;
/// Sums that memory is reserved for at first; then for as many again as there are.
const FIRST_ENTRIES: usize = 2048;
/// Runs up to this are read where they are: a hop to another thread costs as much.
const READ_HERE: usize = 4 * 1024;
/// What each entry adds to what is summed at the end.
const HEX_SUM: usize = 64;

/// The checksums of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    /// SHA-256 of the image's JSON, a newline and the layer's bytes.
    pub payload: Digest,
    /// TarSum version 0 of the image's JSON and the layer, or why the layer has none.
    pub tarsum: Result<Digest, String>,
}

/// The checksums of an image whose layer is still coming.
struct Running {
    payload: Hasher,
    /// `None` once the layer has turned out to have none.
    layer: Result<LayerReader<EntrySums>, String>,
    json: Vec<u8>,
}

/// The sums of entries, in the order of the layer.
struct EntrySums {
    current: Hasher,
    sums: Vec<[u8; 32]>,
    budget: Budget,
    reserved: Option<Reservation>,
    /// For what extends the header of the next entry.
    extended: Option<Reservation>,
}

/// Lets a layer's bytes through and makes the checksums of its image, which are there when all of them have come.
pub(super) fn summed(body: Body, json: &[u8], budget: &Budget) -> (Body, Arc<Mutex<Option<Sums>>>) {
    let done = Arc::new(Mutex::new(None));
    let state = (body, Some(Running::new(json, budget.clone())), Arc::clone(&done));
    let body = stream::unfold(state, |(mut body, running, done)| async move {
        let running = running?;
        match body.next().await {
            Some(Ok(run)) => match running.add(run.clone()).await {
                Ok(running) => Some((Ok(run), (body, Some(running), done))),
                Err(error) => Some((Err(error), (body, None, done))),
            },
            Some(Err(error)) => Some((Err(error), (body, None, done))),
            None => match running.end().await {
                Ok(sums) => {
                    *done.lock() = Some(sums);
                    None
                }
                Err(error) => Some((Err(error), (body, None, done))),
            },
        }
    });
    (body.boxed(), done)
}

impl Running {
    fn new(json: &[u8], budget: Budget) -> Self {
        let mut payload = Hasher::new(Algorithm::Sha256);
        payload.update(json);
        payload.update(b"\n");
        Self { payload, layer: Ok(LayerReader::new(EntrySums::new(budget))), json: json.to_vec() }
    }

    async fn add(self, run: bytes::Bytes) -> Result<Self, BodyError> {
        if run.len() <= READ_HERE { Ok(self.read(&run)) } else { off_worker(move || self.read(&run)).await }
    }

    fn read(mut self, run: &[u8]) -> Self {
        self.payload.update(run);
        self.layer = self.layer.and_then(|layer| {
            let mut layer = layer.add(run);
            match layer.failure() {
                Some(reason) => Err(reason.to_owned()),
                None => Ok(layer),
            }
        });
        self
    }

    async fn end(mut self) -> Result<Sums, BodyError> {
        let entries = match &mut self.layer {
            Ok(layer) => layer.visitor().map_or(0, |entries| entries.sums.len()),
            Err(_) => 0,
        };
        let left = self.json.len() + entries * HEX_SUM;
        if left <= READ_HERE { Ok(self.finish()) } else { off_worker(move || self.finish()).await }
    }

    fn finish(self) -> Sums {
        let json = self.json;
        let tarsum = self.layer.and_then(LayerReader::finish).map(|entries| entries.finish(&json));
        Sums { payload: self.payload.finish(), tarsum }
    }
}

impl EntrySums {
    fn new(budget: Budget) -> Self {
        Self {
            current: Hasher::new(Algorithm::Sha256),
            sums: Vec::new(),
            budget,
            reserved: None,
            extended: None,
        }
    }

    /// The sums of the entries in the order of their digits, behind the JSON: an image whose entries come in another
    /// order has the same.
    fn finish(mut self, json: &[u8]) -> Digest {
        self.sums.sort_unstable();
        let mut all = Hasher::new(Algorithm::Sha256);
        all.update(json);
        for sum in &self.sums {
            all.update(hex::encode(sum).as_bytes());
        }
        all.finish()
    }

    /// Sees that one more sum can be held.
    fn make_room(&mut self) -> Result<(), String> {
        if self.sums.len() >= MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        if self.sums.len() == self.sums.capacity() {
            let entries = self.sums.len().max(FIRST_ENTRIES);
            let bytes = (entries * size_of::<[u8; 32]>()) as u64;
            // Waiting for memory while holding some could be waiting for each other.
            let more = self.budget.try_reserve(bytes).ok_or("there was no memory to sum its entries")?;
            match &mut self.reserved {
                Some(reserved) => reserved.merge(more),
                None => self.reserved = Some(more),
            }
            self.sums.reserve_exact(entries);
        }
        Ok(())
    }
}

impl Visit for EntrySums {
    fn hold(&mut self, bytes: u64) -> Result<(), String> {
        self.extended = None;
        let held =
            self.budget.try_reserve(bytes).ok_or("there was no memory for the names of its entries")?;
        self.extended = Some(held);
        Ok(())
    }

    fn begin(&mut self, entry: Entry) -> Result<(), String> {
        self.extended = None;
        self.make_room()?;
        let mut fields: Vec<u8> = Vec::with_capacity(256);
        let number = |number: i64| number.to_string().into_bytes();
        for (name, value) in [
            ("name", entry.name),
            ("mode", number(entry.mode)),
            ("uid", number(entry.uid)),
            ("gid", number(entry.gid)),
            ("size", entry.size.to_string().into_bytes()),
            ("mtime", number(entry.mtime)),
            ("typeflag", vec![entry.kind]),
            ("linkname", entry.link),
            ("uname", entry.user),
            ("gname", entry.group),
            ("devmajor", number(entry.major)),
            ("devminor", number(entry.minor)),
        ] {
            fields.extend_from_slice(name.as_bytes());
            fields.extend_from_slice(&value);
        }
        self.current = Hasher::new(Algorithm::Sha256);
        self.current.update(&fields);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) {
        self.current.update(bytes);
    }

    fn end(&mut self) -> Result<(), String> {
        let digest = std::mem::replace(&mut self.current, Hasher::new(Algorithm::Sha256)).finish();
        let mut sum = [0; 32];
        sum.copy_from_slice(digest.as_bytes());
        self.sums.push(sum);
        Ok(())
    }
}

async fn off_worker<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BodyError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BodyError(format!("the making of a checksum ended: {error}")))
}
