//! The access log: one line a request, when the last byte of its answer has been handed over or when it was given up.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::body::RequestBody;

/// The request's id, taken over from the client or given.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The line of a request. It is written when this is dropped.
pub(crate) struct AccessLine {
    method: Method,
    uri: Uri,
    id: HeaderValue,
    client: Option<SocketAddr>,
    begun: Instant,
    body: RequestBody,
    status: Option<StatusCode>,
    sent: u64,
    complete: bool,
}

impl AccessLine {
    /// Begins the line of the request with this head and body.
    pub(crate) fn begin(head: &Parts, body: RequestBody) -> Self {
        let given = head.headers.get(REQUEST_ID).filter(|id| is_request_id(id.as_bytes()));
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            id: given.cloned().unwrap_or_else(fresh_id),
            client: head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0),
            begun: Instant::now(),
            body,
            status: None,
            sent: 0,
            complete: false,
        }
    }

    /// The request's id.
    pub(crate) fn request_id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Goes on with the answer: the line is written at the end of its body.
    pub(crate) fn follow(mut self, mut response: Response) -> Response {
        self.status = Some(response.status());
        response.headers_mut().insert(REQUEST_ID, self.id.clone());
        // No body goes out, whatever the answer holds.
        self.complete = self.method == Method::HEAD;
        response.map(|body| Body::new(Followed { body, line: self }))
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let client = self.client.map(tracing::field::display);
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.uri.path(),
            status = self.status.map_or(0, |status| status.as_u16()),
            received = self.body.received(),
            sent = self.sent,
            ms = self.begun.elapsed().as_micros() as f64 / 1000.0,
            client,
            request_id = self.request_id(),
            end = if self.complete { "complete" } else { "aborted" },
        );
    }
}

/// The body of an answer, counted for its line.
struct Followed {
    body: Body,
    line: AccessLine,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                // The server does not ask again once it has as many bytes as were announced.
                self.line.complete |= self.body.is_end_stream();
            }
            Poll::Ready(None) => self.line.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.line.complete |= self.body.is_end_stream();
    }
}

/// What is taken over from a client goes into logs: short, and nothing but plain characters.
fn is_request_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
}

/// An id that no other request of any registry has: a random beginning for this process, and a number.
fn fresh_id() -> HeaderValue {
    static PROCESS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let process = PROCESS.get_or_init(|| uuid::Uuid::new_v4().simple().to_string()[..12].to_owned());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("{process}-{number:x}"))
        .expect("hexadecimal digits and a dash are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_request_ids_are_taken_over() {
        for id in ["a", "0af7651916cd43dd8448eb211c80319c", "Root=1-67891233-abcdef012345678912345678"] {
            assert!(is_request_id(id.as_bytes()), "{id}");
        }
        for id in ["", "a b", "a\"b", "a\tb", "é", &"a".repeat(129)] {
            assert!(!is_request_id(id.as_bytes()), "{id}");
        }
        assert_ne!(fresh_id(), fresh_id());
    }
}
