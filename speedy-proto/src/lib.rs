//! Wire contracts between Speedy's nodes: messages, gRPC servers and clients generated from `proto/`.
//!
//! A package's version is part of its name. A change that an older neighbour would misread is a new package beside
//! the old one, not an edit: neighbouring versions of nodes work together during a rolling upgrade. The documents of
//! every message and field are in the `.proto` files.

#![forbid(unsafe_code)]

macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1 of the contract.
            #[allow(clippy::all, rustdoc::all, reason = "generated code")]
            pub mod v1 {
                tonic::include_proto!($file);
            }
        }
    };
}

package! {
    /// Errors as data, carried in gRPC status details.
    error, "speedy.error.v1"
}
package! {
    /// Chunk nodes.
    chunk, "speedy.chunk.v1"
}
package! {
    /// Meta nodes.
    meta, "speedy.meta.v1"
}
package! {
    /// The master.
    master, "speedy.master.v1"
}
package! {
    /// Image nodes.
    image, "speedy.image.v1"
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prost::Message;

    // A golden encoding: an edit that changes what is on the wire breaks older neighbours, and this.
    #[test]
    fn the_wire_form_of_a_frame_and_of_an_error_stays() {
        let frame = chunk::v1::WriteRequest {
            part: Some(chunk::v1::write_request::Part::Frame(Bytes::from_static(b"ab"))),
        };
        assert_eq!(frame.encode_to_vec(), [0x12, 2, b'a', b'b']);
        let error = error::v1::Error {
            kind: Some(error::v1::error::Kind::WrongVersion(error::v1::WrongVersion { current: 300 })),
        };
        assert_eq!(error.encode_to_vec(), [0x2a, 3, 0x08, 0xac, 0x02]);
    }

    #[test]
    fn payloads_are_decoded_without_a_copy() {
        let message = chunk::v1::Blocks { offset: 0, data: vec![7; 4096].into(), checksums: vec![1] };
        let encoded = Bytes::from(message.encode_to_vec());
        let decoded = chunk::v1::Blocks::decode(encoded.clone()).expect("it was just encoded");
        let held = encoded.as_ptr_range();
        assert!(held.contains(&decoded.data.as_ptr()));
    }
}
