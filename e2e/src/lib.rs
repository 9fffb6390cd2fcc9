//! What the end-to-end tests drive: the `speedy` binary in one process, in seven, or on hosts that fail, and the clients
//! that people use.
//!
//! Everything here runs for real: a Docker daemon and a containerd of the tests' own, podman, buildah, skopeo, the Python client `oras`, nginx,
//! and real files. Each process has
//! its output in a log, is ended by its process id, and leaves nothing behind in the temporary directory. A tool that
//! is missing is an error that names the Debian package; no test passes because something was not there.

mod binary;
mod buildah;
mod bytes;
mod check;
mod chunks;
mod cluster;
mod containerd;
mod daemonless;
mod deployment;
mod disk;
mod docker;
mod files;
mod fleet;
mod groups;
mod image;
mod lab;
mod layout;
mod leftovers;
mod load;
mod network;
mod node;
mod oras;
mod ordeal;
mod podman;
mod ports;
mod process;
mod proxy;
mod rack;
mod registry;
mod signature;
mod single;
mod skopeo;
mod tools;
mod upload;
mod v1;
mod wire;

pub use binary::speedy;
pub use buildah::Buildah;
pub use check::same;
pub use chunks::{ChunkStat, chunks_of};
pub use cluster::Cluster;
pub use containerd::Containerd;
pub use deployment::Deployment;
pub use disk::SmallDisk;
pub use docker::{Docker, LocalImage, Pushed};
pub use files::files_in;
pub use fleet::Fleet;
pub use groups::{Group, groups_of};
pub use image::RealImage;
pub use lab::Lab;
pub use layout::Layout;
pub use leftovers::leftovers;
pub use load::{Acknowledged, Load, LoadOptions, Readback, Seen};
pub use network::{Host, Link, Network};
pub use node::Node;
pub use oras::{Extras, Oras, Referrer};
pub use ordeal::{Endured, Ordeal, Report};
pub use podman::Podman;
pub use ports::free_addresses;
pub use process::{Finished, Process, logs_in, run, wait_until};
pub use proxy::Proxy;
pub use rack::{Fault, Place, Rack};
pub use registry::{Manifest, Registry, Stored};
pub use signature::SigningKey;
pub use single::Single;
pub use skopeo::Skopeo;
pub use tools::Tool;
pub use upload::{Session, noise, push_image, sha256, with_retries};
pub use v1::{V1Image, delete_v1, pull_v1, push_v1};
pub use wire::{Way, Wire};
