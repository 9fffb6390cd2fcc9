//! The access log: one line a request, when the last byte of its answer has been handed over or when it was given up.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use speedy_core::request::RequestId;

use crate::admin::Passing;
use crate::wire::REQUEST_ID;

/// The line of a request. It is written when this is dropped.
pub(crate) struct AccessLine {
    method: Method,
    uri: Uri,
    id: RequestId,
    route: &'static str,
    peer: Option<SocketAddr>,
    /// Whom the peer speaks for, where it is a proxy.
    client: Option<IpAddr>,
    passing: Arc<Passing>,
    status: Option<StatusCode>,
    complete: bool,
}

impl AccessLine {
    /// Begins the line of the request with this head. Its id is the client's where that is a plain one.
    pub(crate) fn begin(head: &Parts, passing: Arc<Passing>, client: Option<IpAddr>) -> Self {
        let given = head.headers.get(REQUEST_ID).and_then(|id| RequestId::parse(id.as_bytes()));
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            id: given.unwrap_or_else(RequestId::fresh),
            route: "unknown",
            peer: head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0),
            client,
            passing,
            status: None,
            complete: false,
        }
    }

    /// The request's id.
    pub(crate) fn request_id(&self) -> &RequestId {
        &self.id
    }

    /// What the request is about, as the metrics call it.
    pub(crate) fn set_route(&mut self, route: &'static str) {
        self.route = route;
    }

    /// Goes on with the answer: the line is written at the end of its body.
    pub(crate) fn follow(mut self, mut response: Response) -> Response {
        self.status = Some(response.status());
        let id = HeaderValue::from_str(self.id.as_str()).expect("a request id is plain text");
        response.headers_mut().insert(REQUEST_ID, id);
        // No body goes out, whatever the answer holds.
        self.complete = self.method == Method::HEAD;
        response.map(|body| Body::new(Followed { body, line: self }))
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let status = self.status.map_or(0, |status| status.as_u16());
        // A method that the specification does not know could be anything.
        let method = if self.route == "unknown" { "unknown" } else { self.method.as_str() };
        self.passing.count(self.route, method, &status.to_string());
        let peer = self.peer.map(|peer| peer.ip().to_canonical());
        let (client, proxy) = match self.client.filter(|client| Some(*client) != peer) {
            Some(client) => (client.to_string(), self.peer.map(tracing::field::display)),
            None => (self.peer.map(|peer| peer.to_string()).unwrap_or_default(), None),
        };
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.uri.path(),
            status,
            received = self.passing.received(),
            sent = self.passing.sent(),
            ms = self.passing.elapsed().as_micros() as f64 / 1000.0,
            client = (!client.is_empty()).then_some(tracing::field::display(client)),
            proxy,
            request_id = self.id.as_str(),
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
        let Self { body, line } = &mut *self;
        // What is read for the answer is read for the request.
        let polled = line.id.in_scope(|| Pin::new(body).poll_frame(cx));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.passing.send(frame.data_ref().map_or(0, |data| data.len() as u64));
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
