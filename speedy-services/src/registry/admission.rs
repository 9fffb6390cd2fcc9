//! Whether a request is let in at all, whatever it is about: read-only mode, and the limits on clients.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use speedy_core::meta::MetaStore;

use super::body::RequestBody;
use super::limits::{Exceeded, Gate, Limits, Place};
use super::mode::{Mode, ReadOnly};
use crate::admin::Metrics;

/// The methods that read-only mode leaves.
pub(crate) const READS: &str = "GET, HEAD";

/// Whether a request of this method changes anything.
pub(crate) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What a request is to the limits on clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Errand {
    /// It makes no sense and is refused in any case.
    Stray,
    /// It begins what its client goes on with.
    Begins,
    /// It goes on with what its client was let in with.
    GoesOn,
    /// Any other.
    Single,
}

/// What decides.
#[derive(Debug)]
pub(crate) struct Admission {
    mode: Arc<Mode>,
    gate: Gate,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    delayed: Family<[(&'static str, &'static str); 1], Counter>,
}

/// A request that was let in, until it is dropped: when its body has been read and what it changes is written.
#[derive(Debug)]
pub(crate) struct Admitted {
    _place: Option<Place>,
}

/// Why a request is not let in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    ReadOnly(Arc<ReadOnly>),
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
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
            Self::ReadOnly(_) => vec![(ALLOW, HeaderValue::from_static(READS))],
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
        let (refused, delayed) = (Family::default(), Family::default());
        for reason in ["read_only", "rate", "uploads", "client_uploads"] {
            // Shown from the start: a rate of what was never there can't be told.
            drop::<Counter>(refused.get_or_create_owned(&[("reason", reason)]));
        }
        for reason in ["rate", "uploads"] {
            drop::<Counter>(delayed.get_or_create_owned(&[("reason", reason)]));
        }
        Self { mode: Arc::new(Mode::new(meta)), gate: Gate::new(limits), refused, delayed }
    }

    pub(crate) fn mode(&self) -> &Arc<Mode> {
        &self.mode
    }

    /// Shows what is refused among the metrics of the process.
    pub(crate) fn register(&self, metrics: &Metrics) {
        let help = "Requests that were refused before they were looked at, by reason";
        metrics.register(|registry| registry.register("http_refused", help, self.refused.clone()));
        let help = "Requests that waited for their turn before they were looked at, by reason";
        metrics.register(|registry| registry.register("http_delayed", help, self.delayed.clone()));
    }

    /// Who sent the request with this head.
    pub(crate) fn client(&self, head: &Parts) -> Option<IpAddr> {
        self.gate.client(head)
    }

    /// Lets a request in when it is its turn, or says why not. It counts until what this gives is dropped.
    pub(crate) async fn admit(
        &self,
        head: &Parts,
        body: &RequestBody,
        errand: Errand,
    ) -> Result<Admitted, Refusal> {
        let admitted = self.decide(head, body, errand).await;
        if let Err(refusal) = &admitted {
            self.refused.get_or_create(&[("reason", refusal.name())]).inc();
        }
        admitted
    }

    async fn decide(&self, head: &Parts, body: &RequestBody, errand: Errand) -> Result<Admitted, Refusal> {
        let brings = !body.is_at_end();
        let wait = self.patience(head.version, brings, errand);
        let turn = self.gate.turn(head, wait)?;
        if !turn.is_zero() {
            self.delayed.get_or_create(&[("reason", "rate")]).inc();
            tokio::time::sleep(turn).await;
        }
        let changes = changes(&head.method);
        self.refuse_changes(changes)?;
        if errand == Errand::Begins && changes && !brings {
            self.gate.room(head)?;
        }
        let takes_place = changes && brings && errand != Errand::Stray;
        let place = if takes_place { self.gate.place(head, wait).await? } else { None };
        if place.as_ref().is_some_and(|place| place.waited) {
            self.delayed.get_or_create(&[("reason", "uploads")]).inc();
            self.refuse_changes(changes)?;
        }
        self.limit(body, 0);
        Ok(Admitted { _place: place })
    }

    /// How long a request may wait for its turn. To refuse one whose body is on its way means to cut its client off while it
    /// writes, or to take in bytes for nothing, so that one waits: nothing is read from it, and the client is held up by its
    /// own connection. Over HTTP/2 that would hold up all that the client has under way, and refusing is cheap.
    fn patience(&self, version: Version, brings: bool, errand: Errand) -> Duration {
        let limits = self.gate.limits();
        let long = match errand {
            Errand::Stray => false,
            _ if brings => version < Version::HTTP_2,
            Errand::GoesOn => true,
            Errand::Begins | Errand::Single => false,
        };
        if long { limits.wait_body } else { limits.wait }
    }

    fn refuse_changes(&self, changes: bool) -> Result<(), Refusal> {
        match self.mode.known().filter(|_| changes) {
            Some(mode) => Err(Refusal::ReadOnly(mode)),
            None => Ok(()),
        }
    }

    /// Holds a body to what is left of the largest blob after `held` bytes of it.
    pub(crate) fn limit(&self, body: &RequestBody, held: u64) {
        if let Some(most) = self.gate.limits().blob {
            body.must_not_exceed(most, held);
        }
    }
}
