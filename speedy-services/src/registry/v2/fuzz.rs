use axum::response::IntoResponse;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::route::Route;
use crate::registry::range::{Requested, content_range, held, requested};

/// A path as it stands in a request: it leads somewhere, with a name that is one, or is refused with 400 or 404.
///
/// # Panics
/// Where that does not hold.
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = percent_decode_str(text).decode_utf8() else { return };
    match Route::parse(&path) {
        Ok(route) => {
            assert!(path.starts_with("/v2"));
            assert!(!route.name().is_empty());
            // There is none that takes nothing, and none that takes what nobody knows.
            let methods = [Method::GET, Method::POST];
            assert!(methods.iter().any(|method| route.check(method).is_ok()), "{path}");
            let odd = Method::from_bytes(b"BREW").expect("it is a method by its form");
            assert!(route.check(&odd).is_err());
            let is_list = matches!(route, Route::Tags(_));
            assert_eq!(is_list, path.ends_with("/tags/list") && path != "/v2/tags/list", "{path}");
        }
        Err(error) => {
            let status = error.into_response().status();
            assert!([StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].contains(&status), "{path}: {status}");
        }
    }
}

/// Eight bytes of a size, and a header: a part is inside of the blob, and what an upload's chunk claims is a range that
/// reads the same when it is written by the book.
///
/// # Panics
/// Where that does not hold.
pub fn ranges(data: &[u8]) {
    let Some((size, header)) = data.split_first_chunk::<8>() else { return };
    let size = u64::from_le_bytes(*size);
    let Ok(header) = std::str::from_utf8(header) else { return };
    match requested(header, size) {
        Requested::Part(range) => {
            assert!(range.start < range.end && range.end <= size);
            let again = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(requested(&again, size), Requested::Part(range));
        }
        // Whoever asks for the last byte of what is not empty can have it.
        Requested::Unsatisfiable => assert!(size == 0 || !header.ends_with("=-1")),
        Requested::Whole => {}
    }
    if let Some(range) = content_range(header) {
        assert!(range.start < range.end);
        let last = range.end - 1;
        for again in [format!("{}-{last}", range.start), format!("bytes {}-{last}/*", range.start)] {
            assert_eq!(content_range(&again), Some(range.clone()));
        }
        assert_eq!(content_range(&held(range.end)), Some(0..range.end));
    }
}
