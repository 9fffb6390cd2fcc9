use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Request, Response};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Status, Streaming};
use tower::Service;

use super::outgoing::{Sending, Side};
use super::{Carrier, Incoming, Outgoing};
use crate::wire::Connection;

/// A connection for one call, whose body takes the place of the one that a generated client makes.
pub(crate) struct Instead {
    connection: Connection,
    body: Option<Body>,
}

impl Instead {
    pub(crate) fn new(connection: Connection, body: Body) -> Self {
        Self { connection, body: Some(body) }
    }
}

impl Service<Request<Body>> for Instead {
    type Response = <Connection as Service<Request<Body>>>::Response;
    type Error = <Connection as Service<Request<Body>>>::Error;
    type Future = <Connection as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.connection, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let body = self.body.take();
        self.connection.call(request.map(|empty| body.unwrap_or(empty)))
    }
}

/// A body on its way past the generated code, among the extensions of its request or response.
#[derive(Clone)]
struct Aside(Arc<Mutex<Option<Body>>>);

impl Aside {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    fn take(self) -> Option<Body> {
        self.0.lock().take()
    }
}

/// A generated service of which one call's payload does not go through the library's codec.
#[derive(Clone, Debug)]
pub struct PayloadService<S> {
    inner: S,
    /// The call whose request carries a payload.
    write: &'static str,
}

impl<S> PayloadService<S> {
    /// The service, the requests of whose call `write` carry payloads.
    pub(crate) fn new(inner: S, write: &'static str) -> Self {
        Self { inner, write }
    }
}

impl<S: NamedService> PayloadService<S> {
    fn is_write(&self, path: &str) -> bool {
        let call = path.strip_prefix('/').and_then(|path| path.strip_prefix(S::NAME));
        call.and_then(|call| call.strip_prefix('/')) == Some(self.write)
    }
}

impl<S: NamedService> NamedService for PayloadService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for PayloadService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + NamedService,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if self.is_write(request.uri().path()) {
            let body = std::mem::take(request.body_mut());
            request.extensions_mut().insert(Aside::new(body));
        }
        Answering(self.inner.call(request))
    }
}

/// Puts the body that a call answers with in its place.
#[derive(Debug)]
pub struct Answering<F>(F);

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.0).poll(context))?;
        if let Some(body) = response.extensions_mut().remove::<Aside>().and_then(Aside::take) {
            *response.body_mut() = body;
        }
        Poll::Ready(Ok(response))
    }
}

impl<M: Carrier> Incoming<M> {
    /// The messages of a request, which a [`PayloadService`] has put aside.
    ///
    /// # Errors
    /// Where the service is none.
    pub(crate) fn of(mut request: tonic::Request<Streaming<M>>) -> Result<Self, Status> {
        let body = request.extensions_mut().remove::<Aside>().and_then(Aside::take);
        body.map(Self::new).ok_or_else(|| Status::internal("the body of this call was not put aside"))
    }
}

/// The answer of a call of a [`PayloadService`] that streams messages with payloads.
pub(crate) fn answer<M: Outgoing + Send + 'static>(
    messages: BoxStream<'static, Result<M, Status>>,
) -> tonic::Response<BoxStream<'static, Result<M, Status>>> {
    let mut response = tonic::Response::new(stream::empty().boxed());
    response.extensions_mut().insert(Aside::new(Body::new(Sending::new(messages, Side::Server))));
    response
}
