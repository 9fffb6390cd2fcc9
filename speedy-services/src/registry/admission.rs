//! Whether a request is let in at all, whatever it is about: read-only mode, and the limits on clients.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ALLOW, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use speedy_core::meta::MetaStore;

use super::body::RequestBody;
use super::limits::{Exceeded, Gate, Limits, Place};
use super::mode::{Mode, ReadOnly};
use crate::admin::Metrics;

/// What decides.
#[derive(Debug)]
pub(crate) struct Admission {
    mode: Mode,
    gate: Gate,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

/// A request that was let in, until it is dropped: when its body has been read and what it changes is written.
#[derive(Debug)]
pub(crate) struct Admitted {
    _place: Option<Place>,
}

/// Why a request is not let in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the registry is read-only at the moment{}", reason(.0))]
    ReadOnly(Arc<ReadOnly>),
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
}

fn reason(mode: &ReadOnly) -> String {
    if mode.reason.is_empty() { String::new() } else { format!(": {}", mode.reason) }
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::ReadOnly(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Exceeded(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Headers that the status asks for.
    pub(crate) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::ReadOnly(_) => vec![(ALLOW, HeaderValue::from_static("GET, HEAD"))],
            Self::Exceeded(exceeded) => {
                let wait = exceeded.retry_after();
                // Whole seconds, of which the last one has to be over.
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                vec![(RETRY_AFTER, seconds.max(1).into())]
            }
        }
    }

    /// What it is called in metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::ReadOnly(_) => "read_only",
            Self::Exceeded(exceeded) => exceeded.name(),
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: Limits, meta: Arc<dyn MetaStore>) -> Self {
        let refused = Family::default();
        for reason in ["read_only", "rate", "uploads", "client_uploads"] {
            // Shown from the start: a rate of what was never there can't be told.
            drop::<Counter>(refused.get_or_create_owned(&[("reason", reason)]));
        }
        Self { mode: Mode::new(meta), gate: Gate::new(limits), refused }
    }

    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Shows what is refused among the metrics of the process.
    pub(crate) fn register(&self, metrics: &Metrics) {
        let help = "Requests that were refused before they were looked at, by reason";
        metrics.register(|registry| registry.register("http_refused", help, self.refused.clone()));
    }

    /// Who sent the request with this head.
    pub(crate) fn client(&self, head: &Parts) -> Option<IpAddr> {
        self.gate.client(head)
    }

    /// Lets a request in, or says why not. It counts until what this gives is dropped.
    pub(crate) fn admit(&self, head: &Parts, body: &RequestBody) -> Result<Admitted, Refusal> {
        let admitted = self.decide(head, body);
        if let Err(refusal) = &admitted {
            self.refused.get_or_create(&[("reason", refusal.name())]).inc();
        }
        admitted
    }

    fn decide(&self, head: &Parts, body: &RequestBody) -> Result<Admitted, Refusal> {
        self.gate.request(head)?;
        let changes = !matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if let Some(mode) = self.mode.known().filter(|_| changes) {
            return Err(Refusal::ReadOnly(mode));
        }
        let place = if changes && !body.is_at_end() { self.gate.upload(head)? } else { None };
        self.limit(body, 0);
        Ok(Admitted { _place: place })
    }

    /// Holds a body to what is left of the largest blob after `held` bytes of it.
    pub(crate) fn limit(&self, body: &RequestBody, held: u64) {
        if let Some(most) = self.gate.blob() {
            body.must_not_exceed(most, held);
        }
    }
}
