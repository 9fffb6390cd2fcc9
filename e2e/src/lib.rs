//! What the end-to-end tests drive: the `speedy` binary in one process, in seven, or on hosts that fail, and the clients
//! that people use.
//!
//! Everything here runs for real: a Docker daemon of the tests' own, skopeo, nginx, and real files. Each process has
//! its output in a log, is ended by its process id, and leaves nothing behind in the temporary directory. A tool that
//! is missing is an error that names the Debian package; no test passes because something was not there.

mod binary;
mod bytes;
mod check;
mod chunks;
mod cluster;
mod deployment;
mod disk;
mod docker;
mod fleet;
mod groups;
mod image;
mod lab;
mod layout;
mod load;
mod network;
mod node;
mod ordeal;
mod ports;
mod process;
mod rack;
mod registry;
mod single;
mod skopeo;
mod tools;
mod upload;
mod v1;
mod wire;

pub use binary::speedy;
pub use check::same;
pub use chunks::{ChunkStat, chunks_of};
pub use cluster::Cluster;
pub use deployment::Deployment;
pub use disk::SmallDisk;
pub use docker::{Docker, LocalImage, Pushed};
pub use fleet::Fleet;
pub use groups::{Group, groups_of};
pub use image::RealImage;
pub use lab::Lab;
pub use layout::Layout;
pub use load::{Acknowledged, Load, LoadOptions, Readback, Seen};
pub use network::{Host, Link, Network};
pub use node::Node;
pub use ordeal::{Endured, Ordeal, Report};
pub use ports::free_addresses;
pub use process::{Finished, Process, logs_in, run, wait_until};
pub use rack::{Fault, Place, Rack};
pub use registry::{Manifest, Registry};
pub use single::Single;
pub use skopeo::Skopeo;
pub use tools::Tool;
pub use upload::{Session, noise, push_image, sha256, with_retries};
pub use v1::{V1Image, delete_v1, pull_v1, push_v1};
pub use wire::Wire;
