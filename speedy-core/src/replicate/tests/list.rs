use std::time::Duration;

use super::cluster::Cluster;
use super::{owner, payload};
use crate::id::{FileId, GroupId, GroupVersion};
use crate::placement::MemberState;
use crate::replicate::{FragmentError, Fragments, ListCursor};

#[tokio::test]
async fn a_delete_needs_all_that_a_write_needs() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    let file = client.write(owner(1), payload(1000)).await.unwrap();
    cluster.change(1, |group| group.members[2].state = MemberState::Settling);
    cluster.tell(1);
    cluster.node(1, 3).faults(|faults| faults.down = true);
    let error = client.delete(file).await.unwrap_err();
    assert!(matches!(&error, FragmentError::Unavailable(text) if text.contains("at 1.3")), "{error:?}");
    // One that is lost hears of it when it is back.
    cluster.change(1, |group| group.members[2].state = MemberState::Lost);
    cluster.tell(1);
    client.delete(file).await.unwrap();
    assert_eq!(cluster.chunks().len(), 1);
    cluster.node(1, 3).faults(|faults| faults.down = false);
}

#[tokio::test(start_paused = true)]
async fn a_delete_learns_a_newer_version() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    let file = client.write(owner(1), payload(1000)).await.unwrap();
    cluster.node(1, 2).set_version(GroupVersion::new(2));
    let (deleted, ()) = tokio::join!(client.delete(file), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.change(1, |_| {});
        cluster.tell(1);
    });
    deleted.unwrap();
    assert!(cluster.chunks().is_empty());
}

#[tokio::test]
async fn a_list_goes_on_at_other_members() {
    let cluster = Cluster::new(3, 3);
    let client = cluster.client();
    let mut written = Vec::new();
    for number in 0..50 {
        written.push(client.write(owner(number), payload(100)).await.unwrap());
    }
    written.sort();
    let (mut found, mut cursor) = (Vec::new(), None);
    for page in 0.. {
        // Another member is down for every page.
        let down = page % 3 + 1;
        for group in 1..=3 {
            for member in 1..=3 {
                cluster.node(group, member).faults(|faults| faults.down = member == down);
            }
        }
        let page = client.list(cursor, 7).await.unwrap();
        assert!(page.chunks.len() < 14);
        found.extend(page.chunks.iter().map(|(group, chunk)| FileId::new(*group, chunk.id)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, written);
}

#[tokio::test]
async fn a_group_that_cannot_be_listed_is_not_taken_for_an_empty_one() {
    let cluster = Cluster::new(2, 3);
    let client = cluster.client();
    for member in 1..=3 {
        cluster.node(1, member).faults(|faults| faults.down = true);
    }
    let error = client.list(None, 10).await.unwrap_err();
    assert!(matches!(&error, FragmentError::Unavailable(text) if text.contains("group 1")), "{error:?}");
    // One that was never complete holds nothing, and need not answer.
    cluster
        .change(1, |group| group.members.iter_mut().for_each(|member| member.state = MemberState::Joining));
    assert_eq!(client.list(None, 10).await.unwrap().chunks.len(), 0);
    assert!(Cluster::new(0, 0).client().list(None, 10).await.is_err());
}

#[tokio::test]
async fn a_cursor_outlives_its_group() {
    let cluster = Cluster::new(3, 1);
    let client = cluster.client();
    for number in 0..30 {
        client.write(owner(number), payload(100)).await.unwrap();
    }
    cluster.topology.send_modify(|topology| drop(std::sync::Arc::make_mut(topology).groups.remove(1)));
    let cursor = ListCursor { group: GroupId::new(2), after: None };
    let page = client.list(Some(cursor), 100).await.unwrap();
    assert!(!page.chunks.is_empty());
    assert!(page.chunks.iter().all(|(group, _)| *group == GroupId::new(3)));
}
