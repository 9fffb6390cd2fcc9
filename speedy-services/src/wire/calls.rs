//! What is done around every gRPC call: at the client it is told which request it is for, and at the server it runs
//! for that request, is counted, and has a line in the log.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use speedy_core::id::NodeId;
use speedy_core::replicate::NodeError;
use speedy_core::request::RequestId;
use tonic::body::Body;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::admin::{Passing, Traffic};

/// Which request a call, or a request of the registry, is for.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// A connection whose calls say which request they are for.
pub(crate) type Connection = InterceptedService<Channel, Tag>;

/// Which chunk node a call is for, in hexadecimal digits: a node that is another refuses it. One of an earlier version does
/// not look.
const NODE: &str = "x-speedy-node";

/// Puts the id of the request that is worked for into each call, and which node it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tag {
    node: Option<AsciiMetadataValue>,
}

impl Tag {
    /// The calls are for this node and no other that answers at its address.
    pub(super) fn of(node: NodeId) -> Self {
        Self { node: AsciiMetadataValue::try_from(node.to_string()).ok() }
    }
}

/// Refuses a call that is for another node than this one.
pub(crate) fn meant_for(node: NodeId, call: &MetadataMap) -> Result<(), NodeError> {
    let meant = call.get(NODE).and_then(|meant| meant.to_str().ok()?.parse::<NodeId>().ok());
    match meant {
        Some(meant) if meant != node => Err(NodeError::Unavailable(format!(
            "this is node {node}, and the call is for node {meant}: do both have the same --advertise?"
        ))),
        _ => Ok(()),
    }
}

impl Interceptor for Tag {
    fn call(&mut self, mut call: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let id = RequestId::current().and_then(|id| AsciiMetadataValue::try_from(id.as_str()).ok());
        if let Some(id) = id {
            call.metadata_mut().insert(REQUEST_ID, id);
        }
        if let Some(node) = &self.node {
            call.metadata_mut().insert(NODE, node.clone());
        }
        Ok(call)
    }
}

/// Runs each call for the request that it names, and counts it.
#[derive(Clone, Debug)]
pub(super) struct Calls(pub(super) Traffic);

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, traffic: self.0.clone() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    inner: S,
    traffic: Traffic,
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Answer>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let id = request.headers().get(REQUEST_ID).and_then(|id| RequestId::parse(id.as_bytes()));
        let passing = Arc::new(self.traffic.begin());
        let gone = Arc::new(AtomicBool::new(false));
        let mut call = Call {
            path: request.uri().path().to_owned(),
            id: id.clone(),
            passing: Arc::clone(&passing),
            gone: Arc::clone(&gone),
            outcome: None,
        };
        let request = request.map(|body| Body::new(Received { body, passing, gone }));
        let answer = match &id {
            Some(id) => id.in_scope(|| self.inner.call(request)),
            None => self.inner.call(request),
        };
        let work = async move {
            let response = answer.await?;
            call.look_at(response.headers());
            Ok(response.map(|body| Answer { body, call }))
        };
        match id {
            Some(id) => Box::pin(id.scope(work)),
            None => Box::pin(work),
        }
    }
}

/// The body of a call, counted as it comes.
struct Received {
    body: Body,
    passing: Arc<Passing>,
    /// Whether it broke off, which is how a client gives a call up.
    gone: Arc<AtomicBool>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.passing.receive(frame.data_ref().map_or(0, |data| data.len() as u64));
            }
            Poll::Ready(Some(Err(_))) => self.gone.store(true, Ordering::Relaxed),
            _ => {}
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

/// A call under way. It is counted, and has its line in the log, when this is dropped.
struct Call {
    path: String,
    id: Option<RequestId>,
    passing: Arc<Passing>,
    /// Whether its client gave it up.
    gone: Arc<AtomicBool>,
    outcome: Option<Status>,
}

impl Call {
    /// Notes the outcome, where these headers or trailers tell it.
    fn look_at(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.outcome = Some(status);
        }
    }

    /// How it ended. One that its client gave up before anything of its message had come is no fault of this process,
    /// which tonic takes it for.
    fn code(&self) -> Option<Code> {
        let is_given_up = self.gone.load(Ordering::Relaxed) && self.passing.received() == 0;
        match self.outcome.as_ref().map(Status::code) {
            Some(Code::Internal | Code::Unknown) if is_given_up => Some(Code::Cancelled),
            code => code,
        }
    }

    fn end(&self) {
        let code = self.code();
        let (service, method) = match code {
            // Whoever dials may name anything.
            Some(Code::Unimplemented) => ("unknown", "unknown"),
            _ => self.path.trim_start_matches('/').rsplit_once('/').unwrap_or(("unknown", "unknown")),
        };
        let outcome = code.map_or("dropped", name);
        self.passing.count(service, method, outcome);
        let ms = self.passing.elapsed().as_micros() as f64 / 1000.0;
        let (received, sent) = (self.passing.received(), self.passing.sent());
        let error = self.outcome.as_ref().map_or("", Status::message);
        match code {
            Some(Code::Internal | Code::DataLoss | Code::Unknown) => {
                tracing::warn!(service, method, outcome, ms, received, sent, error, "a call failed");
            }
            _ => tracing::debug!(service, method, outcome, ms, received, sent, error, "a call ended"),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        match &self.id {
            Some(id) => id.in_scope(|| self.end()),
            None => self.end(),
        }
    }
}

/// The answer to a call: its parts are made for the call's request.
pub(super) struct Answer {
    body: Body,
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, call } = &mut *self;
        let mut poll = || Pin::new(&mut *body).poll_frame(context);
        let polled = match &call.id {
            Some(id) => id.in_scope(poll),
            None => poll(),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            call.passing.send(frame.data_ref().map_or(0, |data| data.len() as u64));
            if let Some(trailers) = frame.trailers_ref() {
                call.look_at(trailers);
            }
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

/// How gRPC calls the outcome.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::admin::{Metrics, Readiness};
    use crate::drain::Drain;
    use crate::wire::HealthOf;

    /// The calls of a health service, counted, of which one has this body.
    async fn page_after(body: Vec<Result<Frame<Bytes>, Status>>) -> String {
        let (metrics, traffic) = (Metrics::new("test"), Traffic::grpc());
        traffic.register("grpc", &metrics);
        let health = HealthOf::new("a.Service", Readiness::default(), Drain::new(Duration::ZERO));
        let mut counted = Calls(traffic).layer(health);
        let body = Body::new(StreamBody::new(futures_util::stream::iter(body)));
        let request = Request::post("/grpc.health.v1.Health/Check").body(body).unwrap();
        let answer = counted.call(request).await.unwrap();
        drop(answer.into_body().collect().await);
        metrics.encode()
    }

    #[tokio::test]
    async fn a_call_that_its_client_gave_up_is_no_internal_error() {
        let counted = |outcome: &str| {
            format!(
                "speedy_grpc_requests_total{{service=\"grpc.health.v1.Health\",method=\"Check\",outcome=\"{outcome}\"}} 1"
            )
        };
        for broken in
            [Status::cancelled("the stream was reset"), Status::unknown("the connection was closed")]
        {
            let given_up = page_after(vec![Err(broken)]).await;
            assert!(given_up.contains(&counted("cancelled")), "{given_up}");
        }
        let no_message = page_after(Vec::new()).await;
        assert!(no_message.contains(&counted("internal")), "{no_message}");
        let empty = Frame::data(Bytes::from_static(&[0; 5]));
        let checked = page_after(vec![Ok(empty)]).await;
        assert!(checked.contains(&counted("ok")), "{checked}");
    }
}
