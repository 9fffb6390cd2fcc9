//! The admin pages of a process that knows the repositories: what `speedy gc` and `speedy usage` ask.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use speedy_core::blob::{BlobError, BlobStore};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::drain::Drain;
use crate::registry::gc::report::Report;
use crate::registry::gc::{Ages, Gc, status};
use crate::registry::names::RepositoryName;
use crate::registry::{Repositories, Usage, Usages};
use crate::tools::store::report::Line;

/// Repositories in one answer at most.
const PAGE: usize = 100;

#[derive(Clone)]
struct Pages {
    usages: Usages,
    blobs: BlobStore,
    gc: Option<Gc>,
    drain: Drain,
}

/// What a repository takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RepositoryUsage {
    /// The repository.
    pub repository: String,
    /// Its blobs, each counted once.
    pub blobs: u64,
    /// Their bytes.
    pub logical: u64,
    /// Those of them that other repositories have too.
    pub shared: u64,
    /// Those of them that no other has.
    pub unique: u64,
}

/// `/gc/status` and `/usage`, and `/gc/run` where this process collects.
pub fn gc_router(blobs: BlobStore, gc: Option<Gc>, drain: Drain) -> Router {
    let router = Router::new().route("/gc/status", get(gc_status)).route("/usage", get(usage));
    let router = if gc.is_some() { router.route("/gc/run", post(run)) } else { router };
    let usages = Usages::new(Repositories::new(blobs.clone()));
    router.with_state(Pages { usages, blobs, gc, drain })
}

async fn gc_status(State(pages): State<Pages>) -> Response {
    answer(status(&pages.blobs, pages.gc.as_ref()).await)
}

/// What is not given is as the process has it; the largest number of milliseconds is for ever.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunQuery {
    untagged: Option<u64>,
    unreferenced: Option<u64>,
    rate: Option<NonZeroU32>,
    #[serde(default)]
    dry_run: u8,
}

impl RunQuery {
    fn ages(&self, own: Ages) -> Ages {
        let age = |given: Option<u64>, own| match given {
            None => own,
            Some(u64::MAX) => None,
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
        };
        Ages {
            untagged: age(self.untagged, own.untagged),
            unreferenced: age(self.unreferenced, own.unreferenced),
        }
    }
}

/// Runs, and answers one line of JSON at its end. Ends early when the client has gone, or the process drains.
async fn run(State(pages): State<Pages>, Query(query): Query<RunQuery>) -> Response {
    let Some(gc) = pages.gc else { return StatusCode::NOT_FOUND.into_response() };
    let ages = query.ages(gc.ages());
    let (lines, answer) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let work = async {
            match query.dry_run {
                0 => gc.run_now(ages, query.rate).await,
                _ => gc.rehearse(ages, query.rate).await,
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = lines.closed() => return gc.release().await,
            () = pages.drain.started() => {
                Err(BlobError::Unavailable("the process ends; what the run has freed stays freed".into()))
            }
        };
        let done: Line<Report> = done.map_or_else(|error| Line::Error(error.to_string()), Line::Report);
        let mut line = serde_json::to_vec(&done).expect("reports have no keys but strings");
        line.push(b'\n');
        // Nobody may be there any more.
        let _ = lines.send(line.into()).await;
    });
    let answer = tokio_stream::StreamExt::map(ReceiverStream::new(answer), Ok::<_, std::convert::Infallible>);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(answer)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    repository: Option<String>,
    after: Option<String>,
}

/// What one repository takes, or the next ones after a name, in order: a list of at most a hundred. The list is empty
/// where there is no such repository.
async fn usage(State(pages): State<Pages>, Query(query): Query<UsageQuery>) -> Response {
    let name = match query.repository.as_deref().map(str::parse::<RepositoryName>).transpose() {
        Ok(name) => name,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    answer(pages.usage(name, query.after).await)
}

impl Pages {
    async fn usage(
        &self,
        name: Option<RepositoryName>,
        after: Option<String>,
    ) -> Result<Vec<RepositoryUsage>, BlobError> {
        if let Some(name) = name {
            return Ok(self
                .usages
                .of(&name)
                .await?
                .map(|usage| described(&name, usage))
                .into_iter()
                .collect());
        }
        let (mut list, mut last) = (Vec::new(), after);
        while list.len() < PAGE {
            let Some(name) = self.usages.next_repository(last.as_deref()).await? else { break };
            // One that went just now is passed over.
            list.extend(self.usages.of(&name).await?.map(|usage| described(&name, usage)));
            last = Some(name.to_string());
        }
        Ok(list)
    }
}

fn described(name: &RepositoryName, usage: Usage) -> RepositoryUsage {
    let Usage { blobs, logical, shared, unique } = usage;
    RepositoryUsage { repository: name.to_string(), blobs, logical, shared, unique }
}

fn answer<T: Serialize>(found: Result<T, BlobError>) -> Response {
    match found {
        Ok(found) => Json(found).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
