use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use speedy_core::id::{ChunkId, GroupId, GroupVersion, NodeId};
use speedy_core::placement::{
    Group, Heartbeat, HeartbeatReply, Master, MasterError, Member, MemberState, Topology,
};
use speedy_services::master::{MasterClient, MasterServer};
use tonic::service::Routes;

use super::{Server, list_of};

/// A master that answers from a script and keeps what it heard.
#[derive(Debug, Default)]
struct Scripted {
    away: bool,
    heard: Mutex<Vec<Heartbeat>>,
}

fn topology() -> Topology {
    let mut member = Member::new(NodeId::from_bytes([5; 16]), "store-1:7654", MemberState::Lost);
    (member.free_bytes, member.total_bytes) = (1, 2);
    let group = Group {
        id: GroupId::new(3),
        version: GroupVersion::new(4),
        replicas: 3,
        weight: 100,
        members: vec![member],
    };
    Topology { revision: 77, groups: vec![group] }
}

#[async_trait]
impl Master for Scripted {
    async fn topology(&self) -> Result<Topology, MasterError> {
        match self.away {
            true => Err(MasterError::Unavailable("its metadata store is away".into())),
            false => Ok(topology()),
        }
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError> {
        self.heard.lock().push(heartbeat);
        Ok(HeartbeatReply::new(GroupVersion::new(9), MemberState::InSync))
    }

    async fn allocate_chunks(&self, group: GroupId, count: u32) -> Result<Range<u64>, MasterError> {
        match group.get() {
            3 => Ok(1000..1000 + u64::from(count)),
            4 => Ok(1000..1001),
            _ => Err(MasterError::Refused(format!("there is no group {group}"))),
        }
    }
}

async fn serve(master: &Arc<Scripted>) -> Server {
    Server::start(Routes::new(MasterServer::new(Arc::clone(master) as _))).await
}

#[tokio::test]
async fn a_client_is_the_master_that_it_talks_to() {
    let master = Arc::new(Scripted::default());
    let server = serve(&master).await;
    let client = MasterClient::new(&server.list());
    assert_eq!(client.topology().await, Ok(topology()));
    let mut beat = Heartbeat::new(NodeId::from_bytes([5; 16]), GroupId::new(3), "store-1:7654");
    (beat.highest_chunk, beat.free_bytes, beat.total_bytes) = (Some(ChunkId::new(u64::MAX)), 7, 8);
    let reply = client.heartbeat(beat.clone()).await.unwrap();
    assert_eq!((reply.version.get(), reply.state), (9, MemberState::InSync));
    assert_eq!(*master.heard.lock(), [beat]);
    assert_eq!(client.allocate_chunks(GroupId::new(3), 5).await, Ok(1000..1005));
    let refused = MasterError::Refused("there is no group 8".into());
    assert_eq!(client.allocate_chunks(GroupId::new(8), 5).await, Err(refused));
}

#[tokio::test]
async fn what_makes_no_sense_is_not_passed_on() {
    let master = Arc::new(Scripted::default());
    let server = serve(&master).await;
    let client = MasterClient::new(&server.list());
    // Everyone would dial it.
    let beat = Heartbeat::new(NodeId::from_bytes([5; 16]), GroupId::new(3), "no address");
    assert!(matches!(client.heartbeat(beat).await, Err(MasterError::Refused(_))));
    assert!(master.heard.lock().is_empty());
    // One id where five were asked for would be taken for five.
    assert!(matches!(client.allocate_chunks(GroupId::new(4), 5).await, Err(MasterError::Unavailable(_))));
}

#[tokio::test]
async fn another_master_answers_when_ones_metadata_is_away() {
    let away = serve(&Arc::new(Scripted { away: true, ..Scripted::default() })).await;
    let there = serve(&Arc::default()).await;
    let client = MasterClient::new(&list_of(&[&away.address, &there.address]));
    assert_eq!(client.topology().await, Ok(topology()));
    there.stop().await;
    assert!(matches!(client.topology().await, Err(MasterError::Unavailable(_))));
}
