//! Search: which names of repositories hold a word.
//!
//! # What it costs
//! No index can be asked for a word in the middle of names, so all names are looked through, in memory: 100,000 of them are
//! 2.5 MB of text, which is one pass; `docs/registry.md` has figures. They are read from the
//! metadata store, 10,000 at a time, at most once in [`search_age`](super::super::RegistryOptions::search_age) however many
//! searches there are, counted in the memory budget, and kept until the next search that finds them too old. So a name is found that
//! long after its repository was made, at the latest. Names beyond an eighth of the budget (a million of 30 bytes at the default)
//! are left out, and the log says so.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use memchr::{memchr, memmem, memrchr};
use serde_json::{Value, json};
use speedy_core::blob::BlobError;
use speedy_core::budget::Reservation;
use speedy_core::meta::MAX_PAGE_ENTRIES;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::ApiError;
use super::{Call, json as json_response};
use crate::registry::access::Action;
use crate::registry::names::MAX_NAME;

/// Results on a page, where the client does not say.
const PAGE: usize = 25;
/// The most results on a page.
const MOST: usize = 100;
/// The part of the memory budget that names may take.
const SHARE: u64 = 8;
/// Text up to this is looked through where it is: a hop to another thread costs as much.
const SEARCH_HERE: usize = 64 << 10;

/// The names of all repositories, as they were a moment ago.
#[derive(Debug, Default)]
pub(in crate::registry) struct Names(Mutex<Option<Arc<Known>>>);

#[derive(Debug)]
struct Known {
    /// A line each, with a line feed before the first; those of v1 may be there a second time.
    text: String,
    since: Instant,
    _reserved: Option<Reservation>,
}

/// `GET /v1/search`
pub(super) async fn search(call: &Call) -> Result<Response, ApiError> {
    call.authorize(Action::Catalog, None).await?;
    let term = call.query("q").unwrap_or_default().into_owned();
    let n = number(call, "n")?.unwrap_or(PAGE).min(MOST);
    let page = number(call, "page")?.unwrap_or(1);
    let word = term.trim().to_lowercase();
    let known = known(call).await?;
    let found = if known.text.len() <= SEARCH_HERE {
        matches(&known.text, &word, n, page)
    } else {
        let searched = tokio::task::spawn_blocking(move || matches(&known.text, &word, n, page)).await;
        searched.map_err(|error| BlobError::Unavailable(format!("a search ended: {error}")))?
    };
    let result = |name: String| {
        json!({
            "name": name,
            "description": "",
            "star_count": 0,
            "is_official": false,
            "is_automated": false,
            "is_trusted": false,
        })
    };
    let body = json!({
        "query": term,
        "num_results": found.total,
        "num_pages": found.total.div_ceil(n),
        "page": page,
        "page_size": n,
        "results": found.names.into_iter().map(result).collect::<Value>(),
    });
    Ok(json_response(StatusCode::OK, &body))
}

/// A query parameter that counts from one.
fn number(call: &Call, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(text) = call.query(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are more than there are.
    let number = digits.then(|| text.parse().unwrap_or(usize::MAX)).filter(|&number| number > 0);
    number.map(Some).ok_or_else(|| ApiError::bad_request(format!("`{name}` is not a number from 1 on")))
}

/// The names, read again where they are too old. Searches that meet wait for one reading.
async fn known(call: &Call) -> Result<Arc<Known>, BlobError> {
    let mut held = call.registry.0.names.0.lock().await;
    let age = call.registry.0.options.search_age;
    if let Some(known) = held.as_ref().filter(|known| known.since.elapsed() < age) {
        return Ok(Arc::clone(known));
    }
    // The memory of the old ones is free before that of the new is taken.
    *held = None;
    let known = Arc::new(read(call).await?);
    *held = Some(Arc::clone(&known));
    Ok(known)
}

async fn read(call: &Call) -> Result<Known, BlobError> {
    let (repositories, images) = (call.repositories(), call.images());
    let budget = repositories.blobs().budget();
    let most = budget.total() / SHARE;
    let mut known = Known { text: String::from("\n"), since: Instant::now(), _reserved: None };
    for of_v1 in [false, true] {
        let mut last: Option<String> = None;
        loop {
            let (names, more) = if of_v1 {
                images.names(last.as_deref(), MAX_PAGE_ENTRIES).await?
            } else {
                let listing = repositories.catalog(last.as_deref(), MAX_PAGE_ENTRIES).await?;
                (listing.names, listing.more)
            };
            let bytes: usize = names.iter().map(|name| name.len() + 1).sum();
            if (known.text.len() + bytes) as u64 > most {
                tracing::warn!(
                    bytes = known.text.len(),
                    "searches look through the first names only: all of them take more than an eighth of the memory budget"
                );
                return Ok(known);
            }
            let reserved = budget.reserve(bytes as u64).await;
            match &mut known._reserved {
                Some(all) => all.merge(reserved),
                None => known._reserved = Some(reserved),
            }
            known.text.reserve_exact(bytes);
            for name in &names {
                known.text.push_str(name);
                known.text.push('\n');
            }
            last = names.into_iter().next_back();
            if !more || last.is_none() {
                break;
            }
        }
    }
    Ok(known)
}

/// A page of what was found.
#[derive(PartialEq, Eq, Debug)]
struct Found {
    total: usize,
    names: Vec<String>,
}

/// The names that hold `word`: first the one that is it, then those of which a part begins with it, then the others; each
/// in order.
fn matches(text: &str, word: &str, n: usize, page: usize) -> Found {
    // By rank. Names come in order, those of v1 behind the others.
    let mut found: [Vec<&str>; 3] = Default::default();
    if word.is_empty() {
        found[1] = text.split_terminator('\n').skip(1).collect();
    } else if word.len() <= MAX_NAME && !word.contains('\n') {
        let mut hits = memmem::find_iter(text.as_bytes(), word.as_bytes()).peekable();
        while let Some(hit) = hits.next() {
            let start = memrchr(b'\n', &text.as_bytes()[..hit]).map_or(0, |feed| feed + 1);
            let end = memchr(b'\n', &text.as_bytes()[hit..]).map_or(text.len(), |feed| hit + feed);
            let name = &text[start..end];
            let mut rank = rank(name, word, hit - start);
            while let Some(hit) = hits.next_if(|&hit| hit < end) {
                rank = rank.min(self::rank(name, word, hit - start));
            }
            found[rank].push(name);
        }
    }
    for names in &mut found {
        // Two runs that are in order, which this sort finds.
        names.sort();
        names.dedup();
    }
    let names = found.iter().flatten().skip(n.saturating_mul(page - 1)).take(n);
    Found { total: found.iter().map(Vec::len).sum(), names: names.map(|&name| name.to_owned()).collect() }
}

/// How good a hit at this place of a name is. Of two hits that overlap the first is enough: a part begins with neither or
/// with the first, because a word that reaches from one part into the next is the beginning of none.
fn rank(name: &str, word: &str, at: usize) -> usize {
    let part = name[..at].rfind('/').map_or(0, |slash| slash + 1);
    let is_last = name[part..] == *word;
    if name == word || is_last {
        0
    } else if at == 0 || (at == part && !word.contains('/')) {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(names: &[&str], word: &str, n: usize, page: usize) -> (usize, Vec<String>) {
        let text: String =
            std::iter::once("\n".to_owned()).chain(names.iter().map(|name| format!("{name}\n"))).collect();
        let found = matches(&text, word, n, page);
        (found.total, found.names)
    }

    #[test]
    fn the_best_come_first() {
        let names = ["a/my-app", "app", "apps/x", "library/app", "other", "x/app-y"];
        let all = ["app", "library/app", "apps/x", "x/app-y", "a/my-app"];
        assert_eq!(find(&names, "app", 25, 1), (5, all.map(str::to_owned).to_vec()));
        assert_eq!(find(&names, "app", 2, 2), (5, all[2..4].iter().map(ToString::to_string).collect()));
        assert_eq!(find(&names, "app", 2, 4), (5, vec![]));
        assert_eq!(find(&names, "app", 100, usize::MAX), (5, vec![]));
        assert_eq!(find(&names, "nothing", 25, 1), (0, vec![]));
        assert_eq!(find(&names, "", 25, 1).0, 6);
        assert_eq!(find(&[], "", 25, 1), (0, vec![]));
        assert_eq!(find(&["a", "b"], "a\nb", 25, 1), (0, vec![]));
        // One name of both interfaces is one result.
        assert_eq!(find(&["a/b", "a/b"], "b", 25, 1).0, 1);
    }

    proptest! {
        #[test]
        fn it_finds_what_holds_the_word(
            names in prop::collection::btree_set("[ab/.]{1,8}", 0..40),
            word in "[ab/]{0,3}",
            n in 1usize..9,
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let expected: Vec<&str> = names.iter().copied().filter(|name| name.contains(&word)).collect();
            let mut all = Vec::new();
            for page in 1.. {
                let (total, names) = find(&names, &word, n, page);
                prop_assert_eq!(total, expected.len());
                if names.is_empty() {
                    break;
                }
                prop_assert!(names.len() <= n);
                all.extend(names);
            }
            all.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }
}
