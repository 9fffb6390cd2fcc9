//! What is asked of a registry, clause by clause, in our words. An id is what checks name; it never changes its meaning.

use std::fmt;

/// How much a clause binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Force {
    /// The specification demands it.
    Must,
    /// The specification recommends it.
    Should,
    /// The specification allows it, and Speedy does it.
    May,
    /// The specification's development version has it, and no release yet.
    Development,
    /// HTTP, Docker's formats, or Speedy's own documentation promise it.
    Promised,
}

/// One thing that a registry does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clause {
    pub(crate) id: &'static str,
    /// Where it stands in the specification.
    pub(crate) chapter: &'static str,
    pub(crate) force: Force,
    pub(crate) says: &'static str,
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}, {:?}] {}", self.id, self.chapter, self.force, self.says)
    }
}

/// The clause of this id.
pub(crate) fn clause(id: &str) -> &'static Clause {
    CLAUSES.iter().find(|clause| clause.id == id).unwrap_or_else(|| panic!("no clause is called {id}"))
}

use Force::{Development, May, Must, Promised, Should};

macro_rules! clauses {
    ($($chapter:literal { $($id:literal $force:ident $says:literal)* })*) => {
        /// All of them, in the order of the specification.
        pub(crate) const CLAUSES: &[Clause] = &[$($(
            Clause { id: $id, chapter: $chapter, force: $force, says: $says },
        )*)*];
    };
}

clauses! {
    "Determining support" {
        "base" Must "GET /v2/ answers 200"
        "base-docker" Promised "every answer names the version of Docker's interface"
    }
    "Definitions and names" {
        "name" Must "a name of one or more components with separators inside is a repository"
        "name-length" Promised "a name may have 255 characters"
        "name-bad" Promised "what is no name is refused with 400 NAME_INVALID"
        "tag" Must "a tag has up to 128 letters, digits, dots, dashes and underscores and begins with none of the first two signs"
        "tag-bad" Must "a reference is a digest or a tag and nothing else"
        "algorithms" Promised "sha256 and sha512 name blobs and manifests alike"
    }
    "Pulling manifests" {
        "manifest-by-digest" Must "GET by digest answers 200 with the manifest"
        "manifest-by-tag" Must "GET by tag answers 200 with the manifest that the tag points to"
        "manifest-type" Must "Content-Type is the type that the manifest was pushed with, without parameters"
        "manifest-digest" Must "Docker-Content-Digest is the manifest's digest, in the algorithm that was asked for"
        "manifest-absent" Must "404 where there is no such manifest, tag or repository"
        "manifest-accept" Promised "whatever Accept names, the manifest comes as it was pushed"
    }
    "Pulling blobs" {
        "blob" Must "GET answers 200 with the bytes"
        "blob-digest" Must "Docker-Content-Digest is the digest of the bytes"
        "blob-absent" Must "404 where the repository does not have the blob"
        "blob-elsewhere" Promised "a blob of another repository is not visible"
        "digest-bad" Should "400 DIGEST_INVALID for a digest of bad form or of an unknown algorithm, never 500"
        "blob-alone" Must "a blob can be pulled before any manifest names it"
    }
    "Range requests (RFC 9110)" {
        "range" Should "206 with the bytes of one range, its Content-Range and its length"
        "range-open" Should "a range without an end goes to the end of the blob"
        "range-suffix" Should "a range without a beginning is the last bytes"
        "range-cut" Should "a range that ends beyond the blob ends with the blob"
        "range-none" Should "416 with the blob's length for a range without a byte of the blob, or with its end before its beginning"
        "range-ignored" Promised "several ranges, other units and what is no range give the whole blob"
        "range-told" Promised "Accept-Ranges says that ranges are served"
        "if-range" Promised "If-Range with another tag gives the whole blob"
    }
    "Caching (RFC 9110)" {
        "etag" Promised "blobs and manifests have an ETag, and If-None-Match with it answers 304"
    }
    "Checking if content exists" {
        "head-blob" Must "HEAD of a blob answers 200 with Content-Length and no body"
        "head-manifest" Must "HEAD of a manifest, by tag and by digest, answers 200 with Content-Length and no body"
        "head-digest" Must "HEAD tells the digest"
        "head-absent" Must "HEAD of what is absent answers 404"
    }
    "POST then PUT" {
        "session" Must "POST begins an upload: 202 with its Location"
        "session-id" Must "the Location has an id that no other upload has"
        "session-location" Promised "the Location is a path without scheme and host, and so right behind any proxy"
        "session-docker" Promised "what Docker reads is there: Docker-Upload-UUID, and Range up to the last byte, or 0-0"
        "put" Must "PUT with the whole blob and its digest answers 201"
        "put-location" Must "the Location of a 201 can be pulled"
        "put-digest" Promised "201 tells the digest in Docker-Content-Digest"
        "put-mismatch" Must "bytes of another digest are refused with 400 DIGEST_INVALID, and nothing can be pulled"
        "put-undigested" Promised "a PUT without a digest, or with a bad one, is refused with 400 DIGEST_INVALID"
        "put-again" Promised "pushing what is there already succeeds, also a PUT whose answer was lost"
        "empty-blob" Promised "a blob of no bytes is a blob"
    }
    "Single POST" {
        "post" May "POST with the digest and the whole blob answers 201 with a Location that can be pulled"
        "post-mismatch" Must "bytes of another digest are refused with 400 DIGEST_INVALID"
    }
    "Pushing a blob in chunks" {
        "chunk" Must "PATCH with Content-Range answers 202 with Location and with Range up to the last byte"
        "chunk-first" Must "the first chunk begins at 0"
        "chunk-order" Must "416 for a chunk that leaves a gap or overlaps"
        "chunk-order-last" Must "416 for a chunk out of order in the closing PUT, too"
        "chunk-told" Promised "the 416 says where the upload stands, in Range and Location"
        "chunk-resume" Must "after a 416 the upload goes on where it stands"
        "chunk-status" Must "GET of the upload answers 204 with Location and Range"
        "chunk-last" Must "the last chunk may come in the closing PUT"
        "chunk-close" Must "the closing PUT answers 201 with a Location that can be pulled"
        "chunk-digest" Must "the closing PUT's digest is of the whole blob: another one is refused with 400"
        "chunk-length" Promised "400 SIZE_INVALID where Content-Range and the body's length differ"
        "chunk-malformed" Promised "416 for a Content-Range that is none"
        "stream" Promised "PATCH without Content-Range goes on where the upload stands"
        "session-unknown" Must "404 BLOB_UPLOAD_UNKNOWN for an upload that is not there, whatever the method"
        "session-own" Promised "an upload belongs to its repository"
        "session-anywhere" Promised "any registry over the same stores goes on with an upload"
    }
    "Cancel a blob upload" {
        "cancel" Development "DELETE of an upload answers 204"
        "cancel-gone" Development "a cancelled upload is gone, and nothing of it can be pulled"
    }
    "Mounting a blob from another repository" {
        "mount" Must "201 with a Location that can be pulled"
        "mount-anonymous" May "without `from` the blob is mounted from wherever it is"
        "mount-else" Should "202 with an upload that works where the blob can't be mounted"
        "mount-never-denied" Promised "an unknown source, or one that is no name, is 202 and no error"
        "mount-independent" Promised "what is mounted stays when its source deletes it"
    }
    "Pushing manifests" {
        "push-manifest" Must "PUT by tag or by digest answers 201 with a Location that can be pulled"
        "push-exact" Must "the manifest is kept byte for byte: unknown fields, order, blanks"
        "push-digest" Must "Docker-Content-Digest is the digest that the client gave"
        "push-parameters" Should "parameters of Content-Type are ignored"
        "push-mediatype" Must "where the manifest has a mediaType, Content-Type is the same: else 400 MANIFEST_INVALID"
        "push-untyped" Promised "a manifest without mediaType takes its type from Content-Type, each time it is pushed"
        "push-missing" Must "where missing blobs are a reason to refuse, each is named with MANIFEST_BLOB_UNKNOWN"
        "push-size" Promised "a descriptor whose size is not the blob's is refused with 400"
        "push-empty" Must "the list of blobs may be empty"
        "push-large" Should "a manifest of 4 MiB is taken"
        "push-too-large" Should "413 for a manifest beyond the limit"
        "push-mismatch" Must "a PUT by a digest that is not the body's is refused with 400 DIGEST_INVALID"
        "push-malformed" Promised "what is no manifest is refused with 400 MANIFEST_INVALID"
        "push-again" Promised "putting a manifest again succeeds"
        "tag-moves" Must "a tag can be moved to another manifest, also of another type"
    }
    "Pushing manifests with tags (development)" {
        "tags-at-once" Development "a PUT by digest sets the tags of its query, ten of them at least"
        "tags-told" Development "each tag that was set is named by OCI-Tag"
        "tags-too-many" Development "more tags than the registry sets at once answer 414, and none is set"
        "tags-algorithm" Development "so a tag can point to a manifest of another algorithm than sha256"
        "tags-bad" Promised "a query with a bad tag is refused, and none is set"
    }
    "Digest algorithm of an upload (development)" {
        "algorithm" Development "an upload may say by which algorithm its content will be named"
        "algorithm-unknown" Development "an unknown algorithm is refused with 400 before any byte is sent"
        "algorithm-free" Promised "an upload may be closed with another algorithm than it said"
    }
    "Image manifests (image specification)" {
        "image-config" Must "the config may be of any type"
        "image-artifact" Must "an artifact has an artifactType and the empty descriptor as config"
        "image-artifact-empty" Must "an artifact without content has the empty descriptor as its layer"
        "image-foreign" Must "layers that may not be distributed need not be there"
        "image-foreign-late" Promised "and can be pushed later"
        "image-data" Must "descriptors may embed their data, and have urls and annotations"
    }
    "Image indexes (image specification)" {
        "index" Must "an index names manifests"
        "index-nested" Must "an index may name indexes"
        "index-platform" Must "platform may be absent"
        "index-empty" Must "an index may be empty"
        "index-artifact" Must "an index may be an artifact"
        "index-sparse" May "an index may name manifests that are not there, and that may come later"
        "index-cache" Promised "an index may name layers, as BuildKit's cache does; these must be there"
    }
    "Docker's formats" {
        "docker-image" Promised "images of schema 2 are kept with their type"
        "docker-list" Promised "manifest lists are kept with their type"
        "docker-foreign" Promised "foreign layers need not be there"
        "docker-schema-1" Promised "schema 1 is refused with 400 MANIFEST_INVALID and a message that says so"
    }
    "Pushing manifests with a subject" {
        "subject" Must "OCI-Subject on the answer has the subject's digest"
        "subject-missing" Must "the subject need not be there"
        "subject-index" Must "an index may have a subject"
    }
    "Listing tags" {
        "tags" Must "200 with the name and the tags of the repository"
        "tags-order" Must "in bytewise order"
        "tags-empty" May "the list may be empty"
        "tags-n" Must "at most n of them, and fewer only at the end or with a Link"
        "tags-zero" Must "n=0 is an empty list without Link"
        "tags-last" Must "those after `last`, which is not among them and need not exist"
        "tags-link" May "Link with rel=next leads to the rest"
        "tags-n-bad" Promised "400 PAGINATION_NUMBER_INVALID for an n that is no number"
        "tags-absent" Must "404 NAME_UNKNOWN for a repository that does not exist"
        "catalog" Promised "the repositories are listed and paged like tags"
    }
    "Listing referrers" {
        "referrers" Must "200 with an index of type application/vnd.oci.image.index.v1+json"
        "referrers-none" Must "an empty index where there are none, also for an unknown digest or repository, and never 404"
        "referrers-bad" Must "400 for a digest of bad form"
        "referrers-descriptor" Must "each with its type, digest and size"
        "referrers-artifact" Must "with the manifest's artifactType"
        "referrers-config" Must "with the config's type where a manifest has no artifactType or an empty one"
        "referrers-index" Must "without artifactType where an index has none"
        "referrers-annotations" Must "with all annotations of the manifest, however long"
        "referrers-pages" Must "Link with rel=next where one answer is too small, each page an index with others"
        "referrers-filter" Should "artifactType filters, and OCI-Filters-Applied says so"
        "referrers-filter-pages" Must "pages of a filtered list are filtered"
        "referrers-order" Must "the subject may be pushed before, after, or never"
        "referrers-deleted" Must "a referrer leaves with its manifest, and comes back with it"
        "referrers-subject-deleted" Promised "the list outlives its subject and is there when that comes back"
        "referrers-own" Must "only those of this repository, and of exactly this digest"
        "referrers-chain" Must "a referrer may itself have referrers"
        "referrers-tag" Promised "tags of the referrers tag schema are ordinary tags"
    }
    "Deleting tags" {
        "delete-tag" Must "202, and then 404 for the tag"
        "delete-tag-only" Promised "the manifest and its other tags stay"
        "delete-tag-absent" Promised "404 for a tag that is not there"
    }
    "Deleting manifests" {
        "delete-manifest" Must "202, and then 404 for the digest and for every tag that pointed to it"
        "delete-manifest-absent" Must "404 where the manifest or the repository does not exist"
        "delete-then-push" Promised "what was deleted can be pushed again"
    }
    "Deleting blobs" {
        "delete-blob" Must "202, and then 404"
        "delete-blob-absent" Must "404 where there is none"
        "delete-blob-elsewhere" Promised "other repositories keep theirs"
        "delete-at-once" Promised "what is deleted is gone at once for the readers of every registry"
    }
    "Error codes" {
        "errors" Must "an error in JSON is a list of objects with code, message and detail"
        "error-code" Must "a code has upper-case letters and underscores only, and is one that is documented"
        "error-method" Promised "405 UNSUPPORTED with Allow for methods that an endpoint does not have"
        "error-path" Promised "404 for paths that are no endpoints"
    }
    "Registry proxying" {
        "ns" May "the `ns` of a mirror's client is ignored"
    }
    "Warnings" {
        "warnings" Must "a Warning, if any, is of code 299 from `-`, without a date, and all of them have 4096 bytes at most"
    }
}
