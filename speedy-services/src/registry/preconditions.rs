//! `If-Match` and `If-None-Match`: what has to be there, or not, for a request to be carried out (RFC 9110, section 13).
//! The entity tag of content is its digest, in quotes.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};
use speedy_core::digest::Digest;

/// The preconditions of a request. Without any it is always carried out.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Preconditions {
    matches: Option<Vec<EntityTag>>,
    none_matches: Option<Vec<EntityTag>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum EntityTag {
    /// `*`: whatever is there.
    Any,
    Strong(Digest),
    Weak(Digest),
    /// One that nothing here has.
    Other,
}

impl Preconditions {
    /// Those of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self { matches: tags(headers, &IF_MATCH), none_matches: tags(headers, &IF_NONE_MATCH) }
    }

    /// Whether what is there now, if anything, is what the client says that it is.
    pub(crate) fn match_holds(&self, current: Option<&Digest>) -> bool {
        let is = |tag: &EntityTag| match tag {
            EntityTag::Any => current.is_some(),
            EntityTag::Strong(digest) => current == Some(digest),
            EntityTag::Weak(_) | EntityTag::Other => false,
        };
        self.matches.as_ref().is_none_or(|tags| tags.iter().any(is))
    }

    /// Whether what is there now, if anything, is none of what the client names.
    pub(crate) fn none_match_holds(&self, current: Option<&Digest>) -> bool {
        let is = |tag: &EntityTag| match tag {
            EntityTag::Any => current.is_some(),
            EntityTag::Strong(digest) | EntityTag::Weak(digest) => current == Some(digest),
            EntityTag::Other => false,
        };
        !self.none_matches.as_ref().is_some_and(|tags| tags.iter().any(is))
    }

    /// Whether a change of what is there now may be made.
    pub(crate) fn hold(&self, current: Option<&Digest>) -> bool {
        self.match_holds(current) && self.none_match_holds(current)
    }
}

/// The entity tags of all headers of a name, which are one list.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<EntityTag>> {
    let values: Vec<&[u8]> =
        headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    match values[..] {
        [] => None,
        // It stands alone: a star in a list is part of a tag with a comma.
        [b"*"] => Some(vec![EntityTag::Any]),
        _ => Some(values.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(tag).collect()),
    }
}

fn tag(text: &[u8]) -> EntityTag {
    let text = text.trim_ascii();
    let (is_weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let digest = quoted
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .and_then(|digest| std::str::from_utf8(digest).ok()?.parse().ok());
    match digest {
        Some(digest) if is_weak => EntityTag::Weak(digest),
        Some(digest) => EntityTag::Strong(digest),
        None => EntityTag::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preconditions(headers: &[(HeaderName, &str)]) -> Preconditions {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        Preconditions::of(&map)
    }

    #[test]
    fn a_change_is_made_where_they_hold() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let (of_a, weak_a) = (format!("\"{a}\""), format!("W/\"{a}\""));
        let two = format!("\"x\" , {of_a}");
        // Whether it holds for nothing, for a, and for b.
        for (headers, expected) in [
            (vec![], [true, true, true]),
            (vec![(IF_MATCH, "*")], [false, true, true]),
            (vec![(IF_MATCH, &*of_a)], [false, true, false]),
            (vec![(IF_MATCH, &*two)], [false, true, false]),
            (vec![(IF_MATCH, "\"x\""), (IF_MATCH, &*of_a)], [false, true, false]),
            (vec![(IF_MATCH, &*weak_a)], [false, false, false]),
            (vec![(IF_MATCH, "")], [false, false, false]),
            (vec![(IF_MATCH, "\"a,*,b\"")], [false, false, false]),
            (vec![(IF_NONE_MATCH, "*")], [true, false, false]),
            (vec![(IF_NONE_MATCH, &*of_a)], [true, false, true]),
            (vec![(IF_NONE_MATCH, &*weak_a)], [true, false, true]),
            (vec![(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, &*of_a)], [true, false, true]),
            (vec![(IF_NONE_MATCH, "x, \"y")], [true, true, true]),
            (vec![(IF_MATCH, "*"), (IF_NONE_MATCH, &*of_a)], [false, false, true]),
        ] {
            let read = preconditions(&headers);
            let holds = [None, Some(&a), Some(&b)].map(|current| read.hold(current));
            assert_eq!(holds, expected, "{headers:?}");
        }
    }
}
