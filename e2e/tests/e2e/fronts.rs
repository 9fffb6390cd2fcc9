//! Front ends of which there are two: what one does not finish, the other does.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use speedy_e2e::{Fleet, Lab, noise, push_image, same, sha256, wait_until};

/// Bytes of a layer: several fragments.
const LAYER: usize = 9_000_000;
/// Clients that push at once, and images that each of them pushes.
const CLIENTS: u64 = 3;
const IMAGES: u64 = 6;
/// Before the number of fragments that an image node has written.
const FRAGMENT_WRITTEN: &str = "speedy_grpc_requests_total{service=\"speedy.image.v1.FragmentService\",method=\"Write\",outcome=\"ok\"} ";
/// How long a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// First one registry and one image node die as kill -9 does, then, when these are back, the other two. Clients that
/// try again at the other registry push on, and all that was acknowledged is there at the end.
pub(crate) fn killed_during_pushes(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let fronts = fleet.fronts();
    let pushed = Mutex::new(Vec::new());
    let done = AtomicUsize::new(0);
    let push = |client: u64| -> Result<()> {
        for image in 0..IMAGES {
            let repository = format!("killed/{client}");
            let layer = push_image(&fronts, &repository, &image.to_string(), client * 1000 + image, LAYER)?;
            let layer = (sha256(&layer), layer.len() as u64);
            pushed.lock().unwrap_or_else(PoisonError::into_inner).push((repository, image, layer));
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let total = usize::try_from(CLIENTS * IMAGES)?;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || push(client))).collect();
        let reached = |count: usize| {
            wait_until(&format!("{count} images"), LIMIT, || Ok(done.load(Ordering::Relaxed) >= count))
        };
        let disturbed = reached(2).and_then(|()| {
            for dead in [0, 1] {
                fleet.registries[dead].kill()?;
                fleet.images[dead].kill()?;
                let before = done.load(Ordering::Relaxed);
                reached((before + 3).min(total)).with_context(|| format!("without the front ends {dead}"))?;
                fleet.images[dead].start()?;
                fleet.registries[dead].start()?;
                fleet.registries[dead].wait_readyz(200, &[])?;
            }
            Ok(())
        });
        let ended = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err(anyhow!("a client panicked"))));
        ended.collect::<Result<()>>().and(disturbed)
    })?;
    let pushed = pushed.into_inner().unwrap_or_else(PoisonError::into_inner);
    same("images that were acknowledged", &total, &pushed.len())?;
    for front in &fronts {
        for (repository, image, layer) in &pushed {
            let manifest = front.manifest(repository, &image.to_string())?;
            same("layers of an image", &vec![layer.clone()], &manifest.layers)?;
            front.verify_blobs(repository, &manifest)?;
        }
    }
    Ok(())
}

/// An upload that one registry began, the other ends: after the first is done with its part, and after it died in the
/// middle of a request.
pub(crate) fn upload_moves(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let [first, second] = &fleet.fronts()[..] else { unreachable!("a fleet has two registries") };
    let blob = noise(1, 3 * LAYER);
    let (front_part, rest) = blob.split_at(LAYER);
    let session = first.begin("moves")?;
    same("bytes after the first part", &(LAYER as u64), &first.append(&session, front_part.to_vec())?)?;
    same("bytes that the other registry knows of", &(LAYER as u64), &second.offset(&session)?)?;
    let (middle, end) = rest.split_at(LAYER);
    same("bytes after the second part", &(2 * LAYER as u64), &second.append(&session, middle.to_vec())?)?;
    first.finish(&session, end.to_vec(), &sha256(&blob))?;
    holds(fleet, "moves", &blob)?;

    let blob = noise(2, 3 * LAYER);
    let session = first.begin("moves")?;
    let given_up = Arc::new(AtomicBool::new(false));
    let body = Stalling { bytes: blob[..2 * LAYER].to_vec(), at: 0, given_up: Arc::clone(&given_up) };
    let sender = thread::spawn({
        let (first, session) = (first.clone(), session.clone());
        move || first.append_from(&session, body)
    });
    // Whole fragments of 4 MiB are durable a few seconds after they came, though the request goes on.
    let mut held = 0;
    let waited = wait_until("durable bytes of a request under way", LIMIT, || {
        held = second.offset(&session)?;
        Ok(held >= 4 << 20)
    });
    let killed = fleet.registries[0].kill();
    given_up.store(true, Ordering::Relaxed);
    let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
    waited.and(killed)?;
    ensure!(sent.is_err(), "a registry that was killed answered {sent:?}");
    let at = usize::try_from(second.offset(&session)?)?;
    ensure!(at as u64 >= held && at <= 2 * LAYER, "the session holds {at} bytes, and held {held} before");
    second.finish(&session, blob[at..].to_vec(), &sha256(&blob))?;
    fleet.registries[0].start()?;
    holds(fleet, "moves", &blob)
}

/// `/readyz` says whether a registry can serve, and what it lacks.
pub(crate) fn readyz_tells_the_truth(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let address = |node: &speedy_e2e::Node| node.address().to_string();
    let images = [address(&fleet.images[0]), address(&fleet.images[1])];
    for node in fleet.registries.iter().chain(&fleet.images).chain(&fleet.masters).chain(&fleet.chunks) {
        node.wait_readyz(200, &["ready"])?;
    }
    fleet.images[0].kill()?;
    fleet.images[1].pause()?;
    fleet.registries[0].wait_readyz(503, &["image nodes", &images[0], &images[1], "no answer"])?;
    fleet.images[1].resume()?;
    fleet.registries[0].wait_readyz(200, &[])?;
    fleet.meta.pause()?;
    let lacking: Result<()> = fleet.registries[0]
        .wait_readyz(503, &["the metadata store"])
        .and_then(|()| fleet.masters[0].wait_readyz(503, &["the metadata store"]));
    fleet.meta.resume()?;
    lacking?;
    fleet.registries[0].wait_readyz(200, &[])?;
    fleet.masters[0].wait_readyz(200, &[])?;

    // A registry that drains finishes what is under way, and wants nothing new.
    let front = fleet.fronts().remove(0);
    let session = front.begin("drains")?;
    let blob = noise(3, LAYER);
    let given_up = Arc::new(AtomicBool::new(false));
    let body = Stalling { bytes: blob, at: 0, given_up: Arc::clone(&given_up) };
    let sender = thread::spawn(move || front.append_from(&session, body));
    wait_until("the request to be under way", LIMIT, || {
        let (_, metrics) = fleet.registries[0].page("/metrics")?;
        Ok(metrics.lines().any(|line| line == "speedy_http_requests_in_flight 1"))
    })?;
    fleet.registries[0].drain()?;
    let draining = fleet.registries[0].wait_readyz(503, &["draining"]);
    given_up.store(true, Ordering::Relaxed);
    let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
    draining?;
    same("bytes of the request that was under way", &(LAYER as u64), &sent?)
}

/// An image node that stands still, with its connections open, costs whoever waits for it a short time once.
pub(crate) fn image_node_stands_still(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let front = fleet.fronts().remove(0);
    let blobs: Vec<Vec<u8>> = (0..8).map(|seed| noise(100 + seed, LAYER)).collect();
    front.push_blob("still", &blobs[0])?;
    let written =
        |page: &str| page.lines().find_map(|line| line.strip_prefix(FRAGMENT_WRITTEN)?.parse::<u64>().ok());
    fleet.images[0].pause()?;
    let mut took = Vec::new();
    for blob in &blobs {
        let begun = Instant::now();
        front.push_blob("still", blob)?;
        front.verify_blob("still", &sha256(blob), blob.len() as u64)?;
        took.push(begun.elapsed());
    }
    let address = fleet.images[0].address();
    let passed_over = format!("speedy_peer_passed_over{{role=\"image\",peer=\"{address}\"}} 1\n");
    let (_, page) = fleet.registries[0].page("/metrics")?;
    fleet.images[0].resume()?;
    ensure!(page.contains(&passed_over), "no `{passed_over}` in the metrics:\n{page}");
    let total: Duration = took.iter().sum();
    // An HTTP/2 connection to a process that stands still is given up after 20 s.
    ensure!(total < Duration::from_secs(15), "pushes and pulls took {took:?}");
    let count = || -> Result<Option<u64>> { Ok(written(&fleet.images[0].page("/metrics")?.1)) };
    let before = count()?;
    let mut seed = 1000;
    wait_until("the image node to be asked again", LIMIT, || {
        seed += 1;
        front.push_blob("still", &noise(seed, 1000))?;
        Ok(count()? > before)
    })
}

/// One id leads from the registry to every disk, and each process counts what it did.
pub(crate) fn one_request_everywhere(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let front = fleet.fronts().remove(0);
    front.push_and_pull_as("e2e-trace", "traced", &noise(7, LAYER))?;
    let request = "request{request_id=e2e-trace}";
    let mut writers = vec![&mut fleet.meta];
    writers.extend(&mut fleet.chunks);
    // The client has its answer a moment before the processes are done with the request.
    for node in writers {
        let what = format!("a line of the push in the log of {}", node.address());
        wait_until(&what, LIMIT, || Ok(node.log()?.contains(request)))?;
    }
    wait_until("the read to be in the logs of an image node and a chunk node", LIMIT, || {
        let mut found = 0;
        for node in fleet.images.iter_mut().chain(&mut fleet.chunks) {
            found += usize::from(node.log()?.contains("request{request_id=e2e-trace-read}"));
        }
        Ok(found >= 2)
    })?;

    for (node, lines) in [
        (
            &fleet.registries[0],
            &[
                "speedy_http_requests_total{route=\"uploads\",method=\"POST\",status=\"201\"} ",
                "speedy_http_request_duration_seconds_bucket{le=\"0.001\",route=\"blob\",method=\"GET\"} ",
                "speedy_http_received_bytes_total{route=\"uploads\",method=\"POST\"} ",
                "speedy_http_sent_bytes_total{route=\"blob\",method=\"GET\"} 9000000",
                "speedy_http_requests_in_flight 0",
                "speedy_http_in_flight_bytes 0",
                "speedy_memory_held_bytes 0",
            ][..],
        ),
        (
            &fleet.meta,
            &[
                "speedy_grpc_requests_total{service=\"speedy.meta.v1.MetaService\",method=\"Transact\",outcome=\"ok\"} ",
            ],
        ),
        (
            &fleet.masters[0],
            &[
                "speedy_grpc_requests_total{service=\"speedy.master.v1.MasterService\",method=\"Heartbeat\",outcome=\"ok\"} ",
            ],
        ),
        (
            &fleet.chunks[0],
            &[
                "speedy_grpc_requests_total{service=\"speedy.chunk.v1.ChunkService\",method=\"Write\",outcome=\"ok\"} ",
                "speedy_grpc_request_duration_seconds_count{service=\"speedy.chunk.v1.ChunkService\",method=\"Write\"} ",
                "speedy_grpc_in_flight_bytes ",
            ],
        ),
        (&fleet.images[0], &["speedy_replication_chains_broken_total ", FRAGMENT_WRITTEN]),
    ] {
        for line in lines {
            wait_until(&format!("`{line}` in the metrics of {}", node.address()), LIMIT, || {
                let (status, page) = node.page("/metrics")?;
                same("status of /metrics", &200, &status)?;
                Ok(page.contains(line))
            })?;
        }
    }
    Ok(())
}

/// Both registries give the blob, whole.
fn holds(fleet: &Fleet, repository: &str, blob: &[u8]) -> Result<()> {
    for front in fleet.fronts() {
        front.verify_blob(repository, &sha256(blob), blob.len() as u64)?;
    }
    Ok(())
}

/// A body that gives its bytes and then nothing, and ends only when it is told to.
struct Stalling {
    bytes: Vec<u8>,
    at: usize,
    given_up: Arc<AtomicBool>,
}

impl Read for Stalling {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.bytes.len() && !self.given_up.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        let run = buffer.len().min(self.bytes.len() - self.at);
        buffer[..run].copy_from_slice(&self.bytes[self.at..self.at + run]);
        self.at += run;
        Ok(run)
    }
}
