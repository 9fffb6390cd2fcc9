//! The client against nodes in memory that fail on demand.

mod chain;
mod cluster;
mod list;
mod read;
mod simulation;
mod write;

use std::sync::Arc;

use bytes::Bytes;

use self::cluster::Cluster;
pub(super) use self::cluster::TestMaster;
use super::conformance;
use crate::id::{BlobId, Owner};
use crate::payload::Payload;
use crate::replicate::Fragments;

fn owner(number: u64) -> Owner {
    Owner { blob: BlobId::from_bytes([7; 16]), offset: number << 22 }
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into()
}

fn payload(len: usize) -> Payload {
    Payload::new(vec![bytes(len)])
}

#[tokio::test]
async fn conforms() {
    conformance::fragments::run_all(|| async { Arc::new(Cluster::new(3, 3).client()) as Arc<dyn Fragments> })
        .await;
    conformance::fragments::run_all(|| async { Arc::new(Cluster::new(1, 1).client()) as Arc<dyn Fragments> })
        .await;
}
