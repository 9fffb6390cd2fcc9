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

/// Asks a peer how it is, for a short time. One of a release that does not know the question counts as ready.
pub(super) async fn ask(peer: &Peer) -> Health {
    let mut client = HealthClient::new(peer.control());
    let question = client.check(HealthCheckRequest::default());
    match tokio::time::timeout(ANSWER_LIMIT, question).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Health::Ready,
        Ok(Ok(answer)) => {
            let missing = answer.metadata().get(MISSING).and_then(|text| text.to_str().ok());
            Health::NotReady(missing.unwrap_or("it says that it does not serve").to_owned())
        }
        Ok(Err(status)) if status.code() == Code::Unimplemented => Health::Ready,
        Ok(Err(status)) => Health::Away(super::errors::cause(&status)),
        Err(_) => Health::Away(format!("no answer in {} s", ANSWER_LIMIT.as_secs())),
    }
}

/// Answers with what `/readyz` answers, for every service of the process alike.
#[derive(Debug)]
pub(crate) struct HealthOf {
    readiness: Readiness,
    drain: Drain,
}

impl HealthOf {
    /// The service of a process.
    pub(crate) fn new(readiness: Readiness, drain: Drain) -> HealthServer<Self> {
        HealthServer::new(Self { readiness, drain })
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
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let missing = self.missing();
        let mut response = Response::new(answer(&missing));
        if let Some(text) = text(&missing) {
            response.metadata_mut().insert(MISSING, text);
        }
        Ok(response)
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now, and each other one from then on, until the process drains.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watched = Self { readiness: self.readiness.clone(), drain: self.drain.clone() };
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
        let health = HealthOf { readiness, drain: drain.clone() };
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
        let health = HealthOf { readiness, drain: drain.clone() };
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
}
