//! Compiles the contracts under `proto/` with protox: no protoc has to be installed.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 5] = [
    "speedy/error/v1/error.proto",
    "speedy/chunk/v1/chunk.proto",
    "speedy/meta/v1/meta.proto",
    "speedy/master/v1/master.proto",
    "speedy/image/v1/image.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES.map(|file| root.join(file)), [root])?;
    // `bytes::Bytes` for every bytes field: payloads are passed on, not copied.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
