//! The health service of gRPC, `grpc.health.v1`, which also load balancers and orchestrators ask.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Peer;
use crate::admin::Readiness;
use crate::drain::Drain;

/// Where an answer says what the process waits for.
const MISSING: &str = "speedy-not-ready";
/// Longest text there, in bytes. It travels in HTTP/2 headers.
const MAX_MISSING: usize = 512;
/// How long a process may take to say how it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How often a watcher's status is looked up.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What a process says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    /// It serves.
    Ready,
    /// It runs, and waits for something.
    NotReady(String),
    /// It does not say.
    Away(String),
}

/// Asks a peer how the service is that it is needed for, for a short time. One of a release that does not know the question
/// counts as ready. An earlier release answers the same for every name, also for services that it does not offer.
pub(super) async fn ask(peer: &Peer) -> Health {
    let mut client = HealthClient::new(peer.control());
    let question = client.check(HealthCheckRequest { service: peer.service().to_owned() });
    match tokio::time::timeout(ANSWER_LIMIT, question).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Health::Ready,
        Ok(Ok(answer)) => {
            let missing = answer.metadata().get(MISSING).and_then(|text| text.to_str().ok());
            Health::NotReady(missing.unwrap_or("it says that it does not serve").to_owned())
        }
        Ok(Err(status)) if status.code() == Code::Unimplemented => Health::Ready,
        Ok(Err(status)) if status.code() == Code::NotFound => {
            Health::NotReady("it does not offer this service: is this the address of such a node?".to_owned())
        }
        Ok(Err(status)) => Health::Away(super::errors::cause(&status)),
        Err(_) => Health::Away(format!("no answer in {} s", ANSWER_LIMIT.as_secs())),
    }
}

/// Answers with what `/readyz` answers, for the process as a whole (which has no name) and for the service that it offers.
#[derive(Clone, Debug)]
pub(crate) struct HealthOf {
    service: &'static str,
    readiness: Readiness,
    drain: Drain,
}

impl HealthOf {
    /// The health of a process that offers a service of this name.
    pub(crate) fn new(service: &'static str, readiness: Readiness, drain: Drain) -> HealthServer<Self> {
        HealthServer::new(Self { service, readiness, drain })
    }

    fn knows(&self, request: &Request<HealthCheckRequest>) -> bool {
        let asked = &request.get_ref().service;
        asked.is_empty() || asked == self.service
    }

    fn missing(&self) -> Vec<String> {
        self.readiness.missing(&self.drain)
    }
}

fn answer(missing: &[String]) -> HealthCheckResponse {
    let status = if missing.is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

/// What is missing, as metadata can carry it.
fn text(missing: &[String]) -> Option<AsciiMetadataValue> {
    let printable = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    let text: String = missing.join("; ").chars().map(printable).take(MAX_MISSING).collect();
    (!text.is_empty()).then(|| text.parse().ok()).flatten()
}

#[async_trait]
impl HealthService for HealthOf {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(&request) {
            return Err(Status::not_found(format!("this process offers {}", self.service)));
        }
        let missing = self.missing();
        let mut response = Response::new(answer(&missing));
        if let Some(text) = text(&missing) {
            response.metadata_mut().insert(MISSING, text);
        }
        Ok(response)
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now, and each other one from then on, until the process drains. That of a service which the process does not
    /// offer never changes.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watched = self.clone();
        if !self.knows(&request) {
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            let drained = async move { watched.drain.started().await };
            let statuses = stream::iter([Ok(unknown)]).chain(stream::pending().take_until(drained));
            return Ok(Response::new(statuses.boxed()));
        }
        let statuses = stream::unfold((watched, None), |(watched, last)| async move {
            loop {
                let draining = watched.drain.has_started();
                let now = answer(&watched.missing());
                if last != Some(now) {
                    return Some((Ok(now), (watched, Some(now))));
                }
                if draining {
                    return None;
                }
                tokio::select! {
                    () = watched.drain.started() => {}
                    () = tokio::time::sleep(WATCH_EVERY) => {}
                }
            }
        });
        Ok(Response::new(statuses.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_says_what_readyz_says() {
        let (readiness, drain) = (Readiness::default(), Drain::new(Duration::ZERO));
        let condition = readiness.condition("the master", "no answer\nyet: é");
        let health = HealthOf { service: "a.Service", readiness, drain: drain.clone() };
        let check = || health.check(Request::new(HealthCheckRequest::default()));
        let answer = check().await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::NotServing);
        assert_eq!(answer.metadata().get(MISSING).unwrap(), "the master: no answer?yet: ?");
        condition.met();
        let answer = check().await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
        assert!(answer.metadata().get(MISSING).is_none());
        drain.start();
        let answer = check().await.unwrap();
        assert_eq!(answer.metadata().get(MISSING).unwrap(), "the process is draining");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_hears_of_each_change_until_the_drain() {
        let (readiness, drain) = (Readiness::default(), Drain::new(Duration::ZERO));
        let condition = readiness.condition("the master", "no answer yet");
        let health = HealthOf { service: "a.Service", readiness, drain: drain.clone() };
        let mut watched =
            health.watch(Request::new(HealthCheckRequest::default())).await.unwrap().into_inner();
        let mut next = async || watched.next().await.map(|status| status.unwrap().status());
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        condition.met();
        assert_eq!(next().await, Some(ServingStatus::Serving));
        drain.start();
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn it_answers_for_the_service_that_it_offers_and_no_other() {
        let health = HealthOf {
            service: "a.Service",
            readiness: Readiness::default(),
            drain: Drain::new(Duration::ZERO),
        };
        let request = |name: &str| Request::new(HealthCheckRequest { service: name.to_owned() });
        for name in ["", "a.Service"] {
            let answer = health.check(request(name)).await.unwrap();
            assert_eq!(answer.get_ref().status(), ServingStatus::Serving, "{name}");
        }
        assert_eq!(health.check(request("another.Service")).await.unwrap_err().code(), Code::NotFound);
        let mut watched = health.watch(request("another.Service")).await.unwrap().into_inner();
        assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        health.drain.start();
        assert!(watched.next().await.is_none());
    }

    /// The peer behind this health service.
    async fn asked(service: &'static str, health: HealthServer<impl HealthService>) -> Health {
        let listener = crate::listen::listen(&"127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let address = listener.local_addr().unwrap().into();
        let routes = tonic::service::Routes::new(health);
        tokio::spawn(crate::wire::serve(listener, routes, Drain::new(Duration::ZERO)));
        ask(&Peer::new(address, service)).await
    }

    /// As an earlier release answers: the same whatever the name.
    struct Earlier;

    #[async_trait]
    impl HealthService for Earlier {
        async fn check(
            &self,
            _: Request<HealthCheckRequest>,
        ) -> Result<Response<HealthCheckResponse>, Status> {
            Ok(Response::new(answer(&[])))
        }

        type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

        async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
            Err(Status::unimplemented("nobody watches"))
        }
    }

    #[tokio::test]
    async fn a_peer_that_offers_something_else_is_not_ready() {
        let current = || HealthOf::new("a.Service", Readiness::default(), Drain::new(Duration::ZERO));
        assert_eq!(asked("a.Service", current()).await, Health::Ready);
        let other = asked("another.Service", current()).await;
        assert!(
            matches!(&other, Health::NotReady(why) if why.contains("does not offer this service")),
            "{other:?}"
        );
        assert_eq!(asked("a.Service", HealthServer::new(Earlier)).await, Health::Ready);
    }
}
