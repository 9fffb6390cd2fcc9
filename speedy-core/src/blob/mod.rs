//! Blobs over fragments and metadata.

mod fragments;

pub use fragments::{Fragment, FragmentError, FragmentPage, Fragments, ListCursor, Payload};
