use super::*;
use crate::id::{BlobId, GroupVersion, NodeId};
use crate::placement::{Member, MemberState};

fn group(id: u32, states: &[MemberState]) -> Group {
    let member = |(index, &state): (usize, &MemberState)| {
        Member::new(NodeId::from_bytes([index as u8; 16]), format!("10.0.0.{index}:7654"), state)
    };
    let members = states.iter().enumerate().map(member).collect();
    Group { id: GroupId::new(id), version: GroupVersion::new(1), replicas: 3, weight: 1, members }
}

fn topology(revision: u64) -> Topology {
    Topology { revision, groups: (1..=4).map(|id| group(id, &[MemberState::InSync; 3])).collect() }
}

fn owner(offset: u64) -> Owner {
    Owner { blob: BlobId::from_bytes([9; 16]), offset }
}

#[test]
fn only_groups_that_take_chunks_are_candidates() {
    let mut topology = topology(1);
    topology.groups[1] = group(2, &[MemberState::InSync, MemberState::InSync, MemberState::ReadOnly]);
    topology.groups[2] = group(3, &[MemberState::Joining; 3]);
    let mut candidates = GroupChooser::new().candidates(&topology, owner(0), 1).unwrap();
    candidates.sort();
    assert_eq!(candidates, [GroupId::new(1), GroupId::new(4)]);
}

#[test]
fn the_ring_is_built_anew_only_when_the_complete_groups_change() {
    let chooser = GroupChooser::new();
    assert_eq!(chooser.candidates(&topology(1), owner(0), 1).unwrap().len(), 4);
    let kept = chooser.ring(&topology(1)).unwrap();
    assert!(Arc::ptr_eq(&kept, &chooser.ring(&topology(2)).unwrap()));
    let mut newer = topology(3);
    newer.groups.pop();
    assert_eq!(chooser.candidates(&newer, owner(0), 1).unwrap().len(), 3);
    // Somebody who still holds the older topology gets its ring.
    assert_eq!(chooser.candidates(&topology(1), owner(0), 1).unwrap().len(), 4);
    assert_eq!(chooser.candidates(&newer, owner(0), 1).unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_failed_is_last_for_a_while() {
    let chooser = GroupChooser::new();
    let order = chooser.candidates(&topology(1), owner(0), 1).unwrap();
    chooser.failed(order[0], Duration::from_secs(2));
    let rotated = [order[1], order[2], order[3], order[0]];
    assert_eq!(chooser.candidates(&topology(1), owner(0), 1).unwrap(), rotated);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(chooser.candidates(&topology(1), owner(0), 1).unwrap(), order);
    chooser.failed(order[0], Duration::from_secs(2));
    chooser.succeeded(order[0]);
    assert_eq!(chooser.candidates(&topology(1), owner(0), 1).unwrap(), order);
}

#[test]
fn a_group_with_a_full_member_is_after_all_others() {
    let chooser = GroupChooser::new();
    let mut topology = topology(1);
    let order = chooser.candidates(&topology, owner(0), 1).unwrap();
    let fullest = |topology: &mut Topology, free_bytes| {
        let first = topology.groups.iter_mut().find(|group| group.id == order[0]).unwrap();
        (first.members[2].free_bytes, first.members[2].total_bytes) = (free_bytes, 100 << 30);
    };
    fullest(&mut topology, GroupChooser::LOW_SPACE);
    let rotated = [order[1], order[2], order[3], order[0]];
    assert_eq!(chooser.candidates(&topology, owner(0), 1).unwrap(), rotated);
    fullest(&mut topology, GroupChooser::LOW_SPACE + 1);
    assert_eq!(chooser.candidates(&topology, owner(0), 1).unwrap(), order);
}

#[test]
fn a_group_with_more_than_its_share_of_pending_writes_is_passed_over_until_it_has_done_them() {
    const MIB: u64 = 1 << 20;
    let (topology, chooser) = (topology(1), GroupChooser::new());
    let order = |chooser: &GroupChooser| chooser.candidates(&topology, owner(7), 4 * MIB).unwrap();
    let (first, before) = (order(&chooser)[0], order(&chooser));
    let mut slow: Vec<PendingWrite<'_>> = (0..15).map(|_| chooser.begin(first, 4 * MIB)).collect();
    assert_eq!(order(&chooser), before, "a light load is no reason");
    slow.extend((0..10).map(|_| chooser.begin(first, 4 * MIB)));
    let mut passed_over = before.clone();
    passed_over.rotate_left(1);
    assert_eq!(order(&chooser), passed_over);
    // Where the others have as much, it has its share and no more.
    let others = before[1..].iter().flat_map(|&group| std::iter::repeat_n(group, 25));
    let others: Vec<_> = others.map(|group| chooser.begin(group, 4 * MIB)).collect();
    assert_eq!(order(&chooser), before);
    drop(others);
    drop(slow);
    assert_eq!(order(&chooser), before);
    assert!(chooser.pending.lock().is_empty());
}

#[test]
fn no_group_gets_much_more_than_its_share_of_what_is_under_way() {
    let (topology, chooser) = (topology(1), GroupChooser::new());
    let mut pending = Vec::new();
    for number in 0..1000 {
        let group = chooser.candidates(&topology, owner(number << 22), 4 << 20).unwrap()[0];
        pending.push(chooser.begin(group, 4 << 20));
    }
    let most = chooser.pending.lock().values().copied().max().unwrap();
    assert!(most <= (1000 * 5 / 16 + 1) * (4 << 20), "{most} of {}", 4000u64 << 20);
}
