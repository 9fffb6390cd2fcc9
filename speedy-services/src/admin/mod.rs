//! The admin address of every role: `/healthz`, `/readyz`, `/metrics`.

mod gc;
mod meta;
mod metrics;
mod readiness;
mod registry;
mod store;
mod traffic;

pub use gc::{RepositoryUsage, gc_router};
pub use meta::meta_router;
pub use metrics::Metrics;
pub use readiness::{Condition, Readiness};
pub use registry::{Aborted, ReadOnlyState, UploadPage, UploadState, registry_router};
pub use store::store_router;
pub use traffic::{Passing, Traffic};

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use tower::ServiceExt;

use crate::drain::Drain;

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Readiness,
    drain: Drain,
}

/// Pages that a role adds once it has what they are about. Until it has added all, it says of others that it is starting.
#[derive(Clone, Debug, Default)]
pub struct MorePages(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    router: Router,
    are_all: bool,
}

impl MorePages {
    /// Adds them.
    ///
    /// # Panics
    /// If one of them is there already.
    pub fn add(&self, router: Router) {
        let mut pages = self.0.lock();
        pages.router = std::mem::take(&mut pages.router).merge(router);
    }

    /// Says that no more are to come: what is not there now is not found.
    pub fn are_all(&self) {
        self.0.lock().are_all = true;
    }

    fn router(&self) -> Router {
        let pages = self.0.lock();
        let router = pages.router.clone();
        if pages.are_all {
            return router;
        }
        router.fallback(async || {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "it is still starting; try again when /readyz says that it is ready\n",
            )
        })
    }
}

/// The pages of the admin address.
pub fn router(metrics: Metrics, readiness: Readiness, drain: Drain, more: MorePages) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Admin { metrics, readiness, drain })
        .fallback(async move |request: Request| more.router().oneshot(request).await.into_response())
}

/// 200 when the process can serve; otherwise 503 and the reasons, one a line.
async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let missing = admin.readiness.missing(&admin.drain);
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, admin.metrics.encode())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_tells_its_reasons_until_it_drains() {
        let (readiness, drain) = (Readiness::default(), Drain::new(Duration::ZERO));
        let router = router(Metrics::new("test"), readiness.clone(), drain.clone(), MorePages::default());
        let condition = readiness.condition("master", "it has not answered yet");
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let expected = (StatusCode::SERVICE_UNAVAILABLE, "master: it has not answered yet\n".to_owned());
        assert_eq!(get(&router, "/readyz").await, expected);
        condition.met();
        assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
        drain.announce();
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn pages_that_are_still_to_come_are_not_said_to_be_missing() {
        let more = MorePages::default();
        let (readiness, drain) = (Readiness::default(), Drain::new(Duration::ZERO));
        let router = router(Metrics::new("test"), readiness, drain, more.clone());
        more.add(Router::new().route("/early", axum::routing::get(async || "early")));
        assert_eq!(get(&router, "/early").await, (StatusCode::OK, "early".to_owned()));
        let (status, text) = get(&router, "/late").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("still starting"), "{text}");
        more.add(Router::new().route("/late", axum::routing::get(async || "late")));
        more.are_all();
        assert_eq!(get(&router, "/late").await, (StatusCode::OK, "late".to_owned()));
        assert_eq!(get(&router, "/nowhere").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn metrics_hold_what_the_process_is_and_what_a_role_adds() {
        let metrics = Metrics::new("test");
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        metrics.register(|registry| registry.register("things", "Things that happened", counter.clone()));
        counter.inc_by(3);
        let router = router(metrics, Readiness::default(), Drain::new(Duration::ZERO), MorePages::default());
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("speedy_build_info{"), "{text}");
        assert!(text.contains("role=\"test\""), "{text}");
        assert!(text.contains("speedy_things_total 3"), "{text}");
        let memory =
            text.lines().find_map(|line| line.strip_prefix("speedy_process_anonymous_memory_bytes "));
        assert!(memory.unwrap().parse::<f64>().unwrap() > 100_000.0, "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
