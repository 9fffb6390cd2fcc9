//! Asking a running node, at its admin address.

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::bar::Bar;
use super::store::report::Line;
use crate::address::HostPort;

/// Why a node did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    #[error("no connection to {address}: {source}; is that the admin address of a running node?")]
    Connect { address: HostPort, source: std::io::Error },
    #[error(
        "{address} does not have {path}: name the admin address of {}, or of speedy serve",
        who_has(path)
    )]
    NoStore { address: HostPort, path: &'static str },
    #[error("{address} answers {status}: {body}")]
    Status { address: HostPort, status: StatusCode, body: String },
    #[error("{address}: {reason}")]
    Failed { address: HostPort, reason: String },
    #[error("the answer of {address} broke off: {reason}; see its log")]
    Broken { address: HostPort, reason: String },
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

fn who_has(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("meta") => "a meta node",
        Some("registry") => "a registry",
        Some("gc") if path == "/gc/run" => "an image node",
        Some("gc" | "usage") => "an image node or a registry",
        _ => "a chunk node",
    }
}

/// A value.
pub(super) fn get<T: DeserializeOwned>(address: &HostPort, path: &'static str) -> Result<T, RemoteError> {
    value(address, Method::GET, path, &[])
}

/// A value that answers a request with these parameters.
pub(super) fn value<T: DeserializeOwned>(
    address: &HostPort,
    method: Method,
    path: &'static str,
    query: &[(&str, &str)],
) -> Result<T, RemoteError> {
    let mut uri = path.to_owned();
    if !query.is_empty() {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        uri = format!("{path}?{query}");
    }
    block_on(async {
        let answer = ask(address, method, path, &uri).await?;
        let body = answer.into_body().collect().await.map_err(|error| broken(address, &error))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| broken(address, &error))
    })
}

/// Something that takes its time. The node ends it when this process ends.
pub(super) fn work<T: DeserializeOwned>(
    address: &HostPort,
    path: &'static str,
    query: Vec<(&str, u64)>,
    bar: &Bar,
) -> Result<T, RemoteError> {
    let mut uri = path.to_owned();
    for (index, (key, value)) in query.into_iter().enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        uri.push_str(&format!("{separator}{key}={value}"));
    }
    block_on(async {
        let mut body = ask(address, Method::POST, path, &uri).await?.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(address, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            pending.extend_from_slice(data.chunk());
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(|error| broken(address, &error))? {
                    Line::Progress(now) => bar.advance(now.bytes_done, now.bytes),
                    Line::Report(report) => return Ok(report),
                    Line::Error(reason) => {
                        return Err(RemoteError::Failed { address: address.clone(), reason });
                    }
                }
            }
        }
        Err(broken(address, &"it ended before its report"))
    })
}

/// Gives a long answer piece by piece to `take`, which may end it early.
pub(super) fn stream(
    address: &HostPort,
    path: &'static str,
    mut take: impl FnMut(Bytes) -> std::ops::ControlFlow<()>,
) -> Result<(), RemoteError> {
    block_on(async {
        let mut body = ask(address, Method::GET, path, path).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(address, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            if take(data).is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(RemoteError::Start)?.block_on(work)
}

async fn ask(
    address: &HostPort,
    method: Method,
    path: &'static str,
    uri: &str,
) -> Result<Response<Incoming>, RemoteError> {
    let connect = |source| RemoteError::Connect { address: address.clone(), source };
    let stream = TcpStream::connect(address.to_string()).await.map_err(connect)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(address, &error))?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(uri).header("host", address.to_string());
    let request = request.body(Empty::<Bytes>::new()).expect("an address and a path make a request");
    let answer = sender.send_request(request).await.map_err(|error| broken(address, &error))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        StatusCode::NOT_FOUND => Err(RemoteError::NoStore { address: address.clone(), path }),
        status => {
            let body = answer.into_body().collect().await.map_err(|error| broken(address, &error))?;
            let body = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
            Err(RemoteError::Status { address: address.clone(), status, body })
        }
    }
}

fn broken(address: &HostPort, error: &dyn std::fmt::Display) -> RemoteError {
    RemoteError::Broken { address: address.clone(), reason: error.to_string() }
}
