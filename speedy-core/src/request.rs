//! Which request work is done for, so that every line of a log can tell.
//!
//! Whoever takes in requests runs each in the [scope](RequestId::scope) of its id. What is logged there has the field
//! `request_id`, and whoever passes the work on, to another task or over a network, finds the id with
//! [`RequestId::current`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::{Instrument, Span};

/// Longest id, in bytes.
const MAX_LEN: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Names a request, in every process that has a part in it. Cheap to clone.
#[derive(Clone)]
pub struct RequestId(Arc<Named>);

struct Named {
    text: String,
    span: Span,
}

impl RequestId {
    /// The id with this text; `None` where it is no fit text. It goes into logs and headers, so it has 1 to 128 letters,
    /// digits and `-_.:/+=`, nothing else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        let fits = (1..=MAX_LEN).contains(&text.len()) && text.iter().all(plain);
        let text = std::str::from_utf8(text).ok().filter(|_| fits)?;
        Some(Self::named(text.to_owned()))
    }

    /// An id that no other request has, of this process or another.
    pub fn fresh() -> Self {
        static PROCESS: OnceLock<String> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let process = PROCESS.get_or_init(|| {
            let mut random = [0; 6];
            // Without randomness the process id has to do: it takes two such machines for two ids to be the same.
            if getrandom::fill(&mut random).is_err() {
                random[..4].copy_from_slice(&std::process::id().to_be_bytes());
            }
            hex::encode(random)
        });
        Self::named(format!("{process}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn named(text: String) -> Self {
        // Of the gravest level, so that it is there whatever the log leaves out.
        let span = tracing::error_span!("request", request_id = %text);
        Self(Arc::new(Named { text, span }))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The request that is worked for here, if any.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Work for this request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        let span = self.0.span.clone();
        CURRENT.scope(self, work.instrument(span)).await
    }

    /// Work for this request that is done at once, such as one poll of a stream.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), || self.0.span.in_scope(work))
    }
}

/// Work that is about to be handed over to another task, where it goes on for the request that is worked for here.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let request = RequestId::current();
    async move {
        match request {
            Some(request) => request.scope(work).await,
            None => work.await,
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for RequestId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_taken_over() {
        for id in ["a", "0af7651916cd43dd8448eb211c80319c", "Root=1-67891233-abcdef012345678912345678"] {
            assert_eq!(RequestId::parse(id.as_bytes()).unwrap().as_str(), id);
        }
        for id in ["", "a b", "a\"b", "a\tb", "é", &"a".repeat(129)] {
            assert!(RequestId::parse(id.as_bytes()).is_none(), "{id}");
        }
        let (one, two) = (RequestId::fresh(), RequestId::fresh());
        assert_ne!(one, two);
        assert_eq!(RequestId::parse(one.as_str().as_bytes()), Some(one));
    }

    #[tokio::test]
    async fn work_knows_its_request_and_takes_it_along() {
        assert_eq!(RequestId::current(), None);
        let id = RequestId::parse(b"one").unwrap();
        let seen = id.clone().scope(async {
            let lost = tokio::spawn(async { RequestId::current() }).await.unwrap();
            let kept = tokio::spawn(carried(async { RequestId::current() })).await.unwrap();
            (RequestId::current(), lost, kept)
        });
        assert_eq!(seen.await, (Some(id.clone()), None, Some(id.clone())));
        assert_eq!(id.in_scope(RequestId::current), Some(id));
        assert_eq!(RequestId::current(), None);
    }
}
